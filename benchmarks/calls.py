"""Measure calls: small and large bodies, few and many in flight, immediate and delayed responses."""

from __future__ import annotations

import asyncio

from . import contestants, harness
from .contestants import OURS, OURS_FAST, REFERENCE
from .harness import Budget, Figure, Stopwatch, at_least, at_most, value

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
HTTPX = "httpx"
_MAX_THREADS = 256
SINGLE, SOME, BUSY = "2 KB, 1 in flight", "2 KB, 64 in flight", "2 KB, 256 in flight"
WAITING, LARGE = "2 KB, 256 in flight, 100 ms", "300 KB, 1 in flight"
QUICK = (SINGLE, SOME, BUSY, WAITING, LARGE)
# Stock httpx takes up to 40 ms of CPU per call with many calls in flight: two cases, below the table, say enough.
HTTPX_CASES = (SINGLE, SOME)
# case: what we need of bare aiohttp's, with the fast parser and without it
CPU_BUDGETS = {SINGLE: (1.25, 1.6), SOME: (1.4, 2.5), BUSY: (1.3, 2.2), WAITING: (1.3, 1.9)}
RATE_BUDGETS = {SINGLE: (0.8, 0.6), SOME: (0.75, 0.42), BUSY: (0.8, 0.5), WAITING: (0.97, 0.95)}


def run(*, quick: bool) -> list[Figure]:
    """Run all cases: the contestants in turn, round by round."""
    skipped = contestants.missing()
    if skipped:
        print("Skipped, not installed: " + ", ".join(f"{name} ({module})" for name, module in skipped.items()))
    with harness.server() as url:
        return [figure for case in (QUICK if quick else CASES) for figure in _run_case(url, case, skipped, quick=quick)]


def report(figures: list[Figure]) -> str:
    """Return the figures as a table, and those of stock httpx below it."""
    lines = [harness.table([figure for figure in figures if figure.contestant != HTTPX], REFERENCE), ""]
    lines += [
        f"Stock httpx, {case}: {value(figures, case, HTTPX, 'per second'):,.0f} per second "
        f"({_ratio(figures, case, HTTPX, 'per second'):.3f} x {REFERENCE}), "
        f"{value(figures, case, HTTPX, 'CPU us'):,.0f} us of CPU ({_ratio(figures, case, HTTPX, 'CPU us'):.1f} x)."
        for case in HTTPX_CASES
    ]
    return "\n".join(lines)


def budgets(figures: list[Figure]) -> dict[str, Budget]:
    """Return the budgets, as ratios within this run."""
    rows = {OURS: 1, OURS_FAST: 0}
    result: dict[str, Budget] = {}
    for name, column in rows.items():
        if name in contestants.ASYNC:
            for case, limits in CPU_BUDGETS.items():
                cpu = _ratio(figures, case, name, "CPU us")
                result[f"{name}, {case}: CPU of a call, x {REFERENCE}"] = at_most(cpu, limits[column])
            for case, limits in RATE_BUDGETS.items():
                rate = _ratio(figures, case, name, "per second")
                result[f"{name}, {case}: per second, x {REFERENCE}"] = at_least(rate, limits[column])
    large = [value(figures, LARGE, name, "CPU us") for name in (OURS, "official, threads")]
    return {**result, "CPU of a 300 KB call, x official": at_most(large[0] / large[1], 0.7)}


def _ratio(figures: list[Figure], case: str, name: str, column: str) -> float:
    return value(figures, case, name, column) / value(figures, case, REFERENCE, column)


def _run_case(url: str, case: str, skipped: dict[str, str], *, quick: bool) -> list[Figure]:
    size, in_flight, path, seconds = CASES[case]
    rounds, seconds = (1, seconds / 2) if quick else (3, seconds)
    names = [name for name in (*contestants.ASYNC, *contestants.THREADS) if name not in skipped]
    if case not in HTTPX_CASES:
        names.remove(HTTPX)
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
