"""Measure the speed and memory of batches of 100,000 lines, and from a file of 1 GB, against the sandbox."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import random
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
from .harness import KEY, Budget, Column, Figure, at_most, value

LINES, SIZE = 100_000, 1_000_000_000
DISTINCT = 20  # images; the sandbox analyzes each only once
COLUMNS = (
    Column("lines"),
    Column("MB sent"),
    Column("lines per second"),
    Column("MB per second", 1),
    Column("peak MB", 1),
)
CREATE, SUBMIT, RESULTS = "create, from prepared images", "submit, a ready file", "results"


def run(*, quick: bool) -> list[Figure]:
    """Run both cases, first at a tenth of their size, to see what grows."""
    figures: list[Figure] = []
    scales = (100, 10) if quick else (10, 1)
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder, harness.sandbox() as (url, memory):
        for scale in scales:
            figures += asyncio.run(_run_lines(url, Path(folder), LINES // scale))
            figures += asyncio.run(_run_file(url, Path(folder), SIZE // scale))
        figures.append(Figure("all of it", "the sandbox", {"peak MB": memory()}))
    return figures


def report(figures: list[Figure]) -> str:
    """Return the figures as a table."""
    return harness.table(figures, "", COLUMNS)


def budgets(figures: list[Figure]) -> dict[str, Budget]:
    """Return the budgets: memory must not grow with the job."""
    limits: dict[str, Budget] = {}
    for case in (_lines_case(LINES), _size_case(SIZE)):
        for contestant in (CREATE, SUBMIT, RESULTS):
            peak = value(figures, case, contestant, "peak MB")
            if peak == peak:
                limits[f"{case}, {contestant}: peak MB"] = at_most(peak, 40)
    return limits


async def _run_lines(url: str, folder: Path, count: int) -> list[Figure]:
    pictures = [_small_png(seed) for seed in range(DISTINCT)]

    def items() -> Iterator[tuple[str, EncodedImage]]:
        for number in range(count):
            yield f"photos/{number:07}.jpg", pictures[number % DISTINCT]

    async def submit(client: AsyncClient, where: Path) -> BatchJob:
        return await client.batches.create(items(), "caption", folder=where)

    return await _run_case(url, folder, _lines_case(count), CREATE, submit)


async def _run_file(url: str, folder: Path, size: int) -> list[Figure]:
    path = folder / "ready.jsonl"
    pictures = [_photo_base64(seed) for seed in range(DISTINCT)]
    with path.open("wb") as file:
        for number in range(size // len(pictures[0])):
            line = {"id": number, "skill": "caption", "image": pictures[number % DISTINCT]}
            file.write(json.dumps(line).encode() + b"\n")

    async def submit(client: AsyncClient, where: Path) -> BatchJob:
        return await client.batches.submit(path, folder=where)

    return await _run_case(url, folder, _size_case(size), SUBMIT, submit)


async def _run_case(
    url: str, folder: Path, case: str, name: str, submit: Callable[[AsyncClient, Path], Awaitable[BatchJob]]
) -> list[Figure]:
    where = Path(tempfile.mkdtemp(dir=folder)) / "job"
    async with AsyncClient(KEY, base_url=url) as client:
        with _measure() as submission:
            job = await submit(client, where)
        sent = client.stats.bytes_sent / 1e6
        lines = (await client.batches.wait(job)).progress.total
        ok = 0
        with _measure() as reading:
            async for outcome in client.batches.results(job):
                ok += outcome.ok
    assert ok == lines == job.items, (ok, lines, job.items)
    return [
        Figure(case, name, _figures(submission, lines, sent)),
        Figure(case, RESULTS, _figures(reading, lines, None)),
    ]


def _figures(measured: dict[str, float], lines: int, sent: float | None) -> dict[str, float]:
    values = {"lines": lines, "lines per second": lines / measured["seconds"], "peak MB": measured["peak"]}
    return values if sent is None else {**values, "MB sent": sent, "MB per second": sent / measured["seconds"]}


@contextmanager
def _measure() -> Generator[dict[str, float]]:
    """Measure the time and the peak memory of the block."""
    measured: dict[str, float] = {}
    harness.reset_peak()
    before, started = harness.rss_mb(), time.perf_counter()
    yield measured
    measured["seconds"] = time.perf_counter() - started
    measured["peak"] = max(0.0, harness.rss_mb("VmHWM") - before)


def _small_png(seed: int) -> EncodedImage:
    """Return a small image: 24 pixels a side."""
    out = io.BytesIO()
    Image.new("RGB", (24, 24), (seed * 12, 60, 200)).save(out, "PNG")
    return EncodedImage.of(out.getvalue(), media_type="image/png", size=(24, 24), original=(24, 24))


def _photo_base64(seed: int) -> str:
    """Return an image of about 250 KB, the size in which photos are sent, as base64."""
    dice: Any = random.Random(seed)
    noise = Image.frombytes("L", (1000, 750), dice.randbytes(750_000)).convert("RGB")
    out = io.BytesIO()
    noise.save(out, "JPEG", quality=20)
    return base64.b64encode(out.getvalue()).decode()


def _lines_case(lines: int) -> str:
    return f"{lines:,} lines"


def _size_case(size: int) -> str:
    return f"{size / 1e9:g} GB"
