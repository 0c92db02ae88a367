"""Run for long with constant failures: afterwards, there must be no more sockets, threads, tasks or memory than before.

Calls succeed or are cancelled at random; streams are read to their end, left early, or cut off by the server, which is
restarted ten times.
"""

from __future__ import annotations

import asyncio
import collections
import gc
import random
import threading
from pathlib import Path

from moondream_async import AsyncClient, MoondreamError, RetryPolicy, Timeouts

from . import harness
from .harness import KEY, Budget, Column, Figure, Server, at_most, value

REFERENCE = ""
CASE = "calls with cancellations, cut streams and restarts"
COLUMNS = tuple(Column(name) for name in ("at the start", "at the end"))
_CONCURRENCY = 200
_RESTARTS = 10

_Clients = tuple[AsyncClient, AsyncClient, AsyncClient]
"""For calls, streams that the server cuts off, and complete streams."""


def run(*, quick: bool) -> list[Figure]:
    """Run the soak."""
    total = 6_000 if quick else 100_000
    return asyncio.run(_soak(total))


def report(figures: list[Figure]) -> str:
    """Return the figures as a table, and the numbers of outcomes."""
    outcomes = ", ".join(f"{count:,.0f} {name}" for name, count in figures[-1].values.items())
    return harness.table(figures[:-1], REFERENCE, COLUMNS) + f"\n\n{outcomes}."


def budgets(figures: list[Figure]) -> dict[str, Budget]:
    """Return the budgets: no leaks; memory may grow by what an allocator keeps."""
    limits = {"sockets and files": 0, "threads": 0, "tasks": 0, "calls in flight or waiting": 0, "memory, MB": 20}
    return {
        f"soak: more {name}": at_most(
            value(figures, CASE, name, "at the end") - value(figures, CASE, name, "at the start"), limit
        )
        for name, limit in limits.items()
    }


async def _soak(total: int) -> list[Figure]:
    server = Server()
    server.start()
    outcomes: collections.Counter[str] = collections.Counter()
    try:
        clients = _make_clients(server.url)
        await _run_calls(clients, total // 10, outcomes, random.Random(0))  # create what is created only once
        await asyncio.to_thread(int)  # start the thread that will restart the server
        before = await _resources_without(clients)
        outcomes.clear()
        clients = _make_clients(server.url)
        restarts = asyncio.create_task(_restart(server, outcomes, total))
        await _run_calls(clients, total, outcomes, random.Random(1))
        await restarts
        after = await _resources_without(clients)
    finally:
        server.stop()
    figures = [Figure(CASE, name, {"at the start": before[name], "at the end": after[name]}) for name in before]
    return [*figures, Figure(CASE, "outcomes", dict(sorted(outcomes.items())))]


def _make_clients(url: str) -> _Clients:
    policy = RetryPolicy(attempts=3, backoff=0.05, max_backoff=0.5)
    return (
        AsyncClient(KEY, base_url=url, retry=policy, timeout=Timeouts(connect=2, idle=2, total=5)),
        AsyncClient(KEY, base_url=f"{url}/cut-5", retry=policy),
        AsyncClient(KEY, base_url=f"{url}/events-20", retry=policy),
    )


async def _run_calls(clients: _Clients, total: int, outcomes: collections.Counter[str], dice: random.Random) -> None:
    remaining = iter(range(total))

    async def worker() -> None:
        for _ in remaining:
            task = asyncio.create_task(_call_once(clients, dice))
            if dice.random() < 0.1:
                await asyncio.sleep(dice.random() * 0.02)
                task.cancel()
            try:
                outcomes[await task] += 1
            except asyncio.CancelledError:
                outcomes["cancelled"] += 1
            except MoondreamError as exc:
                outcomes[type(exc).__name__] += 1

    await asyncio.gather(*(worker() for _ in range(_CONCURRENCY)))


async def _call_once(clients: _Clients, dice: random.Random) -> str:
    client, cutting, streaming = clients
    image = harness.image(2_000)
    kind = dice.random()
    if kind < 0.7:
        await client.query(image, "what?")
        return "answered"
    source = cutting if kind < 0.8 else streaming
    async with await source.query(image, "what?", stream=True) as stream:
        async for _ in stream:
            if kind > 0.9:
                return "left early"
    return "read to the end"


async def _restart(server: Server, outcomes: collections.Counter[str], total: int) -> None:
    """Restart the server at regular intervals of finished calls."""
    for number in range(1, _RESTARTS + 1):
        while outcomes.total() < total * number / (_RESTARTS + 1):  # noqa: ASYNC110 - waits for a count
            await asyncio.sleep(0.01)
        await asyncio.to_thread(server.stop)
        await asyncio.sleep(0.1)
        await asyncio.to_thread(server.start)


async def _resources_without(clients: _Clients) -> dict[str, float]:
    """Close the clients, whose idle connections are kept on purpose, and return what is left."""
    for client in clients:
        await client.aclose()
    await asyncio.sleep(0.5)
    gc.collect()
    return {
        "sockets and files": _count_open_files(),
        "threads": threading.active_count(),
        "tasks": len(asyncio.all_tasks()),
        "calls in flight or waiting": sum(client.stats.in_flight + client.stats.waiting for client in clients),
        "memory, MB": harness.rss_mb(),
    }


def _count_open_files() -> int:
    files = Path("/proc/self/fd")
    return len(list(files.iterdir())) if files.exists() else 0
