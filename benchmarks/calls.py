"""Measure calls: small and large bodies, few and many in flight, immediate and delayed responses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from . import contestants, harness
from .harness import Figure, Stopwatch, value

REFERENCE = "httpx"
# bytes of the body, calls in flight, path (the delay of the response), seconds per round
CASES = {
    "2 KB, 1 in flight": (2_000, 1, "", 1.0),
    "2 KB, 16 in flight": (2_000, 16, "", 1.0),
    "2 KB, 64 in flight": (2_000, 64, "", 1.0),
    "2 KB, 256 in flight": (2_000, 256, "", 1.5),
    "2 KB, 1,000 in flight": (2_000, 1000, "", 2.0),
    "2 KB, 64 in flight, 100 ms": (2_000, 64, "/delay-100", 1.5),
    "2 KB, 256 in flight, 100 ms": (2_000, 256, "/delay-100", 2.0),
    "2 KB, 512 in flight, 1 s": (2_000, 512, "/delay-1000", 4.0),
    "300 KB, 1 in flight": (300_000, 1, "", 1.0),
    "300 KB, 64 in flight": (300_000, 64, "", 1.0),
}
QUICK = ("2 KB, 1 in flight", "2 KB, 64 in flight", "2 KB, 256 in flight, 100 ms", "300 KB, 1 in flight")
_MAX_THREADS = 256


def run(*, quick: bool) -> list[Figure]:
    """Run all cases: the contestants in turn, round by round."""
    skipped = contestants.missing()
    if skipped:
        print("Skipped, not installed: " + ", ".join(f"{name} ({module})" for name, module in skipped.items()))
    with harness.server() as url:
        return [figure for case in (QUICK if quick else CASES) for figure in _run_case(url, case, skipped, quick=quick)]


def report(figures: list[Figure]) -> str:
    """Return the figures as a table."""
    return harness.table(figures, REFERENCE)


def budgets(figures: list[Figure]) -> dict[str, tuple[float, Callable[[float], bool], str]]:
    """Return the budgets, as ratios within this run."""

    def ratio(case: str, name: str, mine: str, theirs: str) -> float:
        return value(figures, case, mine, name) / value(figures, case, theirs, name)

    single, waiting, busy = "2 KB, 1 in flight", "2 KB, 256 in flight, 100 ms", "2 KB, 256 in flight"
    against_official = max(
        ratio(waiting, "per second", mine, "official, threads")
        for mine in ("moondream-async", "moondream-async, aiohttp")
    )
    ours = "moondream-async"
    return {
        "CPU of a call, x httpx": (
            ratio(single, "CPU us", ours, "httpx"),
            lambda r: r <= 0.75,
            "<= 0.75",
        ),
        "256 in flight, 100 ms: x httpx": (ratio(waiting, "per second", ours, "httpx"), lambda r: r >= 100, ">= 100"),
        "256 in flight, 100 ms: x official": (against_official, lambda r: r >= 0.9, ">= 0.9"),
        "256 in flight, at once: x httpx": (ratio(busy, "per second", ours, "httpx"), lambda r: r >= 60, ">= 60"),
        "512 in flight, 1 s: x raw protocol": (
            ratio("2 KB, 512 in flight, 1 s", "per second", ours, "raw protocol"),
            lambda r: r >= 0.9,
            ">= 0.9",
        ),
        "CPU of a 300 KB call, x official": (
            ratio("300 KB, 1 in flight", "CPU us", ours, "official, threads"),
            lambda r: r <= 0.7,
            "<= 0.7",
        ),
    }


def _run_case(url: str, case: str, skipped: dict[str, str], *, quick: bool) -> list[Figure]:
    size, in_flight, path, seconds = CASES[case]
    rounds, seconds = (1, seconds / 2) if quick else (3, seconds)
    names = [name for name in (*contestants.ASYNC, *contestants.THREADS) if name not in skipped]
    if in_flight > _MAX_THREADS:
        names = [name for name in names if name not in contestants.THREADS]
    watches = {name: Stopwatch() for name in names}
    for _ in range(rounds):
        for name, watch in watches.items():
            if name in contestants.ASYNC:
                asyncio.run(_async_round(name, url + path, size, in_flight, seconds, watch))
            else:
                _thread_round(name, url + path, size, in_flight, seconds, watch)
    return [watch.figure(name, case) for name, watch in watches.items()]


async def _async_round(name: str, url: str, size: int, in_flight: int, seconds: float, watch: Stopwatch) -> None:
    async with contestants.ASYNC[name](url, size) as call:
        await asyncio.gather(*(call() for _ in range(in_flight)))  # open the connections, without measuring
        with watch.round():
            watch.calls = await harness.run_tasks(call, in_flight=in_flight, seconds=seconds)


def _thread_round(name: str, url: str, size: int, threads: int, seconds: float, watch: Stopwatch) -> None:
    with contestants.THREADS[name](url, size) as call:
        harness.run_threads(call, threads=threads, seconds=0.05)
        with watch.round():
            watch.calls = harness.run_threads(call, threads=threads, seconds=seconds)
