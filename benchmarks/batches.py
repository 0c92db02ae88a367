"""Batches of 100,000 lines, and from a file of 1 GB, through the sandbox: speed, and memory as they grow."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from moondream_async import AsyncClient, EncodedImage
from moondream_async._batches.models import BatchJob

from . import harness
from .harness import KEY, Column, Figure, value

LINES, SIZE = 100_000, 1_000_000_000
DISTINCT = 20  # pictures; the sandbox looks at each once
COLUMNS = (
    Column("lines"),
    Column("MB sent"),
    Column("lines per second"),
    Column("MB per second", 1),
    Column("peak MB", 1),
)
CREATE, SUBMIT, RESULTS = "create, from prepared images", "submit, a ready file", "results"
SANDBOX = "from moondream_async._cli import main; main(['sandbox', '--port', '0'])"


def run(*, quick: bool) -> list[Figure]:
    """Both cases, and each in a tenth of its size, to see what grows."""
    figures: list[Figure] = []
    scales = (100, 10) if quick else (10, 1)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, _sandbox() as (url, memory):
        for scale in scales:
            figures += asyncio.run(_lines(url, Path(folder), LINES // scale))
            figures += asyncio.run(_file(url, Path(folder), SIZE // scale))
        figures.append(Figure("all of it", "the sandbox", {"peak MB": memory()}))
    return figures


def report(figures: list[Figure]) -> str:
    """The table."""
    return harness.table(figures, "", COLUMNS)


def budgets(figures: list[Figure]) -> dict[str, tuple[float, Callable[[float], bool], str]]:
    """What has to hold within this run: memory does not grow with the job."""
    found: dict[str, tuple[float, Callable[[float], bool], str]] = {}
    for case in (_case(LINES), _size_case(SIZE)):
        for who in (CREATE, SUBMIT, RESULTS):
            peak = value(figures, case, who, "peak MB")
            if peak == peak:
                found[f"{case}, {who}: MB taken"] = (peak, lambda mb: mb <= 40, "<= 40")
    return found


async def _lines(url: str, folder: Path, count: int) -> list[Figure]:
    pictures = [_png(seed) for seed in range(DISTINCT)]

    def items() -> Iterator[tuple[str, EncodedImage]]:
        for number in range(count):
            yield f"photos/{number:07}.jpg", pictures[number % DISTINCT]

    async def hand_in(client: AsyncClient, where: Path) -> BatchJob:
        return await client.batches.create(items(), "caption", folder=where)

    return await _measured(url, folder, _case(count), CREATE, hand_in)


async def _file(url: str, folder: Path, size: int) -> list[Figure]:
    path = folder / "ready.jsonl"
    pictures = [_jpeg(seed) for seed in range(DISTINCT)]
    with path.open("wb") as file:
        for number in range(size // len(pictures[0])):
            line = {"id": number, "skill": "caption", "image": pictures[number % DISTINCT]}
            file.write(json.dumps(line).encode() + b"\n")

    async def hand_in(client: AsyncClient, where: Path) -> BatchJob:
        return await client.batches.submit(path, folder=where)

    return await _measured(url, folder, _size_case(size), SUBMIT, hand_in)


async def _measured(
    url: str, folder: Path, case: str, name: str, hand_in: Callable[[AsyncClient, Path], Awaitable[BatchJob]]
) -> list[Figure]:
    where = Path(tempfile.mkdtemp(dir=folder)) / "job"
    async with AsyncClient(KEY, base_url=url) as client:
        with _watched() as handed:
            job = await hand_in(client, where)
        sent = client.stats.bytes_sent / 1e6
        lines = (await client.batches.wait(job)).progress.total
        ok = 0
        with _watched() as read:
            async for outcome in client.batches.results(job):
                ok += outcome.ok
    assert ok == lines == job.items, (ok, lines, job.items)
    return [
        Figure(case, name, _figures(handed, lines, sent)),
        Figure(case, RESULTS, _figures(read, lines, None)),
    ]


def _figures(watched: dict[str, float], lines: int, sent: float | None) -> dict[str, float]:
    found = {"lines": lines, "lines per second": lines / watched["seconds"], "peak MB": watched["peak"]}
    return found if sent is None else {**found, "MB sent": sent, "MB per second": sent / watched["seconds"]}


@contextmanager
def _watched() -> Generator[dict[str, float]]:
    found: dict[str, float] = {}
    harness.reset_peak()
    before, started = harness.rss_mb(), time.perf_counter()
    yield found
    found["seconds"] = time.perf_counter() - started
    found["peak"] = max(0.0, harness.rss_mb("VmHWM") - before)


@contextmanager
def _sandbox() -> Generator[tuple[str, Callable[[], float]]]:
    """The sandbox in a process of its own, and the most memory that it has had."""
    process = subprocess.Popen([sys.executable, "-c", SANDBOX], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        found = re.search(r"http://\S+", process.stdout.readline())
        assert found is not None
        yield found[0], lambda: harness.rss_mb("VmHWM", process.pid)
    finally:
        process.terminate()
        process.wait(10)
        process.stdout.close()


def _png(seed: int) -> EncodedImage:
    """A small picture: 24 pixels a side."""
    out = io.BytesIO()
    Image.new("RGB", (24, 24), (seed * 12, 60, 200)).save(out, "PNG")
    return EncodedImage.of(out.getvalue(), media_type="image/png", size=(24, 24), original=(24, 24))


def _jpeg(seed: int) -> str:
    """The base64 of a picture of the size that photographs are sent in: some 250 KB."""
    dice: Any = random.Random(seed)
    noise = Image.frombytes("L", (1000, 750), dice.randbytes(750_000)).convert("RGB")
    out = io.BytesIO()
    noise.save(out, "JPEG", quality=20)
    return base64.b64encode(out.getvalue()).decode()


def _case(lines: int) -> str:
    return f"{lines:,} lines"


def _size_case(size: int) -> str:
    return f"{size / 1e9:g} GB"
