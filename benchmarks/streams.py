"""Measure streams: events that arrive together or one by one, the time to the first, and many streams at once."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from statistics import median

import httpx
from httpx_sse import aconnect_sse

from moondream_async import AsyncClient

from . import harness
from .contestants import HEADERS, OURS, is_fast
from .harness import KEY, Budget, Column, Figure, Stopwatch, at_most, value

REFERENCE = "httpx-sse"
EVENTS = 1000
CONCURRENCY = 256
COLUMNS = (*harness.SPEED, Column("first event ms", 1))

TOGETHER = f"{EVENTS:,} events together"
Read = Callable[[], Awaitable[float]]
"""Reads one stream to its end and returns the seconds until its first event."""


def run(*, quick: bool) -> list[Figure]:
    """Run all cases."""
    with harness.server() as url:
        return asyncio.run(_run_all(url, rounds=3 if quick else 15))


def report(figures: list[Figure]) -> str:
    """Return the figures as a table."""
    return harness.table(figures, REFERENCE, COLUMNS)


def budgets(figures: list[Figure]) -> dict[str, Budget]:
    """Return the budgets, as ratios within this run."""
    mine, theirs = (value(figures, TOGETHER, name, "CPU us") for name in (OURS, REFERENCE))
    return {f"CPU of an event, x {REFERENCE}": at_most(mine / theirs, 0.8 if is_fast() else 1.0)}


async def _run_all(url: str, *, rounds: int) -> list[Figure]:
    figures = await _run_case(TOGETHER, f"{url}/events-{EVENTS}", 1, EVENTS, rounds)
    figures += await _run_case(f"{EVENTS:,} events one by one", f"{url}/events-{EVENTS}/apart", 1, EVENTS, rounds)
    few = 40
    return figures + await _run_case(
        f"{CONCURRENCY} streams at once, {few} events one by one",
        f"{url}/events-{few}/apart",
        CONCURRENCY,
        few,
        max(2, rounds // 5),
    )


async def _run_case(case: str, base: str, streams: int, events: int, rounds: int) -> list[Figure]:
    watches = {name: Stopwatch() for name in READERS}
    firsts: dict[str, list[float]] = {name: [] for name in READERS}
    for number in range(rounds + 1):  # the first round opens the connections
        for name, open_reader in READERS.items():
            async with open_reader(base) as read:
                await read()
                with watches[name].round(streams * events):
                    waits = await asyncio.gather(*(read() for _ in range(streams)))
            if number:
                firsts[name] += waits
    figures = [watch.figure(name, case) for name, watch in watches.items()]
    for figure in figures:
        figure.values["first event ms"] = median(firsts[figure.contestant]) * 1000
    return figures


@asynccontextmanager
async def _ours(base: str) -> AsyncGenerator[Read]:
    image = harness.image(2_000)
    async with AsyncClient(KEY, base_url=base) as client:

        async def read() -> float:
            started, first = time.perf_counter(), 0.0
            async with await client.query(image, "what?", stream=True) as stream:
                async for _ in stream:
                    first = first or time.perf_counter() - started
            return first

        yield read


@asynccontextmanager
async def _bare(base: str) -> AsyncGenerator[Read]:
    body = json.dumps({"image_url": harness.image(2_000).image_url, "question": "what?", "stream": True}).encode()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(timeout=120, limits=limits) as client:

        async def read() -> float:
            started, first = time.perf_counter(), 0.0
            headers = dict(HEADERS)
            async with aconnect_sse(client, "POST", f"{base}/v1/query", content=body, headers=headers) as source:
                async for event in source.aiter_sse():
                    json.loads(event.data)["chunk"]
                    first = first or time.perf_counter() - started
            return first

        yield read


READERS = {OURS: _ours, REFERENCE: _bare}
