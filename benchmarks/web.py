"""Measure web backends under load: 200 browsers that stream at once from one process, some of which go away.

The model's server sends 100 events in each answer, one every 50 ms. The browsers start at random moments, so that about
200 answers are in flight at any time. The backend has one core; the browsers and the model's server share another.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles

import attrs

from . import harness
from .backends import BACKENDS
from .harness import Budget, Column, Figure, at_least, at_most, value

EVENTS, PACE = 100, 0.05  # of each answer; seconds between two
BROWSERS = 200
OURS, PROXY, REFERENCE = BACKENDS
CASE = f"{BROWSERS} browsers"
COLUMNS = (
    Column("first piece ms, alone, p95", 1),
    Column("first piece ms, p95", 1),
    Column("events per second", ratio=True),
    Column("CPU us an event", ratio=True),
    Column("KB a stream", 1, ratio=True),
    Column("lost"),
    Column("left behind"),
)
_REQUEST = (
    b"POST /v1/query HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 34\r\n\r\n"
    b'{"question": "what?", "stream": 1}'
)


def run(*, quick: bool) -> list[Figure]:
    """Run all backends, one after the other."""
    with harness.server() as url:
        return [_run_backend(name, url, quick=quick) for name in BACKENDS]


def report(figures: list[Figure]) -> str:
    """Return the figures as a table."""
    return harness.table(figures, REFERENCE, COLUMNS)


def budgets(figures: list[Figure]) -> dict[str, Budget]:
    """Return the budgets."""
    limits: dict[str, Budget] = {}
    for name in (OURS, PROXY):
        alone, loaded, memory, lost, left = (
            value(figures, CASE, name, column.name) for column in (*COLUMNS[:2], *COLUMNS[4:])
        )
        rate = value(figures, CASE, name, "events per second") / value(figures, CASE, REFERENCE, "events per second")
        limits[f"{name}: first piece under load, x alone"] = at_most(loaded / alone, 2.0)
        limits[f"{name}: events per second, x {REFERENCE}"] = at_least(rate, 0.95)
        limits[f"{name}: KB of memory a stream"] = at_most(memory, 100)
        limits[f"{name}: answers lost"] = at_most(lost, 0)
        limits[f"{name}: calls left behind by browsers that went away"] = at_most(left, 0)
    return limits


@attrs.define
class _Tally:
    """What the browsers saw.

    Attributes:
        firsts: Seconds until the first event of each answer.
        events: Number of events.
        answers: Answers that were read to their end.
        gone: Browsers that went away on purpose.
        lost: Answers that ended before their last event.
    """

    firsts: list[float] = attrs.field(factory=list[float])
    events: int = 0
    answers: int = 0
    gone: int = 0
    lost: int = 0


def _run_backend(name: str, url: str, *, quick: bool) -> Figure:
    with _backend(name, f"{url}/events-{EVENTS}/pace-{PACE * 1000:.0f}") as (port, process):
        values = asyncio.run(_load(port, process, quick=quick))
        time.sleep(1.0)  # in which a call must end whose browser has gone
        with urllib.request.urlopen(f"{url}/active") as response:
            values["left behind"] = float(response.read())
    return Figure(CASE, name, values)


@contextmanager
def _backend(name: str, url: str) -> Generator[tuple[int, int]]:
    """Run a backend in a process on this process's core, which then moves to the server's; yield port and process."""
    command = [sys.executable, "-m", "benchmarks.backends", name, url]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        port = int(process.stdout.readline())
        others = [core for core in range(os.cpu_count() or 1) if core not in cores]
        if others and cores:
            os.sched_setaffinity(0, others[:1])
        try:
            yield port, process.pid
        finally:
            process.stdin.close()
            if cores:
                os.sched_setaffinity(0, cores)


async def _load(port: int, process: int, *, quick: bool) -> dict[str, float]:
    alone = _Tally()
    for number in range(10 if quick else 40):
        await _browse(port, alone if number > 2 else _Tally(), leave_after=1)  # the first ones load modules
    await asyncio.sleep(0.2)
    before = harness.rss_mb(process=process)
    tally, dice = _Tally(), random.Random(1)
    seconds = EVENTS * PACE * (1 if quick else 6)
    cpu, started = _cpu(process), time.perf_counter()
    browsers = [asyncio.create_task(_keep_browsing(port, tally, dice, started + seconds)) for _ in range(BROWSERS)]
    peak = before
    while not all(browser.done() for browser in browsers):
        await asyncio.sleep(0.25)
        peak = max(peak, harness.rss_mb(process=process))
    await asyncio.gather(*browsers)
    elapsed, used = time.perf_counter() - started, _cpu(process) - cpu
    return {
        "first piece ms, alone, p95": _p95(alone.firsts) * 1000,
        "first piece ms, p95": _p95(tally.firsts) * 1000,
        "events per second": tally.events / elapsed,
        "CPU us an event": used / tally.events * 1e6,
        "KB a stream": (peak - before) * 1000 / BROWSERS,
        "lost": float(tally.lost),
    }


async def _keep_browsing(port: int, tally: _Tally, dice: random.Random, end: float) -> None:
    await asyncio.sleep(dice.random() * EVENTS * PACE)
    while time.perf_counter() < end:
        leaves = dice.random() < 0.25
        await _browse(port, tally, leave_after=dice.randrange(1, EVENTS) if leaves else None)


async def _browse(port: int, tally: _Tally, *, leave_after: int | None) -> None:
    """Read one answer; or leave after some of its events."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    started, seen, completed = time.perf_counter(), 0, False
    try:
        writer.write(_REQUEST)
        while not completed and (line := await reader.readline()):
            if not line.startswith(b"data: "):
                continue
            seen += 1
            if seen == 1:
                tally.firsts.append(time.perf_counter() - started)
            completed = b'"completed": true' in line
            if seen == leave_after:
                break
    finally:
        writer.transport.abort()
    tally.events += seen
    tally.answers += completed
    tally.gone += leave_after is not None
    tally.lost += not completed and leave_after is None


def _cpu(process: int) -> float:
    """Return the seconds of CPU time of a process; Linux only."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _p95(values: list[float]) -> float:
    return quantiles(values, n=20)[-1]
