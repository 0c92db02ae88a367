"""Preparing images: ours against the official client's way (decode, convert to RGB, JPEG at quality 95).

What is sent (bytes), what of it reaches the model (megapixels, by the crop grid), how true it is there
(PSNR against the original resized straight to what the model can see at most), wall time, CPU, and the
peak memory of a process that does just this. And the longest stall of an event loop while 20 photos
are prepared beside it.
"""

from __future__ import annotations

import asyncio
import io
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import attrs
from PIL import Image, ImageChops, ImageOps, ImageStat

from moondream_async import AsyncClient
from moondream_async.images.grid import best_size, detail, seen_size
from moondream_async.images.prepare import encode

from .pictures import CASES, photo

REFERENCE = "official way"


@attrs.frozen
class Figure:
    """One way of preparing one image; the times are medians of the rounds."""

    case: str
    contestant: str
    kilobytes: float
    megapixels_seen: float
    psnr: float
    wall_ms: float
    cpu_ms: float
    peak_mb: float


def ours(path: Path) -> bytes:
    return encode(path).data


def official(path: Path) -> bytes:
    buffer = io.BytesIO()
    Image.open(path).convert("RGB").save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


CONTESTANTS: dict[str, Callable[[Path], bytes]] = {"moondream-async": ours, REFERENCE: official}


def run(*, quick: bool) -> list[Figure]:
    """All cases."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (case, draw) in enumerate(CASES.items()):
            path = Path(folder) / f"image-{number}"
            path.write_bytes(draw())
            figures += _case(case, path, 2 if quick else 9)
    return figures


def report(figures: list[Figure]) -> str:
    """A Markdown table; each ratio is ours against the official way."""
    lines = [
        "| case | contestant | KB sent | fewer | MP seen | more | PSNR dB | wall ms | faster | CPU ms | peak MB |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for figure in figures:
        base = next(f for f in figures if f.case == figure.case and f.contestant == REFERENCE)
        fewer, more = base.kilobytes / figure.kilobytes, figure.megapixels_seen / base.megapixels_seen
        lines.append(
            f"| {figure.case} | {figure.contestant} | {figure.kilobytes:,.0f} | {fewer:.1f}x "
            f"| {figure.megapixels_seen:.2f} | {more:.2f}x | {figure.psnr:.1f} "
            f"| {figure.wall_ms:,.0f} | {base.wall_ms / figure.wall_ms:.1f}x "
            f"| {figure.cpu_ms:,.0f} | {figure.peak_mb:,.0f} |"
        )
    alone, beside = longest_stall(0), longest_stall(20)
    lines += [
        "",
        f"Longest stall of the event loop: {beside:.1f} ms while 20 photos are prepared; {alone:.1f} ms idle.",
    ]
    return "\n".join(lines)


def _case(case: str, path: Path, rounds: int) -> list[Figure]:
    wall: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    cpu: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for _ in range(rounds):
        for name, prepare in CONTESTANTS.items():
            started, used = time.perf_counter(), time.process_time()
            prepare(path)
            wall[name].append(time.perf_counter() - started)
            cpu[name].append(time.process_time() - used)
    figures: list[Figure] = []
    for name, prepare in CONTESTANTS.items():
        sent = prepare(path)
        size = Image.open(io.BytesIO(sent)).size
        figures.append(
            Figure(
                case,
                name,
                kilobytes=len(sent) / 1000,
                megapixels_seen=detail(*size) / 1e6,
                psnr=_psnr(path, sent),
                wall_ms=median(wall[name]) * 1000,
                cpu_ms=median(cpu[name]) * 1000,
                peak_mb=_peak(name, path),
            )
        )
    return figures


def _psnr(path: Path, sent: bytes) -> float:
    """How near what the model sees of `sent` is to the most that it can see of the original, in dB."""
    original = Image.open(path).convert("RGB")
    picture = Image.open(io.BytesIO(sent)).convert("RGB")
    if (original.width < original.height) != (picture.width < picture.height):
        original = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    most = seen_size(*best_size(*original.size))
    best = original.resize(most, Image.Resampling.LANCZOS)
    seen = picture.resize(seen_size(*picture.size), Image.Resampling.LANCZOS).resize(most, Image.Resampling.LANCZOS)
    error = sum(ImageStat.Stat(ImageChops.difference(best, seen)).sum2) / (3 * most[0] * most[1])
    return 10 * math.log10(255**2 / error) if error else math.inf


def _peak(name: str, path: Path) -> float:
    """Megabytes that a process of its own needs at most, above what it needs after a tiny image."""
    code = (
        "import sys; from pathlib import Path; from PIL import Image\n"
        "from benchmarks.harness import peak_mb as peak; from benchmarks.images import CONTESTANTS\n"
        "prepare, path = CONTESTANTS[sys.argv[1]], Path(sys.argv[2])\n"
        "tiny = path.with_suffix('.tiny'); Image.new('RGB', (8, 8)).save(tiny, 'JPEG'); prepare(tiny)\n"
        "before = peak(); prepare(path); print(peak() - before)"
    )
    command = [sys.executable, "-c", code, name, str(path)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def longest_stall(count: int) -> float:
    """The longest an event loop was kept from a task that wakes every millisecond, in ms."""
    data = photo((4000, 3000))
    return median(asyncio.run(_stall([bytes(bytearray(data)) for _ in range(count)])) for _ in range(3))


async def _stall(images: list[bytes]) -> float:
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - before - 0.001)

    async with AsyncClient("k") as client:
        await client.encode_image(photo((64, 64)))  # imports and threads are not what is measured
        watching = asyncio.create_task(watch())
        await asyncio.gather(*(client.encode_image(image) for image in images))
        await asyncio.sleep(0.3)
        watching.cancel()
    return longest * 1000
