"""Videos to decode: the red of a frame encodes its number."""

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
    gop: int | None = None,
    options: dict[str, str] | None = None,
) -> Path:
    """Write a video in which frame number n has a red of 8 * n.

    Args:
        path: File to write.
        frames: Number of frames.
        fps: Frames per second.
        size: Width and height.
        codec: FFmpeg's name of the codec.
        format: Container format; None for that of the path's extension.
        shift: Returns how many frames to add to the time of packet n.
        gop: Frames from one key frame to the next; None for the codec's default.
        options: More options of the codec.
    """
    with av.open(str(path), "w", format=format) as container:
        stream: Any = container.add_stream(codec, rate=fps)
        stream.width, stream.height = size
        if gop is not None:
            stream.gop_size = gop
        stream.options = options or {}
        stream.pix_fmt, stream.bit_rate = "yuvj420p" if codec == "mjpeg" else "yuv420p", 8_000_000
        pictures = [av.VideoFrame.from_image(Image.new("RGB", size, (8 * n % 256, 0, 0))) for n in range(frames)]
        packets = [packet for picture in [*pictures, None] for packet in stream.encode(picture)]
        for number, packet in enumerate(packets):
            offset = int(shift(number) / (fps * packet.time_base))
            packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
            container.mux(packet)
    return path
