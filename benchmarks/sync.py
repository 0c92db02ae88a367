"""Measure the sync `Client`: what the facade adds to an async call and to a streamed event; threads; photos from files.

The official `moondream` package (`pip install --no-deps moondream==2.6.1`) makes the same calls if it is installed.
"""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from moondream_async import AsyncClient, Client

from . import contestants, harness, pictures
from .harness import KEY, Budget, Figure, Stopwatch, at_least, at_most, value
from .streams import EVENTS

REFERENCE = "moondream-async, sync"
ASYNC = "moondream-async, async"
OFFICIAL = "official client"
ONE_CALL, THREADS = "one call, 2 KB", "16 threads, 2 KB"


def run(*, quick: bool) -> list[Figure]:
    """Run all cases."""
    rounds = 2 if quick else 5
    with harness.server() as url, tempfile.TemporaryDirectory() as folder:
        figures = _measure_calls(url, 300 if quick else 2000, rounds) + _measure_events(url, rounds * 3)
        if importlib.util.find_spec("moondream") is None:
            print("Skipped, not installed: the official client: pip install --no-deps moondream==2.6.1")
            return figures
        figures += _measure_threads(url, 0.5 if quick else 1.5, rounds)
        for name, orientation in (("upright", 1), ("on its side", 6)):
            photo = pictures.photo((4000, 3000), orientation)
            paths = [Path(folder) / f"photo-{orientation}-{number}.jpg" for number in range(32)]
            for path in paths:
                path.write_bytes(photo)
            for threads in (1, 16):
                figures += _measure_photos(url, paths, name, threads, 1.0 if quick else 2.0)
        return figures


def report(figures: list[Figure]) -> str:
    """Return the figures as a table."""
    return harness.table(figures, REFERENCE)


def budgets(figures: list[Figure]) -> dict[str, Budget]:
    """Return the budgets, within this run."""
    rates = [value(figures, THREADS, name, "per second") for name in (REFERENCE, OFFICIAL)]
    least = 1.0 if contestants.is_fast() else 0.8
    cpu = [value(figures, ONE_CALL, name, "CPU us") for name in (REFERENCE, ASYNC)]
    return {
        "sync, 16 threads: per second, x official": at_least(rates[0] / rates[1], least),
        "sync, one thread: CPU us more than an async call": at_most(cpu[0] - cpu[1], 80),
    }


def _measure_calls(url: str, total: int, rounds: int) -> list[Figure]:
    """Make one call after the other, through the facade and without it."""
    image = harness.image(2_000)
    sync, plain = Stopwatch(), Stopwatch()

    async def calls() -> None:
        async with AsyncClient(KEY, base_url=url) as client:
            await client.query(image, "what?")
            with plain.round(total):
                for _ in range(total):
                    await client.query(image, "what?")

    with Client(KEY, base_url=url) as client:
        for _ in range(rounds):
            client.query(image, "what?")
            with sync.round(total):
                for _ in range(total):
                    client.query(image, "what?")
            asyncio.run(calls())
    return [sync.figure(REFERENCE, ONE_CALL), plain.figure(ASYNC, ONE_CALL)]


def _measure_threads(url: str, seconds: float, rounds: int) -> list[Figure]:
    """Make calls in 16 threads that share a client, as web applications do."""
    contestant_of = {REFERENCE: contestants.ours_sync, OFFICIAL: contestants.official}
    watches = {name: Stopwatch() for name in contestant_of}
    for _ in range(rounds):
        for name, watch in watches.items():
            with contestant_of[name](url, 2_000) as call:
                harness.run_threads(call, threads=16, seconds=0.05)
                with watch.round():
                    watch.calls = harness.run_threads(call, threads=16, seconds=seconds)
    return [watch.figure(name, THREADS) for name, watch in watches.items()]


def _measure_events(url: str, rounds: int) -> list[Figure]:
    """Read streamed events, through the facade and without it."""
    figures: list[Figure] = []
    image = harness.image(2_000)
    for case, path in (("events together", ""), ("events one by one", "/apart")):
        base = f"{url}/events-{EVENTS}{path}"
        sync, plain = Stopwatch(), Stopwatch()

        async def read(base: str = base, watch: Stopwatch = plain) -> None:
            async with AsyncClient(KEY, base_url=base) as client:
                await (await client.query(image, "what?", stream=True)).result()
                with watch.round(EVENTS):
                    async for _ in await client.query(image, "what?", stream=True):
                        pass

        with Client(KEY, base_url=base) as client:
            for _ in range(rounds):
                with sync.round(EVENTS):
                    for _ in client.query(image, "what?", stream=True):
                        pass
                asyncio.run(read())
        figures += [sync.figure(REFERENCE, case), plain.figure(ASYNC, case)]
    return figures


def _measure_photos(url: str, paths: list[Path], name: str, threads: int, seconds: float) -> list[Figure]:
    """Send a photo from another file each time, as scripts do (concurrent calls with the same file would share it)."""
    official, next_paths = _official_client(url), itertools.cycle(paths)
    with Client(KEY, base_url=url) as client:
        calls: dict[str, Callable[[], object]] = {
            REFERENCE: lambda: client.query(next(next_paths), "what?"),
            OFFICIAL: lambda: official.query(Image.open(next(next_paths)), "what?"),
        }
        watches = {contestant: Stopwatch() for contestant in calls}
        for _ in range(3):
            for contestant, call in calls.items():
                call()
                with watches[contestant].round() as watch:
                    watch.calls = harness.run_threads(call, threads=threads, seconds=seconds)
    case = f"12 MP photo, {name}, {threads} thread(s)"
    return [watch.figure(contestant, case) for contestant, watch in watches.items()]


def _official_client(url: str) -> Any:
    import moondream

    return moondream.vl(api_key=KEY, endpoint=f"{url}/v1")
