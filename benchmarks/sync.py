"""The sync `Client`: what the facade adds to an async call and to a streamed event.

And how it compares with the official `moondream` package (`pip install --no-deps moondream==2.6.1`)
making the same calls from 1 and 16 threads.
"""

from __future__ import annotations

import asyncio
import importlib.util
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from moondream_async import AsyncClient, Client

from . import harness, pictures
from .harness import Figure, Stopwatch
from .streams import EVENTS

REFERENCE = "moondream-async, sync"
KEY = "k" * 40


def report(figures: list[Figure]) -> str:
    """A Markdown table with ratios to the reference."""
    return harness.table(figures, REFERENCE)


def run(*, quick: bool) -> list[Figure]:
    """All cases."""
    rounds = 2 if quick else 5
    with harness.server() as url, tempfile.TemporaryDirectory() as folder:
        figures = _facade(url, 300 if quick else 2000, rounds)
        figures += _events(url, rounds * 3)
        if importlib.util.find_spec("moondream") is None:
            print("The official package is not installed and left out: pip install --no-deps moondream==2.6.1")
            return figures
        for threads in (1, 16):
            figures += _tiny(url, threads, 320 if quick else 1600, rounds)
        for name, orientation in (("upright", 1), ("on its side", 6)):
            path = _photo(Path(folder), orientation)
            for threads in (1, 16):
                figures += _photos(url, path, name, threads, 4 if quick else 16)
        return figures


def _facade(url: str, total: int, rounds: int) -> list[Figure]:
    """One call after the other, through the facade and without it."""
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
    case = "one call, 2 KB"
    return [sync.figure(REFERENCE, case), plain.figure("moondream-async, async", case)]


def _events(url: str, rounds: int) -> list[Figure]:
    """One streamed event, through the facade and without it."""
    figures: list[Figure] = []
    image = harness.image(2_000)
    for case, path in (("events in one piece", ""), ("events one by one", "/apart")):
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
        figures += [sync.figure(REFERENCE, case), plain.figure("moondream-async, async", case)]
    return figures


def _tiny(url: str, threads: int, total: int, rounds: int) -> list[Figure]:
    """An image encoded before: the calls alone."""
    from moondream.types import Base64EncodedImage

    image = harness.image(2_000)
    theirs = Base64EncodedImage(image_url=image.image_url)
    official = _official(url)
    with Client(KEY, base_url=url) as client:
        contestants: dict[str, Callable[[], object]] = {
            REFERENCE: lambda: client.query(image, "what?"),
            "official client": lambda: official.query(theirs, "what?"),
        }
        return _race(f"2 KB, {threads} thread(s)", contestants, total, threads, rounds)


def _photos(url: str, path: Path, name: str, threads: int, total: int) -> list[Figure]:
    """A photo from its file each time, as scripts do."""
    official = _official(url)
    with Client(KEY, base_url=url) as client:
        contestants: dict[str, Callable[[], object]] = {
            REFERENCE: lambda: client.query(path, "what?"),
            "official client": lambda: official.query(Image.open(path), "what?"),
        }
        return _race(f"12 MP photo, {name}, {threads} thread(s)", contestants, total, threads, 3)


def _race(
    case: str, contestants: dict[str, Callable[[], object]], total: int, threads: int, rounds: int
) -> list[Figure]:
    watches = {name: Stopwatch() for name in contestants}
    for _ in range(rounds):
        for name, call in contestants.items():
            call()
            with watches[name].round(total):
                harness.run_threads(call, total=total, threads=threads)
    return [watch.figure(name, case) for name, watch in watches.items()]


def _official(url: str) -> Any:
    import moondream

    return moondream.vl(api_key=KEY, endpoint=f"{url}/v1")


def _photo(folder: Path, orientation: int) -> Path:
    path = folder / f"photo-{orientation}.jpg"
    path.write_bytes(pictures.photo((4000, 3000), orientation))
    return path
