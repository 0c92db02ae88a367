"""What all benchmarks share: the server, timing and memory, tables."""

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
    """The values of one contestant in one case, by column of the benchmark's table."""

    case: str
    contestant: str
    values: dict[str, float]


@attrs.frozen
class Column:
    """A column of a table; with `ratio`, a second column compares it with the reference contestant."""

    name: str
    digits: int = 0
    ratio: bool = False


SPEED = (
    Column("per second", ratio=True),
    Column("CPU us", ratio=True),
    Column("peak MB", 1),
    Column("spread", 2),
)
"""What most benchmarks measure: calls (or events) per second, CPU and memory of this process, and noise."""


@contextmanager
def sandbox(*options: str) -> Generator[tuple[str, Callable[[], float]]]:
    """Run the sandbox in a process; yield its URL and a function that returns its peak memory."""
    command = [sys.executable, "-m", "moondream_async", "sandbox", "--port", "0", *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        url = re.search(r"http://\S+", process.stdout.readline())
        assert url is not None
        yield url[0], lambda: rss_mb("VmHWM", process.pid)
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def table(figures: list[Figure], reference: str, columns: tuple[Column, ...] = SPEED) -> str:
    """Return a Markdown table with ratios to the reference contestant of each case."""
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
    """Return one value, for a budget; NaN if the contestant was skipped."""
    values = (f.values[name] for f in figures if f.case == case and f.contestant == contestant and name in f.values)
    return next(values, float("nan"))


Budget = tuple[float, Callable[[float], bool], str]
"""A measured value, whether a value meets the budget, and the budget in words."""


def at_most(measured: float, limit: float) -> Budget:
    """Return a budget that is met up to a limit."""
    return measured, lambda value: value <= limit, f"<= {limit:g}"


def at_least(measured: float, limit: float) -> Budget:
    """Return a budget that is met from a limit on."""
    return measured, lambda value: value >= limit, f">= {limit:g}"


class Server:
    """The benchmark server in a second process, on a separate core if there are at least two.

    Args:
        port: Port to listen on; 0 for any.
        certificate: PEM file with the key and the certificates, to serve https.
    """

    def __init__(self, port: int = 0, certificate: Path | None = None) -> None:
        self.port = port
        self._certificate = certificate
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        return f"{'https' if self._certificate else 'http'}://127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "benchmarks.server", str(self.port)]
        if self._certificate is not None:
            command.append(str(self._certificate))
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
def server(certificate: Path | None = None) -> Generator[str]:
    """Run the benchmark server; meanwhile, this process and those it starts use one other core."""
    running, cores = Server(certificate=certificate), _cores()
    running.start()
    if len(cores) > 1:
        os.sched_setaffinity(0, cores[1:2])
    try:
        yield running.url
    finally:
        running.stop()
        if len(cores) > 1:
            os.sched_setaffinity(0, cores)


def _cores() -> list[int]:
    return sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []


# httpx imports click and rich, and httpcore trio, if they are installed; this package does not install them.
_LEAN = "import sys; sys.modules.update(dict.fromkeys(('click', 'rich', 'pygments', 'trio'), None))"


def python(program: str, **environment: str) -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment of a new interpreter, as a plain installation has it.

    Args:
        program: Its code.
        environment: More environment variables.
    """
    variables = {**os.environ, **environment}
    variables.pop("PYTHONDONTWRITEBYTECODE", None)  # compiling all modules anew would take most of the time
    return [sys.executable, "-c", f"{_LEAN}\n{program}"], variables


def image(size: int) -> EncodedImage:
    """Return an encoded image whose base64 has about `size` bytes; the server ignores its content."""
    return EncodedImage.of(b"\xff" * (size * 3 // 4), media_type="image/jpeg", size=(1, 1), original=(1, 1))


async def run_tasks(call: Callable[[], Awaitable[object]], *, in_flight: int, seconds: float) -> int:
    """Keep `in_flight` calls running for a time, wait for the last ones, and return the number of calls."""
    calls, end = 0, time.perf_counter() + seconds

    async def worker() -> None:
        nonlocal calls
        while time.perf_counter() < end:
            await call()
            calls += 1

    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return calls


def run_threads(call: Callable[[], object], *, threads: int, seconds: float) -> int:
    """Do the same as `run_tasks` in threads."""
    calls, end = [0] * threads, time.perf_counter() + seconds

    def worker(number: int) -> None:
        while time.perf_counter() < end:
            call()
            calls[number] += 1

    workers = [threading.Thread(target=worker, args=(number,)) for number in range(threads)]
    for thread in workers:
        thread.start()
    for thread in workers:
        thread.join()
    return sum(calls)


def rss_mb(name: str = "VmRSS", process: int | str = "self") -> float:
    """Return the memory of a process in MB, now or (with `VmHWM`) at its peak; Linux only."""
    # `ru_maxrss` is inherited from the parent process, so it is no alternative for the peak.
    status = Path(f"/proc/{process}/status")
    match = re.search(rf"{name}:\s+(\d+)", status.read_text()) if status.exists() else None
    return int(match[1]) / 1000 if match else float("nan")


def reset_peak() -> None:
    """Reset `VmHWM`."""
    switch = Path("/proc/self/clear_refs")
    if switch.exists():
        switch.write_text("5")


class Stopwatch:
    """Measures rounds of calls; the memory of a round is its peak minus the memory before it."""

    def __init__(self) -> None:
        self.rates: list[float] = []
        self.cpu: list[float] = []
        self.peaks: list[float] = []
        self.calls = 0

    @contextmanager
    def round(self, calls: int = 0) -> Generator[Stopwatch]:
        """Measure one round; set `.calls` in it if their number is not known before."""
        self.calls = calls
        reset_peak()
        before, cpu, wall = rss_mb(), time.process_time(), time.perf_counter()
        yield self
        self.cpu.append((time.process_time() - cpu) / self.calls * 1e6)
        self.rates.append(self.calls / (time.perf_counter() - wall))
        self.peaks.append(max(0.0, rss_mb("VmHWM") - before))

    def figure(self, contestant: str, case: str) -> Figure:
        """Return the medians of the rounds; the spread is the largest rate divided by the smallest."""
        values = {
            "per second": median(self.rates),
            "CPU us": median(self.cpu),
            "peak MB": median(self.peaks),
            "spread": max(self.rates) / min(self.rates),
        }
        return Figure(case, contestant, values)
