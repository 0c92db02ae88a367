"""Encode damaged images of every format: each may raise only an `ImageError`, within bounded time and memory.

`python tools/fuzz_images.py [--minutes 5] [--seed 0]`. Each batch runs in a child process with limits on address space
and CPU time. An image that breaks the rule is kept as a file, and the exit code is 1. The tool ends with the counts for
each kind of file.
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

BATCH = 400  # images per batch
MEMORY = 4_000_000_000  # bytes of address space
SECONDS = 20  # CPU time for one image
_NUMBERS = (0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF)


def damage(data: bytes, dice: random.Random) -> bytes:
    """Return a copy with bytes changed, moved, doubled, removed, or replaced by large numbers."""
    result = bytearray(data)
    for _ in range(dice.randint(1, 8)):
        # Half of the damage is done to the first 200 bytes, as headers matter most.
        at = dice.randrange(min(len(result), 200) if dice.random() < 0.5 else max(1, len(result)) or 1)
        change = dice.choice(["byte", "number", "cut", "double", "drop", "swap"])
        length = dice.randint(1, 200)
        if change == "byte":
            result[at : at + 1] = bytes([dice.randrange(256)])
        elif change == "number":
            form = dice.choice([">I", "<I", ">H", "<H"])
            size = struct.calcsize(form)
            result[at : at + size] = struct.pack(form, dice.choice(_NUMBERS) & (2 ** (8 * size) - 1))
        elif change == "cut" and dice.random() < 0.2:
            del result[max(at, 8) :]
        elif change == "double":
            result[at:at] = result[at : at + length]
        elif change == "drop":
            del result[at : at + length]
        else:
            other = dice.randrange(max(1, len(result)))
            result[at : at + length] = result[other : other + length]
        if not result:
            result = bytearray(data[:16])
    return bytes(result)


def run_batch(seed: int, kept: Path) -> int:
    """Try one batch; the current input is kept in the file `kept` until it has passed."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from moondream_async import ImageError
    from moondream_async._images.prepare import encode
    from tests.integration.images.test_properties import _seeds

    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)  # a lowered hard limit could not be raised again
    dice, seeds = random.Random(seed), _seeds()
    counts: dict[str, list[int]] = {}
    for _ in range(BATCH):
        name = dice.choice(sorted(seeds))
        data = damage(seeds[name], dice)
        kept.write_bytes(data)
        used = time.process_time()
        resource.setrlimit(resource.RLIMIT_CPU, (int(used) + SECONDS, hard))  # at the soft limit, the process ends
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
    """Run batches until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        return run_batch(arguments.seed, arguments.child)
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
        report = json.loads(done.stdout)
        kilobytes = max(kilobytes, report["kilobytes"])
        for name, (good, bad) in report["counts"].items():
            prepared[name] += good
            refused[name] += bad
    for name in sorted(prepared):
        print(f"{name:20} {prepared[name]:7,} prepared {refused[name]:7,} refused")
    print(
        f"{prepared.total():,} prepared, {refused.total():,} refused with an ImageError, "
        f"{failures} failed batches; at most {kilobytes // 1024:,} MB"
    )
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
