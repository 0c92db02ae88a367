"""`map` over many items, each answered after 100 ms: against the loops that users write; its memory as items grow."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from moondream_async import AsyncClient, EncodedImage

from . import contestants, harness
from .harness import KEY, Figure, Stopwatch, value

REFERENCE = "httpx, semaphore of 64"
RATE, MEMORY = "items, answers after 100 ms", "memory, items at once"
# contestant -> items a round, about as many as it does in some seconds
ITEMS = {
    "map, 64": 3_000,
    "map, 256": 10_000,
    REFERENCE: 600,
    "official, 16 threads": 640,
    "official, 64 threads": 2_560,
}


def run(*, quick: bool) -> list[Figure]:
    """All cases."""
    scale, rounds = (4, 1) if quick else (1, 3)
    names = [name for name in ITEMS if "official" not in name or "official, threads" not in contestants.missing()]
    watches = {name: Stopwatch() for name in names}
    with harness.server() as url:
        for _ in range(rounds):
            for name, watch in watches.items():
                _round(name, url + "/delay-100", ITEMS[name] // scale, watch)
        figures = [watch.figure(name, RATE) for name, watch in watches.items()]
        for count in (1_000, 10_000) if quick else (1_000, 10_000, 100_000):
            for name, work in (("map", _mapped), ("run", _written)):
                watch = Stopwatch()
                asyncio.run(work(url, 64, count, watch))
                figures.append(watch.figure(f"{name}, 64: {count:,} items", MEMORY))
    return figures


def report(figures: list[Figure]) -> str:
    """The table."""
    return harness.table(figures, REFERENCE)


def budgets(figures: list[Figure]) -> dict[str, tuple[float, Callable[[float], bool], str]]:
    """What has to hold within this run."""
    many = [f for f in figures if f.case == MEMORY and f.contestant.endswith("100,000 items")]
    speed = value(figures, RATE, "map, 64", "per second") / value(figures, RATE, "official, 64 threads", "per second")
    return {
        "map, 64 at once: x official client in 64 threads": (speed, lambda r: r >= 0.9, ">= 0.9"),
        **{f"{f.contestant}: MB taken": (f.values["peak MB"], lambda r: r <= 20, "<= 20") for f in many},
    }


def _round(name: str, url: str, items: int, watch: Stopwatch) -> None:
    at_once = int("".join(filter(str.isdigit, name)))
    if name.startswith("map"):
        asyncio.run(_mapped(url, at_once, items, watch))
    elif name == REFERENCE:
        asyncio.run(_gathered(url, at_once, items, watch))
    else:
        with contestants.official(url, 2_000) as call:
            harness.run_threads(call, threads=at_once, seconds=0.05)
            with watch.round():
                watch.calls = harness.run_threads(call, threads=at_once, seconds=items / at_once / 10)


async def _mapped(url: str, at_once: int, items: int, watch: Stopwatch) -> None:
    def images(count: int) -> Iterator[EncodedImage]:
        for _ in range(count):
            yield harness.image(2_000)

    async with AsyncClient(KEY, base_url=url) as client:
        async for _ in client.map("caption", images(at_once), concurrency=at_once):
            pass
        with watch.round(items):
            async for outcome in client.map("caption", images(items), concurrency=at_once):
                outcome.unwrap()


async def _written(url: str, at_once: int, items: int, watch: Stopwatch) -> None:
    """Into a file, each item with an id of its own, from a generator."""
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncClient(KEY, base_url=url) as client:
            await client.run("caption", _named(at_once), Path(folder, "warm"), concurrency=at_once)
            with watch.round(items):
                await client.run("caption", _named(items), Path(folder, "results"), concurrency=at_once)


def _named(count: int) -> Iterator[tuple[str, EncodedImage]]:
    for number in range(count):
        yield f"photos/{number:07}.jpg", harness.image(2_000)


async def _gathered(url: str, at_once: int, items: int, watch: Stopwatch) -> None:
    """What most people write: a semaphore, and `gather` over everything."""
    limit = asyncio.Semaphore(at_once)
    async with contestants.bare_httpx(url, 2_000) as call:

        async def one() -> None:
            async with limit:
                await call()

        await asyncio.gather(*(one() for _ in range(at_once)))
        with watch.round(items):
            await asyncio.gather(*(one() for _ in range(items)))
