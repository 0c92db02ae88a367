"""Measure several servers behind one client: how much of their sum is used, also while one is dead.

Three stand-ins for Stations take 10, 20 and 40 ms for an answer. What each does alone is measured first. The second is
killed in the middle, with the calls that it has, and comes back.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import IO

from moondream_async import AsyncClient, MoondreamError

from . import harness
from .harness import Budget, Column, Figure, at_least, at_most, value

MILLISECONDS = (10, 20, 40)
VICTIM = 1
IN_FLIGHT = 30
CONTESTANT = "moondream-async"
ALL, DEAD, BACK = "all alive", "one dead", "alive again"
COLUMNS = (Column("per second"), Column("% of the sum", 1), Column("% refused", 2), Column("lost"))


def run(*, quick: bool) -> list[Figure]:
    """Run all phases."""
    with _stations() as (urls, commands):
        return asyncio.run(_run_all(urls, commands, 3.0 if quick else 15.0))


def report(figures: list[Figure]) -> str:
    """Return the figures as a table."""
    return harness.table(figures, "", COLUMNS)


def budgets(figures: list[Figure]) -> dict[str, Budget]:
    """Return the budgets."""
    limits: dict[str, Budget] = {}
    for case in (ALL, DEAD, BACK):
        limits[f"{case}: % of the sum"] = at_least(value(figures, case, CONTESTANT, "% of the sum"), 90)
        limits[f"{case}: % refused"] = at_most(value(figures, case, CONTESTANT, "% refused"), 2)
        limits[f"{case}: lost"] = at_most(value(figures, case, CONTESTANT, "lost"), 0)
    return limits


@contextmanager
def _stations() -> Generator[tuple[list[str], IO[str]]]:
    command = [sys.executable, "-m", "benchmarks.stations", *map(str, MILLISECONDS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        ports = process.stdout.readline().split()
        try:
            yield [f"http://127.0.0.1:{port}/v1" for port in ports], process.stdin
        finally:
            process.stdin.close()


async def _run_all(urls: list[str], commands: IO[str], seconds: float) -> list[Figure]:
    alone: list[float] = []
    for url in urls:
        async with AsyncClient(base_url=url) as client:
            figure = await _measure(client, "alone", seconds / 3, [1.0], IN_FLIGHT // len(urls))
            alone.append(figure.values["per second"])
    rest = [rate for index, rate in enumerate(alone) if index != VICTIM]
    async with AsyncClient(base_url=urls) as client:
        figures = [await _measure(client, ALL, seconds, alone)]
        _tell(commands, f"stop {VICTIM}")
        figures.append(await _measure(client, DEAD, seconds, rest))
        _tell(commands, f"start {VICTIM}")
        figures.append(await _measure(client, BACK, seconds, alone))
    return figures


def _tell(commands: IO[str], line: str) -> None:
    commands.write(f"{line}\n")
    commands.flush()


async def _measure(
    client: AsyncClient, case: str, seconds: float, possible: list[float], in_flight: int = IN_FLIGHT
) -> Figure:
    lost, refused, started = 0, client.stats.rate_limited, time.perf_counter()

    async def call() -> None:
        nonlocal lost
        try:
            await client.query(question="what?")
        except MoondreamError:
            lost += 1

    calls = await harness.run_tasks(call, in_flight=in_flight, seconds=seconds)
    rate = (calls - lost) / (time.perf_counter() - started)
    values = {
        "per second": rate,
        "% of the sum": 100 * rate / sum(possible),
        "% refused": 100 * (client.stats.rate_limited - refused) / calls,
        "lost": float(lost),
    }
    return Figure(case, CONTESTANT, values)
