"""Encode damaged images of every format: only an `ImageError` may come out, soon and in bounded memory.

`python tools/fuzz_images.py [--minutes 5] [--seed 0]`. Each batch runs in a child process with limits on address space
and processor time. An image that breaks the rule is kept as a file, and the exit code is 1. At the end there is a
count for each kind of file.
"""

from __future__ import annotations

import argparse
import collections
import json
import random
import resource
import struct
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

BATCH = 400  # images a child
MEMORY = 4_000_000_000  # bytes of address space
SECONDS = 20  # of processor time for one image; a child of many is stopped by the sum
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def damaged(data: bytes, dice: random.Random) -> bytes:
    """A copy with bytes changed, moved, doubled, left out, or made large numbers."""
    result = bytearray(data)
    for _ in range(dice.randint(1, 8)):
        # Headers matter most: half of the damage is done to the first 200 bytes.
        at = dice.randrange(min(len(result), 200) if dice.random() < 0.5 else max(1, len(result)) or 1)
        what = dice.choice(["byte", "number", "cut", "double", "drop", "swap"])
        length = dice.randint(1, 200)
        if what == "byte":
            result[at : at + 1] = bytes([dice.randrange(256)])
        elif what == "number":
            form = dice.choice([">I", "<I", ">H", "<H"])
            size = struct.calcsize(form)
            result[at : at + size] = struct.pack(form, dice.choice(_NUMBERS) & (2 ** (8 * size) - 1))
        elif what == "cut" and dice.random() < 0.2:
            del result[max(at, 8) :]
        elif what == "double":
            result[at:at] = result[at : at + length]
        elif what == "drop":
            del result[at : at + length]
        else:
            other = dice.randrange(max(1, len(result)))
            result[at : at + length] = result[other : other + length]
        if not result:
            result = bytearray(data[:16])
    return bytes(result)


def child(seed: int, kept: Path) -> int:
    """Try one batch; what is being tried lies in `kept` until it has passed."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from tests.images.test_properties import SEEDS

    from moondream_async import ImageError
    from moondream_async._images.prepare import encode

    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)  # which could not be raised again
    dice = random.Random(seed)
    counts: dict[str, list[int]] = {}
    for _ in range(BATCH):
        name = dice.choice(sorted(SEEDS))
        data = damaged(SEEDS[name], dice)
        kept.write_bytes(data)
        used = time.process_time()
        resource.setrlimit(resource.RLIMIT_CPU, (int(used) + SECONDS, hard))  # the soft one ends the process
        try:
            encode(data, full_resolution=dice.random() < 0.5)
            is_refused = False
        except ImageError:
            is_refused = True
        counts.setdefault(name, [0, 0])[is_refused] += 1
    kept.unlink()
    print(json.dumps({"counts": counts, "kilobytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
    return 0


def main() -> int:
    """Run batches until the time is over."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return child(arguments.seed, arguments.child)
    folder, seed, failures, kilobytes = Path(tempfile.mkdtemp()), arguments.seed, 0, 0
    prepared, refused = collections.Counter[str](), collections.Counter[str]()
    end = time.monotonic() + arguments.minutes * 60
    while time.monotonic() < end:
        seed += 1
        command = [sys.executable, __file__, "--seed", str(seed), "--child", str(folder / f"{seed}.bin")]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            failures += 1
            print(f"seed {seed}: exit {done.returncode}, kept in {folder}\n{done.stderr[-2000:]}")
            continue
        found = json.loads(done.stdout)
        kilobytes = max(kilobytes, found["kilobytes"])
        for name, (good, bad) in found["counts"].items():
            prepared[name] += good
            refused[name] += bad
    for name in sorted(prepared):
        print(f"{name:20} {prepared[name]:7,} prepared {refused[name]:7,} refused")
    print(
        f"{prepared.total():,} prepared, {refused.total():,} refused with an ImageError, "
        f"{failures} batches that broke the rule; at most {kilobytes // 1024:,} MB"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
