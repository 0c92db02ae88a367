"""Films to decode: a frame's red tells its number."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
from PIL import Image


def film(
    path: Path,
    *,
    frames: int = 30,
    fps: int = 10,
    size: tuple[int, int] = (96, 64),
    codec: str = "mpeg4",
    format: str | None = None,
    shift: Callable[[int], int] = lambda number: 0,
) -> Path:
    """Make a film whose frame number n has a red of 8 * n.

    Args:
        path: Where to.
        frames: How many.
        fps: Frames per second.
        size: Width and height.
        codec: FFmpeg's name for it.
        format: The container's; None goes by the path's ending.
        shift: Frames' durations to add to the time of packet n.
    """
    with av.open(str(path), "w", format=format) as container:
        stream: Any = container.add_stream(codec, rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt, stream.bit_rate = "yuvj420p" if codec == "mjpeg" else "yuv420p", 8_000_000
        pictures = [av.VideoFrame.from_image(Image.new("RGB", size, (8 * n % 256, 0, 0))) for n in range(frames)]
        packets = [packet for picture in [*pictures, None] for packet in stream.encode(picture)]
        for number, packet in enumerate(packets):
            later = int(shift(number) / (fps * packet.time_base))
            packet.pts, packet.dts = packet.pts + later, packet.dts + later
            container.mux(packet)
    return path
