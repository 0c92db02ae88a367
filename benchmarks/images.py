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

from PIL import Image, ImageChops, ImageOps, ImageStat

from moondream_async import AsyncClient
from moondream_async._images.crop_grid import best_size, detail, seen_size
from moondream_async._images.prepare import encode

from . import harness
from .harness import Column, Figure, value
from .pictures import CASES, photo

REFERENCE = "official way"


COLUMNS = (
    Column("KB sent", ratio=True),
    Column("MP seen", 2, ratio=True),
    Column("PSNR dB", 1),
    Column("wall ms", ratio=True),
    Column("CPU ms"),
    Column("peak MB"),
)
STALL = "20 photos beside an event loop"


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
    stalls = {name: _in_a_new_process(f"longest_stall({count})") for name, count in (("stall ms", 20), ("idle ms", 0))}
    return [*figures, Figure(STALL, "moondream-async", stalls)]


def report(figures: list[Figure]) -> str:
    """The table."""
    stall = figures[-1].values
    return (
        harness.table(figures[:-1], REFERENCE, COLUMNS)
        + f"\n\nLongest stall of the event loop: {stall['stall ms']:.1f} ms beside 20 photos;"
        + f" {stall['idle ms']:.1f} ms beside none."
    )


def budgets(figures: list[Figure]) -> dict[str, tuple[float, Callable[[float], bool], str]]:
    """What has to hold, as ratios within this run (and the stall, in milliseconds)."""

    def ratio(name: str) -> float:
        mine, theirs = (value(figures, "12 MP photo, JPEG", who, name) for who in ("moondream-async", REFERENCE))
        return mine / theirs

    stall = value(figures, STALL, "moondream-async", "stall ms")
    return {
        "12 MP photo: bytes, fewer by": (1 / ratio("KB sent"), lambda r: r >= 10, ">= 10"),
        "12 MP photo: pixels seen, more by": (ratio("MP seen"), lambda r: r >= 1.4, ">= 1.4"),
        "12 MP photo: wall time, of the official way's": (ratio("wall ms"), lambda r: r <= 1, "<= 1"),
        "20 photos: stall of the loop, ms": (stall, lambda r: r < 10, "< 10"),
    }


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
                {
                    "KB sent": len(sent) / 1000,
                    "MP seen": detail(*size) / 1e6,
                    "PSNR dB": _psnr(path, sent),
                    "wall ms": median(wall[name]) * 1000,
                    "CPU ms": median(cpu[name]) * 1000,
                    "peak MB": _peak(name, path),
                },
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
        "from benchmarks.harness import rss_mb; from benchmarks.images import CONTESTANTS\n"
        "prepare, path = CONTESTANTS[sys.argv[1]], Path(sys.argv[2])\n"
        "tiny = path.with_suffix('.tiny'); Image.new('RGB', (8, 8)).save(tiny, 'JPEG'); prepare(tiny)\n"
        "before = rss_mb('VmHWM'); prepare(path); print(rss_mb('VmHWM') - before)"
    )
    command = [sys.executable, "-c", code, name, str(path)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _in_a_new_process(expression: str) -> float:
    """Where what other benchmarks have left in memory makes no garbage collection longer."""
    code = f"from benchmarks.images import longest_stall; print({expression})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


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
