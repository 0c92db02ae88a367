"""A long run in which things go wrong all the time; sockets, threads, tasks and memory must end where they began.

Calls that succeed, calls cancelled at random, streams read to their end, left early, and cut off by the server, which
is stopped and started again ten times on the way.
"""

from __future__ import annotations

import asyncio
import collections
import gc
import random
import threading
from collections.abc import Callable
from pathlib import Path

from moondream_async import AsyncClient, MoondreamError, RetryPolicy, Timeouts

from . import harness
from .harness import KEY, Column, Figure, Server, value

REFERENCE = ""
CASE = "calls with cancellations, cut streams and restarts"
COLUMNS = tuple(Column(name) for name in ("at the start", "at the end"))
_AT_ONCE = 200
_RESTARTS = 10


def run(*, quick: bool) -> list[Figure]:
    """The soak."""
    total = 6_000 if quick else 100_000
    return asyncio.run(_soak(total))


def report(figures: list[Figure]) -> str:
    """The table, and what happened."""
    happened = figures[-1].values
    told = ", ".join(f"{count:,.0f} {what}" for what, count in happened.items())
    return harness.table(figures[:-1], REFERENCE, COLUMNS) + f"\n\n{told}."


def budgets(figures: list[Figure]) -> dict[str, tuple[float, Callable[[float], bool], str]]:
    """Nothing may be left behind; memory may grow by what an allocator keeps."""
    limits = {"sockets and files": 0, "threads": 0, "tasks": 0, "calls in flight or waiting": 0, "memory, MB": 20}
    return {
        f"soak: more {name}": (
            value(figures, CASE, name, "at the end") - value(figures, CASE, name, "at the start"),
            lambda grown, most=most: grown <= most,
            f"<= {most}",
        )
        for name, most in limits.items()
    }


async def _soak(total: int) -> list[Figure]:
    server = Server()
    server.start()
    outcomes: collections.Counter[str] = collections.Counter()
    try:
        policy = RetryPolicy(attempts=3, backoff=0.05, max_backoff=0.5)
        client = AsyncClient(KEY, base_url=server.url, retry=policy, timeout=Timeouts(connect=2, idle=2, total=5))
        cutting = AsyncClient(KEY, base_url=f"{server.url}/cut-5", retry=policy)
        streaming = AsyncClient(KEY, base_url=f"{server.url}/events-20", retry=policy)
        clients = (client, cutting, streaming)
        await _calls(clients, total // 10, outcomes, random.Random(0))  # what is made once has been made
        await asyncio.to_thread(int)  # the thread that will restart the server
        before = _state(clients)
        outcomes.clear()
        stopping = asyncio.create_task(_restart(server, outcomes, total))
        await _calls(clients, total, outcomes, random.Random(1))
        await stopping
        await asyncio.sleep(0.5)
        after = _state(clients)
        for each in clients:
            await each.aclose()
    finally:
        server.stop()
    figures = [Figure(CASE, name, {"at the start": before[name], "at the end": after[name]}) for name in before]
    return [*figures, Figure(CASE, "outcomes", dict(sorted(outcomes.items())))]


async def _calls(
    clients: tuple[AsyncClient, ...], total: int, outcomes: collections.Counter[str], dice: random.Random
) -> None:
    left = iter(range(total))

    async def worker() -> None:
        for _ in left:
            task = asyncio.create_task(_one(clients, dice))
            if dice.random() < 0.1:
                await asyncio.sleep(dice.random() * 0.02)
                task.cancel()
            try:
                outcomes[await task] += 1
            except asyncio.CancelledError:
                outcomes["cancelled"] += 1
            except MoondreamError as exc:
                outcomes[type(exc).__name__] += 1

    await asyncio.gather(*(worker() for _ in range(_AT_ONCE)))


async def _one(clients: tuple[AsyncClient, ...], dice: random.Random) -> str:
    client, cutting, streaming = clients
    image = harness.image(2_000)
    what = dice.random()
    if what < 0.7:
        await client.query(image, "what?")
        return "answered"
    source = cutting if what < 0.8 else streaming
    async with await source.query(image, "what?", stream=True) as stream:
        async for _ in stream:
            if what > 0.9:
                return "left early"
    return "read to the end"


async def _restart(server: Server, outcomes: collections.Counter[str], total: int) -> None:
    """Stop and start the server each time another part of the calls is done."""
    for number in range(1, _RESTARTS + 1):
        while outcomes.total() < total * number / (_RESTARTS + 1):  # noqa: ASYNC110 - a count is waited for
            await asyncio.sleep(0.01)
        await asyncio.to_thread(server.stop)
        await asyncio.sleep(0.1)
        await asyncio.to_thread(server.start)


def _state(clients: tuple[AsyncClient, ...]) -> dict[str, float]:
    gc.collect()
    files = Path("/proc/self/fd")
    idle = sum(_idle_connections(client) for client in clients)
    return {
        # Idle connections are kept on purpose; what is open beyond them is lost.
        "sockets and files": len(list(files.iterdir())) - idle if files.exists() else 0,
        "threads": threading.active_count(),
        "tasks": len(asyncio.all_tasks()),
        "calls in flight or waiting": sum(client.stats.in_flight + client.stats.waiting for client in clients),
        "memory, MB": harness.rss_mb(),
    }


def _idle_connections(client: AsyncClient) -> int:
    idle = client._net.session._own._idle.get()  # type: ignore[union-attr]
    return sum(len(stack) for stack in idle._stacks.values())
