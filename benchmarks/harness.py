"""Starting the server, timing calls, writing tables: what every benchmark needs."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from statistics import median

import attrs

from moondream_async import EncodedImage

KEY = "k" * 40


@attrs.frozen
class Figure:
    """One contestant in one case: a value for each column of the benchmark's table."""

    case: str
    contestant: str
    values: dict[str, float]


@attrs.frozen
class Column:
    """A column of a table; with a ratio, one more that compares with the reference contestant."""

    name: str
    digits: int = 0
    ratio: bool = False


SPEED = (
    Column("per second", ratio=True),
    Column("CPU us", ratio=True),
    Column("peak MB", 1),
    Column("spread", 2),
)
"""What most benchmarks measure: calls (or events) per second, CPU and memory of this process, noise."""


def table(figures: list[Figure], reference: str, columns: tuple[Column, ...] = SPEED) -> str:
    """A Markdown table with ratios to the reference contestant of each case."""
    heads = [
        head for column in columns for head in ([column.name, f"x {reference}"] if column.ratio else [column.name])
    ]
    lines = [f"| case | contestant | {' | '.join(heads)} |", "|---|---|" + "---:|" * len(heads)]
    for figure in figures:
        base = next((f for f in figures if f.case == figure.case and f.contestant == reference), None)
        cells: list[str] = []
        for column in columns:
            value = figure.values.get(column.name)
            cells.append("" if value is None else f"{value:,.{column.digits}f}")
            if column.ratio:
                compared = None if base is None or value is None else value / base.values[column.name]
                cells.append("" if compared is None else f"{compared:.2f}")
        lines.append(f"| {figure.case} | {figure.contestant} | {' | '.join(cells)} |")
    return "\n".join(lines)


def value(figures: list[Figure], case: str, contestant: str, name: str) -> float:
    """One value, for a budget; not a number if that contestant did not take part."""
    found = (f.values[name] for f in figures if f.case == case and f.contestant == contestant and name in f.values)
    return next(found, float("nan"))


class Server:
    """The benchmark server in a second process, on a core of its own where there are two."""

    def __init__(self, port: int = 0) -> None:
        self.port = port
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "benchmarks.server", str(self.port)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        cores = _cores()
        if len(cores) > 1:
            os.sched_setaffinity(self._process.pid, cores[:1])

    def stop(self) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.close()
            self._process.wait(10)
            self._process.stdout.close()
            self._process = None


@contextmanager
def server() -> Generator[str]:
    """Run the benchmark server; this process keeps to the other cores meanwhile."""
    running, cores = Server(), _cores()
    running.start()
    if len(cores) > 1:
        os.sched_setaffinity(0, cores[1:])
    try:
        yield running.url
    finally:
        running.stop()
        if len(cores) > 1:
            os.sched_setaffinity(0, cores)


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


def image(size: int) -> EncodedImage:
    """An encoded image whose base64 has about `size` bytes; its content does not matter to the server."""
    return EncodedImage.of(b"\xff" * (size * 3 // 4), media_type="image/jpeg", size=(1, 1), original=(1, 1))


async def run_tasks(call: Callable[[], Awaitable[object]], *, in_flight: int, seconds: float) -> int:
    """Keep `in_flight` calls going for so long; the last ones are waited for. Returns how many were made."""
    made, end = 0, time.perf_counter() + seconds

    async def worker() -> None:
        nonlocal made
        while time.perf_counter() < end:
            await call()
            made += 1

    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return made


def run_threads(call: Callable[[], object], *, threads: int, seconds: float) -> int:
    """The same from threads."""
    made, end = [0] * threads, time.perf_counter() + seconds

    def worker(number: int) -> None:
        while time.perf_counter() < end:
            call()
            made[number] += 1

    crew = [threading.Thread(target=worker, args=(number,)) for number in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()
    return sum(made)


def rss_mb(name: str = "VmRSS", process: int | str = "self") -> float:
    """The memory of a process, now or (`VmHWM`) at most, in MB (Linux)."""
    # `ru_maxrss` would do for the latter, had it not been handed down by the process that started this one.
    status = Path(f"/proc/{process}/status")
    found = re.search(rf"{name}:\s+(\d+)", status.read_text()) if status.exists() else None
    return int(found[1]) / 1000 if found else float("nan")


def reset_peak() -> None:
    """Have `VmHWM` begin anew."""
    switch = Path("/proc/self/clear_refs")
    if switch.exists():
        switch.write_text("5")


class Stopwatch:
    """Times rounds of calls; the memory is what the round took above what there was before."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.cpu: list[float] = []
        self.peaks: list[float] = []
        self.calls = 0

    @contextmanager
    def round(self, calls: int = 0) -> Generator[Stopwatch]:
        """Time one round; set `.calls` in it, if their number is not known before."""
        self.calls = calls
        reset_peak()
        before, cpu, wall = rss_mb(), time.process_time(), time.perf_counter()
        yield self
        self.cpu.append((time.process_time() - cpu) / self.calls * 1e6)
        self.rates.append(self.calls / (time.perf_counter() - wall))
        self.peaks.append(max(0.0, rss_mb("VmHWM") - before))

    def figure(self, contestant: str, case: str) -> Figure:
        """The medians of the rounds; the spread is the largest rate over the smallest."""
        values = {
            "per second": median(self.rates),
            "CPU us": median(self.cpu),
            "peak MB": median(self.peaks),
            "spread": max(self.rates) / min(self.rates),
        }
        return Figure(case, contestant, values)
