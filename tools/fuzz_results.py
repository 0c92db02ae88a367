"""Read damaged results files: each may raise only a `MoondreamError`, and every intact line must be read.

`python tools/fuzz_results.py [--minutes 5] [--seed 0]`. Each batch runs in a child process with limits on memory and
CPU time. A file that breaks the rule is kept, and the exit code is 1. The tool also compares the times for hostile
files of two sizes: the time may only grow linearly.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import logging
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

BATCH = 300  # files per batch
MEMORY = 4_000_000_000  # bytes of address space
SECONDS = 20  # CPU time for one file
SIZE = 200_000  # bytes of the smaller hostile file
GROWTH = 8  # how many times as large the larger one is
SLACK = 3.0  # how many times as much as `GROWTH` its time may be

_BOX = {"x_min": 0.1, "y_min": 0.2, "x_max": 0.3, "y_max": 0.4}
_RESULTS: dict[str, Any] = {
    "caption": {"caption": 'é 𝄞 \\ " { [ \n', "metrics": {"input_tokens": 7, "output_tokens": 1}},
    "query": {"answer": "x", "reasoning": {"text": "y", "grounding": []}, "extra": [[{"id": 1, "skill": "z"}]]},
    "detect": {"objects": [_BOX, {**_BOX, "label": "face"}]},
    "point": {"points": [{"x": 0.5, "y": 0.5}], "count": 1},
    "segment": {"path": "M 0 0 L 1 1 Z", "bbox": _BOX},
}
_JUNK = (
    b"",
    b" \t\r",
    b"\0" * 64,
    b"{}",
    b"null",
    b"[" * 5000,
    b"\xff\xfe",
    b'{"id": ',
    b"# edited",
    b"9" * 5000,
    b"\xef\xbb\xbf",
)

HOSTILE: dict[str, Callable[[int], bytes]] = {
    "openings": lambda size: b'{"id": ' * (size // 7),
    "starts": lambda size: b'{"id": "a", "skill": "caption", ' * (size // 32),
    "escapes": lambda size: b'{"id": "' + b"\\" * size,
    "brackets": lambda size: b'{"id": [' * (size // 8),
    "blanks": lambda size: b"{" + b" " * size,
    "spaced": lambda size: b'{ "id"  :  ' * (size // 11),
    "zeros": bytes,
    "lines": lambda size: b"\n" * size,
    "short": lambda size: b"{\n" * (size // 2),
    "nested": lambda size: b"[" * size,
    "inside": lambda size: b'{"id": "a", "skill": "x", "y": ' * (size // 31),
    "glued torn": lambda size: (_line("a", "query")[:-9]) * (size // 200),
    "failed": lambda size: _line("a", "caption", ok=False) * (size // 150),
    "glued": lambda size: _line("a", "caption", ok=False).strip() * (size // 150),
}


def _line(name: Any, skill: str, *, ok: bool = True) -> bytes:
    record = {"id": name, "skill": skill, "arguments": {}, "ok": ok, "attempts": 1, "elapsed": 0.5, "run": "run"}
    record |= {"result": _RESULTS[skill]} if ok else {"error": {"type": "ImageError", "message": "no"}}
    return json.dumps(record, ensure_ascii=False).encode() + b"\n"


def _damage_line(line: bytes, dice: random.Random) -> bytes:
    """Return a copy of a line with bytes changed, removed or inserted; it stays one line, and may lose its end."""
    result = bytearray(line[:-1])
    for _ in range(dice.randint(1, 4)):
        at, length = dice.randrange(len(result) + 1), dice.randint(1, 60)
        change = dice.choice(["byte", "drop", "double", "cut", "junk"])
        if change == "byte":
            result[at : at + 1] = bytes([dice.choice([0, *range(11, 256)])])
        elif change == "drop":
            del result[at : at + length]
        elif change == "double":
            result[at:at] = result[at : at + length]
        elif change == "cut":
            del result[at:]
        else:
            result[at:at] = dice.choice(_JUNK)
    return bytes(result) + b"\n"


def damaged_file(dice: random.Random) -> tuple[bytes, set[Any]]:
    """Return a file, and the ids of its intact lines."""
    lines: list[bytes] = []
    intact: set[Any] = set()
    for number in range(dice.randint(1, 30)):
        line = _line(name := f"item-{number}", dice.choice(list(_RESULTS)), ok=dice.random() < 0.8)
        change = dice.random()
        if change < 0.2 and number:
            lines.append(_damage_line(line, dice))
            continue
        intact.add(name)
        if change < 0.4 and number:
            lines.append(dice.choice(_JUNK) + b"\n")
        elif change < 0.5 and number:
            torn = _damage_line(line.replace(b"item", b"torn"), dice)[:30]
            lines.append(torn.replace(b"\n", b""))  # the next line follows without a line break
        elif change < 0.6:
            lines.append(dice.choice([b"\n", b"\r\n", bytes(9)]))
        lines.append(line.replace(b"\n", b"\r\n") if dice.random() < 0.1 else line)
    content = b"".join(lines)
    if dice.random() < 0.2:
        content = b"\xef\xbb\xbf" + content
    return content + dice.choice([b"", b"", bytes(100), b"\n", _line("last", "caption")[: dice.randrange(80)]]), intact


def check(path: Path, intact: set[Any], dice: random.Random) -> str:
    """Read a file with every reader and return the outcome."""
    from moondream_async import MoondreamError
    from moondream_async._bulk.journal import Journal
    from moondream_async.bulk import export, read_results

    content = path.read_bytes()
    try:
        reader = read_results(path)
        ids = {outcome.id for outcome in reader}
        export(path, path.with_suffix(".csv"))
        journal = Journal(path, "run", resume=True, retry_failed=dice.random() < 0.5)
        journal.add(b"", _line("new", "caption"))
        journal.close()
    except MoondreamError:
        if intact:
            raise AssertionError("a file with intact lines was refused") from None
        assert path.read_bytes() == content, "a refused file was changed"
        return "refused"
    assert intact <= ids, f"intact lines were not read: {intact - ids}"
    again = {outcome.id for outcome in read_results(path)}
    assert {*ids, "new"} <= again, f"lines were lost by writing: {ids - again}"
    return "damaged" if reader.damaged_lines else "whole"


def run_batch(seed: int, kept: Path) -> int:
    """Try one batch; the current input is kept in the file `kept` until it has passed."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    dice = random.Random(seed)
    outcomes: collections.Counter[str] = collections.Counter()
    copy = kept.with_suffix(".jsonl")
    for _ in range(BATCH):
        content, intact = damaged_file(dice)
        if dice.random() < 0.1:
            content, intact = bytes(dice.choice(content) for _ in range(200)), set()
        kept.write_bytes(content)
        copy.write_bytes(content)
        used = time.process_time()
        resource.setrlimit(resource.RLIMIT_CPU, (int(used) + SECONDS, resource.getrlimit(resource.RLIMIT_CPU)[1]))
        outcomes[check(copy, intact, dice)] += 1
    for path in (kept, copy, copy.with_suffix(".csv")):
        path.unlink(missing_ok=True)
    print(json.dumps(outcomes))
    return 0


def _measure_read(path: Path, content: bytes) -> float:
    from moondream_async import MoondreamError
    from moondream_async.bulk import read_results

    path.write_bytes(_line("first", "caption") + content)
    used = time.process_time()
    with contextlib.suppress(MoondreamError):
        collections.deque(read_results(path), maxlen=0)
    return time.process_time() - used


def slow_kinds(folder: Path) -> list[str]:
    """Return the kinds of hostile files whose time grows more than linearly with their size."""
    kinds: list[str] = []
    for name, make in HOSTILE.items():
        small, large = (
            min(_measure_read(folder / "t", make(size)) for _ in range(3)) for size in (SIZE, SIZE * GROWTH)
        )
        if large > max(small, 0.01) * GROWTH * SLACK:
            kinds.append(f"{name}: {small:.3f} s for {SIZE:,} bytes, {large:.3f} s for {SIZE * GROWTH:,}")
    return kinds


def main() -> int:
    """Run batches until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    logging.getLogger("moondream_async").setLevel(logging.ERROR)
    if arguments.child:
        return run_batch(arguments.seed, arguments.child)
    folder, seed, failures = Path(tempfile.mkdtemp()), arguments.seed, 0
    total: collections.Counter[str] = collections.Counter()
    end = time.monotonic() + arguments.minutes * 60
    while time.monotonic() < end:
        seed += 1
        command = [sys.executable, __file__, "--seed", str(seed), "--child", str(folder / f"{seed}.bin")]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            failures += 1
            print(f"seed {seed}: exit {done.returncode}, kept in {folder}\n{done.stderr[-2000:]}")
            continue
        total.update(json.loads(done.stdout))
    slower = slow_kinds(folder)
    print(*slower, sep="\n", end="\n" if slower else "")
    counts = ", ".join(f"{total[name]:,} {name}" for name in ("whole", "damaged", "refused"))
    print(f"{counts}; {failures} failed batches; {len(slower)} of {len(HOSTILE)} kinds too slow")
    return 1 if failures or slower else 0


if __name__ == "__main__":
    sys.exit(main())
