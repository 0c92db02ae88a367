"""Films to decode: a frame's red tells its number."""

from __future__ import annotations

from pathlib import Path

import av
from PIL import Image


def film(path: Path, *, frames: int = 30, fps: int = 10, size: tuple[int, int] = (96, 64)) -> Path:
    """A film whose frame number n has a red of 8 * n."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=fps)
        stream.width, stream.height = size
        stream.pix_fmt, stream.bit_rate = "yuv420p", 8_000_000
        for number in range(frames):
            picture = av.VideoFrame.from_image(Image.new("RGB", size, (8 * number, 0, 0)))
            container.mux(stream.encode(picture))
        container.mux(stream.encode())
    return path
