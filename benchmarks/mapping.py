"""Compare `map`, with responses after 100 ms, with the loops that users write; measure its memory for more items."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from pathlib import Path

from moondream_async import AsyncClient, EncodedImage

from . import contestants, harness
from .harness import KEY, Budget, Figure, Stopwatch, at_least, at_most, value

REFERENCE = "aiohttp, semaphore of 64"
RATE, MEMORY = "items, responses after 100 ms", "memory, immediate responses"
# contestant -> items per round, which take it a few seconds
ITEMS = {
    "map, 64": 3_000,
    "map, 256": 10_000,
    REFERENCE: 3_000,
    "official, 16 threads": 640,
    "official, 64 threads": 2_560,
}


def run(*, quick: bool) -> list[Figure]:
    """Run all cases."""
    scale, rounds = (4, 1) if quick else (1, 3)
    names = [name for name in ITEMS if "official" not in name or "official, threads" not in contestants.missing()]
    watches = {name: Stopwatch() for name in names}
    with harness.server() as url:
        for _ in range(rounds):
            for name, watch in watches.items():
                _run_round(name, url + "/delay-100", ITEMS[name] // scale, watch)
        figures = [watch.figure(name, RATE) for name, watch in watches.items()]
        for count in (1_000, 10_000) if quick else (1_000, 10_000, 100_000):
            for name, work in (("map", _run_map), ("run", _run_to_file)):
                watch = Stopwatch()
                asyncio.run(work(url, 64, count, watch))
                figures.append(watch.figure(f"{name}, 64: {count:,} items", MEMORY))
    return figures


def report(figures: list[Figure]) -> str:
    """Return the figures as a table."""
    return harness.table(figures, REFERENCE)


def budgets(figures: list[Figure]) -> dict[str, Budget]:
    """Return the budgets."""
    many = [f for f in figures if f.case == MEMORY and f.contestant.endswith("100,000 items")]
    speed = value(figures, RATE, "map, 64", "per second") / value(figures, RATE, "official, 64 threads", "per second")
    return {
        "map, 64: x official client in 64 threads": at_least(speed, 0.9),
        **{f"{f.contestant}: peak MB": at_most(f.values["peak MB"], 20) for f in many},
    }


def _run_round(name: str, url: str, items: int, watch: Stopwatch) -> None:
    concurrency = int("".join(filter(str.isdigit, name)))
    if name.startswith("map"):
        asyncio.run(_run_map(url, concurrency, items, watch))
    elif name == REFERENCE:
        asyncio.run(_run_gather(url, concurrency, items, watch))
    else:
        with contestants.official(url, 2_000) as call:
            harness.run_threads(call, threads=concurrency, seconds=0.05)
            with watch.round():
                watch.calls = harness.run_threads(call, threads=concurrency, seconds=items / concurrency / 10)


async def _run_map(url: str, concurrency: int, items: int, watch: Stopwatch) -> None:
    def images(count: int) -> Iterator[EncodedImage]:
        for _ in range(count):
            yield harness.image(2_000)

    async with AsyncClient(KEY, base_url=url) as client:
        async for _ in client.map("caption", images(concurrency), concurrency=concurrency):
            pass
        with watch.round(items):
            async for outcome in client.map("caption", images(items), concurrency=concurrency):
                outcome.unwrap()


async def _run_to_file(url: str, concurrency: int, items: int, watch: Stopwatch) -> None:
    """Write results to a file; each item has its own id and comes from a generator."""
    with tempfile.TemporaryDirectory() as folder:
        async with AsyncClient(KEY, base_url=url) as client:
            await client.run("caption", _named_images(concurrency), Path(folder, "warm"), concurrency=concurrency)
            with watch.round(items):
                await client.run("caption", _named_images(items), Path(folder, "results"), concurrency=concurrency)


def _named_images(count: int) -> Iterator[tuple[str, EncodedImage]]:
    for number in range(count):
        yield f"photos/{number:07}.jpg", harness.image(2_000)


async def _run_gather(url: str, concurrency: int, items: int, watch: Stopwatch) -> None:
    """Write what most people write: a semaphore, and `gather` over everything."""
    limit = asyncio.Semaphore(concurrency)
    async with contestants.bare_aiohttp(url, 2_000) as call:

        async def one() -> None:
            async with limit:
                await call()

        await asyncio.gather(*(one() for _ in range(concurrency)))
        with watch.round(items):
            await asyncio.gather(*(one() for _ in range(items)))
