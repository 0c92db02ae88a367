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


@attrs.frozen
class Figure:
    """One contestant in one case.

    Attributes:
        contestant: Who.
        case: What.
        per_second: Calls (or events) per second: the median of the rounds.
        cpu_us: CPU microseconds of this process per call (or event): the median of the rounds.
        spread: The largest of the rounds' rates over the smallest.
    """

    contestant: str
    case: str
    per_second: float
    cpu_us: float
    spread: float


@contextmanager
def server() -> Generator[str]:
    """Run the benchmark server in a second process, on a core of its own where there are two."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    command = [sys.executable, "-m", "benchmarks.server"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        if len(cores) > 1:
            os.sched_setaffinity(process.pid, cores[:1])
            os.sched_setaffinity(0, cores[1:])
        try:
            yield f"http://127.0.0.1:{int(process.stdout.readline())}"
        finally:
            process.stdin.close()
            if len(cores) > 1:
                os.sched_setaffinity(0, cores)


def image(size: int) -> EncodedImage:
    """An encoded image whose base64 has about `size` bytes; its content does not matter to the server."""
    return EncodedImage.of(b"\xff" * (size * 3 // 4), media_type="image/jpeg", size=(1, 1), original=(1, 1))


async def run_tasks(call: Callable[[], Awaitable[object]], *, total: int, in_flight: int) -> None:
    """Make `total` calls, `in_flight` at a time."""
    left = iter(range(total))

    async def worker() -> None:
        for _ in left:
            await call()

    await asyncio.gather(*(worker() for _ in range(in_flight)))


async def run_waves(call: Callable[[], Awaitable[object]], *, total: int, in_flight: int) -> None:
    """Make `total` calls in waves of `in_flight` at once, each wave after the last has ended."""
    for _ in range(max(1, total // in_flight)):
        await asyncio.gather(*(call() for _ in range(in_flight)))


def run_threads(call: Callable[[], object], *, total: int, threads: int) -> None:
    """Make `total` calls from so many threads."""
    left, lock = iter(range(total)), threading.Lock()

    def worker() -> None:
        while True:
            with lock:
                if next(left, None) is None:
                    return
            call()

    crew = [threading.Thread(target=worker) for _ in range(threads)]
    for thread in crew:
        thread.start()
    for thread in crew:
        thread.join()


def peak_mb() -> float:
    """The most memory this process ever had, in MB (Linux)."""
    # `ru_maxrss` would do, had it not been handed down by the process that started this one.
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1000  # type: ignore[index]


class Stopwatch:
    """Times rounds of a known number of calls."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.cpu: list[float] = []

    @contextmanager
    def round(self, calls: int) -> Generator[None]:
        """Time one round."""
        cpu, wall = time.process_time(), time.perf_counter()
        yield
        self.cpu.append((time.process_time() - cpu) / calls * 1e6)
        self.rates.append(calls / (time.perf_counter() - wall))

    def figure(self, contestant: str, case: str) -> Figure:
        """The medians."""
        spread = max(self.rates) / min(self.rates)
        return Figure(contestant, case, median(self.rates), median(self.cpu), spread)


def table(figures: list[Figure], reference: str) -> str:
    """A Markdown table with ratios to the reference contestant of each case."""
    lines = [
        f"| case | contestant | per second | x {reference} | CPU us | x {reference} | spread |",
        "|---|---|---:|---:|---:|---:|---:|",
    ]
    for figure in figures:
        base = next(f for f in figures if f.case == figure.case and f.contestant == reference)
        lines.append(
            f"| {figure.case} | {figure.contestant} | {figure.per_second:,.0f} "
            f"| {figure.per_second / base.per_second:.2f} | {figure.cpu_us:,.0f} "
            f"| {figure.cpu_us / base.cpu_us:.2f} | {figure.spread:.2f} |"
        )
    return "\n".join(lines)
