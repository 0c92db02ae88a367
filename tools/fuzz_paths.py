"""Read hostile segment paths in every way: each may raise only a `PathError`, within bounded time and memory.

`python tools/fuzz_paths.py [--minutes 5] [--seed 0]`. Each batch runs in a child process with limits on memory and
CPU time. A path that breaks the rule is kept as a file, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCH = 150  # paths per batch
MEMORY = 3_000_000_000  # bytes of address space
SECONDS = 20  # CPU time for one reader of a path
_MAX_LENGTH = 100_000  # characters
_ARGUMENTS = {"M": 2, "Z": 0, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2, "A": 7}
_NUMBERS = ("0", "1", "-1", "16", "-16", "17", "1e308", "-1e308", "1e-320", "1e999", ".5", "0.25", "-.1", "007", "+1")
_NOISE = (
    "nan",
    "inf",
    "Infinity",
    "--1",
    "1.",
    "1..2",
    "e5",
    "X",
    "\0",
    "\n",
    ",,",
    "\u0661",
    "\ud800",
    "#",
    "9" * 500,
)


def random_number(dice: random.Random) -> str:
    """Return a number as text, mostly within the box."""
    return f"{dice.uniform(-0.2, 1.2):.{dice.randint(0, 4)}f}" if dice.random() < 0.8 else dice.choice(_NUMBERS)


def random_command(dice: random.Random) -> str:
    """Return a path command with its arguments, a few of them wrong."""
    name = dice.choice(list(_ARGUMENTS))
    if name == "A":
        flags = [dice.choice("01"), dice.choice("01")]
        parts = [random_number(dice) for _ in range(3)] + flags + [random_number(dice), random_number(dice)]
    else:
        parts = [random_number(dice) for _ in range(_ARGUMENTS[name])]
    if dice.random() < 0.002:
        parts.insert(dice.randint(0, len(parts)), dice.choice(_NOISE))
    if dice.random() < 0.002 and parts:
        parts.pop()
    separator = dice.choice((" ", ",", " ,", "\n", "\t "))
    return (name if dice.random() < 0.6 else name.lower()) + separator.join(parts)


def hostile_path(dice: random.Random) -> str:
    """Return a path of a few pieces, sometimes repeated many times."""
    pieces = [random_command(dice) for _ in range(dice.choice((1, 2, 5, 20)))]
    path = "".join(pieces)
    if dice.random() < 0.3:
        path = path * dice.randint(1, max(1, dice.choice((1_000, _MAX_LENGTH)) // len(path)))
    return ("M" + random_number(dice) + " " + random_number(dice) + path) if dice.random() < 0.95 else path


def readers() -> dict[str, Callable[[Any, tuple[int, int]], Any]]:
    """Return all functions that read a path, by name."""
    from PIL import Image

    from moondream_async import vision

    return {
        "to_svg": lambda segment, size: segment.to_svg(*size),
        "polygons": lambda segment, size: segment.polygons(*size),
        "mask": lambda segment, size: segment.mask(*size),
        "mask_array": lambda segment, size: segment.mask_array(*size),
        "rle": lambda segment, size: segment.rle(*size),
        "annotate": lambda segment, size: vision.annotate(Image.new("RGB", size), segment),
        "to_coco": lambda segment, size: json.dumps(
            vision.to_coco([("a", segment)], sizes={"a": size}), allow_nan=False
        ),
        "to_yolo": lambda segment, size: vision.to_yolo(segment, ["object"]),
        "to_labelme": lambda segment, size: json.dumps(vision.to_labelme(segment, "a", size=size), allow_nan=False),
        "to_voc": lambda segment, size: vision.to_voc(segment, "a", size=size),
        "to_geojson": lambda segment, size: json.dumps(vision.to_geojson(segment, size=size), allow_nan=False),
    }


def run_batch(seed: int, kept: Path) -> int:
    """Try one batch; the current input is kept in the file `kept` until it has passed."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from moondream_async import BoundingBox, PathError, SegmentResult

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    dice = random.Random(seed)
    outcomes: collections.Counter[str] = collections.Counter()
    for _ in range(BATCH):
        path = hostile_path(dice)
        edges = [dice.choice((0.0, 0.1, 0.5, 1.0, 1.5, -0.5)) for _ in range(4)]
        size = dice.choice(((64, 48), (640, 480), (4000, 3000)))
        segment = SegmentResult(path=path, bbox=BoundingBox(*edges))
        for name, read in readers().items():
            kept.write_text(json.dumps({"path": path, "box": edges, "size": size, "reader": name}))
            used = time.process_time()
            resource.setrlimit(resource.RLIMIT_CPU, (int(used) + SECONDS, hard))
            try:
                read(segment, size)
                outcomes["read"] += 1
            except PathError as exc:
                outcomes["refused"] += 1
                if len(str(exc)) > 500:
                    raise AssertionError("the error repeats the path") from exc
    kept.unlink()
    print(outcomes["read"], outcomes["refused"])
    return 0


def main() -> int:
    """Run batches until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return run_batch(arguments.seed, arguments.child)
    folder, seed, read, refused, failures = Path(tempfile.mkdtemp()), arguments.seed, 0, 0, 0
    end = time.monotonic() + arguments.minutes * 60
    while time.monotonic() < end:
        seed += 1
        command = [sys.executable, __file__, "--seed", str(seed), "--child", str(folder / f"{seed}.json")]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            failures += 1
            print(f"seed {seed}: exit {done.returncode}, kept in {folder}\n{done.stderr[-2000:]}")
            continue
        counts = done.stdout.split()
        read, refused = read + int(counts[0]), refused + int(counts[1])
    print(f"{read:,} read, {refused:,} refused with a PathError, {failures} failed batches")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
