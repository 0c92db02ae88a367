"""Compare our preparation of images, with and without the extra `fast`, with two other ways.

The official client's way is to decode, convert to RGB and encode as JPEG at quality 95. libvips makes a thumbnail of
the size that we send.

It measures the bytes sent, the megapixels that reach the model through its crop grid, the quality there (PSNR against
the original, resized directly to what the model can see at most), how much of it is lost by not resizing RGB with
Pillow's filters, wall time, CPU, and the peak memory of a process that does nothing else; also the longest stall of an
event loop while 20 photos are prepared.
"""

from __future__ import annotations

import asyncio
import functools
import importlib.util
import io
import math
import operator
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from unittest import mock

from PIL import Image, ImageChops, ImageOps, ImageStat

from moondream_async import AsyncClient
from moondream_async._images import fast, resizing
from moondream_async._images.crop_grid import best_size, detail, seen_size
from moondream_async._images.prepare import encode

from . import harness
from .harness import Column, Figure, value
from .pictures import CASES, photo

OURS, FAST, REFERENCE, LIBVIPS = "moondream-async", "moondream-async, fast", "official way", "libvips thumbnail"

COLUMNS = (
    Column("KB sent", ratio=True),
    Column("MP seen", 2, ratio=True),
    Column("PSNR dB", 1),
    Column("lost dB", 2),
    Column("wall ms"),
    Column("CPU ms", ratio=True),
    Column("peak MB"),
)
STALL = "an event loop while 20 photos are prepared"


def ours(path: Path) -> bytes:
    with mock.patch.object(fast, "is_available", return_value=False):
        return encode(path).data


def ours_fast(path: Path) -> bytes:
    return encode(path).data


def ours_in_rgb(path: Path) -> bytes:
    with mock.patch.object(resizing, "jpeg_mode", return_value="RGB"):
        return ours(path)


def official(path: Path) -> bytes:
    buffer = io.BytesIO()
    Image.open(path).convert("RGB").save(buffer, "JPEG", quality=95)
    return buffer.getvalue()


def libvips(path: Path) -> bytes:
    import pyvips

    width, height = _sent_size(path)
    picture = pyvips.Image.thumbnail_buffer(path.read_bytes(), width, height=height, size="force")
    return bytes(picture.jpegsave_buffer(Q=90))


@functools.cache
def _sent_size(path: Path) -> tuple[int, int]:
    sent = encode(path)
    return sent.width, sent.height


CONTESTANTS: dict[str, Callable[[Path], bytes]] = {OURS: ours, REFERENCE: official}
if fast.is_available():
    CONTESTANTS[FAST] = ours_fast
if importlib.util.find_spec("pyvips") is not None:
    os.environ["VIPS_CONCURRENCY"] = "1"  # read when libvips is loaded
    CONTESTANTS[LIBVIPS] = libvips


def run(*, quick: bool) -> list[Figure]:
    """Run all cases."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        for number, (case, draw) in enumerate(CASES.items()):
            path = Path(folder) / f"image-{number}"
            path.write_bytes(draw())
            figures += _run_case(case, path, 2 if quick else 9)
    stalls = {
        name: _run_in_new_process(f"longest_stall({count})") for name, count in (("stall ms", 20), ("idle ms", 0))
    }
    return [*figures, Figure(STALL, OURS, stalls)]


def report(figures: list[Figure]) -> str:
    """Return the figures as a table."""
    stall = figures[-1].values
    return (
        harness.table(figures[:-1], REFERENCE, COLUMNS)
        + f"\n\nLongest stall of the event loop: {stall['stall ms']:.1f} ms while 20 photos are prepared;"
        + f" {stall['idle ms']:.1f} ms without."
    )


_CPU_BUDGETS = {
    ("1920 x 1080, JPEG", OURS, REFERENCE): 1.9,
    ("1920 x 1080, JPEG", FAST, REFERENCE): 1.15,
    ("1920 x 1080, JPEG", FAST, LIBVIPS): 1.1,
    ("A4 scan at 300 dpi, JPEG", OURS, REFERENCE): 1.2,
    ("A4 scan at 300 dpi, JPEG", FAST, REFERENCE): 1.1,
    ("A4 scan at 300 dpi, JPEG", FAST, LIBVIPS): 1.25,
    ("12 MP photo, JPEG", OURS, REFERENCE): 0.45,
    ("12 MP photo, JPEG", OURS, LIBVIPS): 0.7,
    ("12 MP photo, JPEG", FAST, REFERENCE): 0.45,
    ("12 MP photo, JPEG", FAST, LIBVIPS): 0.7,
    ("12 MP screenshot, PNG", OURS, REFERENCE): 0.85,
    ("12 MP screenshot, PNG", FAST, REFERENCE): 0.85,
    ("12 MP screenshot, PNG", FAST, LIBVIPS): 1.15,
}


def budgets(figures: list[Figure]) -> dict[str, tuple[float, Callable[[float], bool], str]]:
    """Return the budgets, as ratios within this run (and the stall, in milliseconds)."""

    def ratio(name: str, case: str = "12 MP photo, JPEG", contestant: str = OURS, other: str = REFERENCE) -> float:
        return value(figures, case, contestant, name) / value(figures, case, other, name)

    stall = value(figures, STALL, OURS, "stall ms")
    lost = max(figure.values["lost dB"] for figure in figures if "lost dB" in figure.values)
    cpu = {
        f"{case}: CPU{', fast' if contestant == FAST else ''}, x {other}": (
            ratio("CPU ms", case, contestant, other),
            functools.partial(operator.ge, limit),
            f"<= {limit}",
        )
        for (case, contestant, other), limit in _CPU_BUDGETS.items()
    }
    return {
        "12 MP photo: times fewer bytes": (1 / ratio("KB sent"), lambda r: r >= 10, ">= 10"),
        "12 MP photo: times more pixels seen": (ratio("MP seen"), lambda r: r >= 1.4, ">= 1.4"),
        **cpu,
        "PSNR lost by not resizing RGB with Pillow, dB": (lost, lambda r: r <= 0.5, "<= 0.5"),
        "20 photos: longest stall of the loop, ms": (stall, lambda r: r < 10, "< 10"),
    }


def _run_case(case: str, path: Path, rounds: int) -> list[Figure]:
    wall: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    cpu: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    for _ in range(rounds):
        for name, prepare in CONTESTANTS.items():
            started, used = time.perf_counter(), time.process_time()
            prepare(path)
            wall[name].append(time.perf_counter() - started)
            cpu[name].append(time.process_time() - used)
    figures: list[Figure] = []
    most = _psnr(path, ours_in_rgb(path))
    for name, prepare in CONTESTANTS.items():
        sent = prepare(path)
        size = Image.open(io.BytesIO(sent)).size
        psnr = _psnr(path, sent)
        lost = {"lost dB": 0.0 if psnr == most else most - psnr} if name in (OURS, FAST) else {}
        figures.append(
            Figure(
                case,
                name,
                {
                    "KB sent": len(sent) / 1000,
                    "MP seen": detail(*size) / 1e6,
                    "PSNR dB": psnr,
                    **lost,
                    "wall ms": median(wall[name]) * 1000,
                    "CPU ms": median(cpu[name]) * 1000,
                    "peak MB": _peak_memory(name, path),
                },
            )
        )
    return figures


def _psnr(path: Path, sent: bytes) -> float:
    """Return the PSNR of what the model sees of `sent` against the most it could see of the original, in dB."""
    original = Image.open(path).convert("RGB")
    picture = Image.open(io.BytesIO(sent))
    if (original.width < original.height) != (picture.width < picture.height):
        original = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    return psnr(original, picture)


def psnr(original: Image.Image, sent: Image.Image) -> float:
    """Return the PSNR of what the model sees of an image against the most it could see of the original, in dB."""
    limit = seen_size(*best_size(*original.size))
    best = original.resize(limit, Image.Resampling.LANCZOS)
    seen = sent.convert("RGB").resize(seen_size(*sent.size), Image.Resampling.LANCZOS)
    seen = seen.resize(limit, Image.Resampling.LANCZOS)
    error = sum(ImageStat.Stat(ImageChops.difference(best, seen)).sum2) / (3 * limit[0] * limit[1])
    return 10 * math.log10(255**2 / error) if error else math.inf


def _peak_memory(name: str, path: Path) -> float:
    """Return the peak memory of a process that prepares the image, minus what a tiny image needs, in MB."""
    code = (
        "import sys; from pathlib import Path; from PIL import Image\n"
        "from benchmarks.harness import rss_mb; from benchmarks.images import CONTESTANTS, fast\n"
        "prepare, path = CONTESTANTS[sys.argv[1]], Path(sys.argv[2])\n"
        "tiny = path.with_suffix('.tiny'); Image.new('RGB', (8, 8)).save(tiny, 'JPEG'); prepare(tiny)\n"
        "fast.is_available(); before = rss_mb('VmHWM'); prepare(path); print(rss_mb('VmHWM') - before)"
    )
    command = [sys.executable, "-c", code, name, str(path)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def _run_in_new_process(expression: str) -> float:
    """Evaluate in a process where objects of other benchmarks do not make garbage collection slower."""
    code = f"from benchmarks.images import longest_stall; print({expression})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout)


def longest_stall(count: int) -> float:
    """Return the longest delay of a task that wakes every millisecond, in ms."""
    data = photo((4000, 3000))
    return median(asyncio.run(_measure_stall([bytes(bytearray(data)) for _ in range(count)])) for _ in range(3))


async def _measure_stall(images: list[bytes]) -> float:
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            before = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - before - 0.001)

    async with AsyncClient("k") as client:
        await client.encode_image(photo((1600, 1200)))  # import modules and start threads before the measurement
        watcher = asyncio.create_task(watch())
        await asyncio.gather(*(client.encode_image(image) for image in images))
        await asyncio.sleep(0.3)
        watcher.cancel()
    return longest * 1000
