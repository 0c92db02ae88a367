"""Compare taking frames of a film for a skill with doing the same by hand with PyAV.

The film is 1920 x 1080, H.264, 30 frames per second, with a key frame every 2 seconds; 10 frames per second are taken
and prepared for sending. By hand, they are decoded with PyAV, scaled by swscale to the size that we send, and saved as
JPEG at quality 90. The cost of decoding all frames is included in both, and measured separately.

PSNR compares what the model sees with the most that it could see of the picture that was drawn, before its compression.
"""

from __future__ import annotations

import io
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import av
from PIL import Image

from moondream_async._images import fast
from moondream_async._images.prepare import encode
from moondream_async.video import frames

from . import harness
from .harness import Column, Figure, value
from .images import psnr
from .pictures import photo, screenshot

SIZE = (1920, 1080)
FPS, TAKEN_FPS = 30, 10
OURS, FAST, REFERENCE, DECODING = "moondream-async", "moondream-async, fast", "by hand", "decoding alone"
COLUMNS = (Column("CPU ms a frame", 1, ratio=True), Column("KB a frame"), Column("PSNR dB", 1))


def ours(path: Path) -> Iterator[bytes]:
    with mock.patch.object(fast, "is_available", return_value=False):
        yield from ours_fast(path)


def ours_fast(path: Path) -> Iterator[bytes]:
    for frame in frames(path, fps=TAKEN_FPS):
        yield encode(frame.image).data


def by_hand(path: Path) -> Iterator[bytes]:
    for frame in _taken(path):
        buffer = io.BytesIO()
        frame.reformat(width=1176, height=662, format="rgb24").to_image().save(buffer, "JPEG", quality=90)
        yield buffer.getvalue()


def decoding(path: Path) -> Iterator[bytes]:
    for _ in _taken(path):
        yield b""


def _taken(path: Path) -> Iterator[Any]:
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        stream.thread_type = "AUTO"
        for number, frame in enumerate(container.decode(stream)):
            if number % (FPS // TAKEN_FPS) == 0:
                yield frame


CONTESTANTS: dict[str, Callable[[Path], Iterator[bytes]]] = {OURS: ours, REFERENCE: by_hand, DECODING: decoding}
if fast.is_available():
    CONTESTANTS[FAST] = ours_fast


def run(*, quick: bool) -> list[Figure]:
    """Run all cases."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        for case, source in (("photo", photo), ("screen", lambda size: screenshot(size, text=16))):
            picture = Image.open(io.BytesIO(source((SIZE[0] + 200, SIZE[1])))).convert("RGB")
            path = Path(folder) / f"{case}.mp4"
            _draw_film(path, picture, frames=FPS * (1 if quick else 4))
            figures += _run_case(case, path, picture.crop((0, 0, *SIZE)), 2 if quick else 7)
    return figures


def report(figures: list[Figure]) -> str:
    """Return the figures as a table."""
    return harness.table(figures, REFERENCE, COLUMNS)


def budgets(figures: list[Figure]) -> dict[str, tuple[float, Callable[[float], bool], str]]:
    """Return the budgets, as ratios within this run."""

    def ratio(contestant: str) -> float:
        return value(figures, "photo", contestant, "CPU ms a frame") / value(
            figures, "photo", REFERENCE, "CPU ms a frame"
        )

    return {
        f"CPU of a frame{name}, x by hand": (ratio(contestant), lambda r: r <= 1.3, "<= 1.3")
        for name, contestant in (("", OURS), (", fast", FAST))
    }


def _draw_film(path: Path, picture: Image.Image, *, frames: int) -> None:
    """Write a film in which the camera moves over a picture."""
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        stream.gop_size = 2 * FPS
        stream.options = {"crf": "18"}
        for number in range(frames):
            at = number % 100
            frame = av.VideoFrame.from_image(picture.crop((at, 0, at + SIZE[0], SIZE[1])))
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def _run_case(case: str, path: Path, first: Image.Image, rounds: int) -> list[Figure]:
    cpu: dict[str, list[float]] = {name: [] for name in CONTESTANTS}
    sent: dict[str, list[bytes]] = {}
    for _ in range(rounds):
        for name, take in CONTESTANTS.items():
            started = time.process_time()
            sent[name] = list(take(path))
            cpu[name].append((time.process_time() - started) / len(sent[name]))
    figures: list[Figure] = []
    for name in CONTESTANTS:
        values = {"CPU ms a frame": median(cpu[name]) * 1000}
        if name != DECODING:
            values |= {"KB a frame": sum(map(len, sent[name])) / len(sent[name]) / 1000}
            values |= {"PSNR dB": psnr(first, Image.open(io.BytesIO(sent[name][0])))}
        figures.append(Figure(case, name, values))
    return figures
