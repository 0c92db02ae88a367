"""Check an ICO before Pillow opens it, because opening it already decodes it (pure)."""

from __future__ import annotations

import struct
from typing import NamedTuple

from . import formats
from .limits import refused

_MAX_BYTES, _MAX_PICTURES = 4 * 1024 * 1024, 64
_RUN_LENGTHS = (1, 2)  # bitmap compressions that Pillow decodes in Python


class _Entry(NamedTuple):
    pixels: int
    depth: int
    content: bytes


def largest_png(data: bytes) -> bytes | None:
    """Return the icon's largest picture if it is a PNG; None if it is a bitmap, which is left to Pillow's reader.

    Raises:
        ImageError: The file has more bytes or pictures than an icon, or a bitmap that icons do not have.
    """
    count = int.from_bytes(data[4:6], "little")
    if len(data) > _MAX_BYTES or count > _MAX_PICTURES:
        raise refused("more bytes or pictures than an icon has")
    entries = [_read_entry(data, 6 + 16 * index) for index in range(count) if 22 + 16 * index <= len(data)]
    for entry in entries:
        if not _is_png(entry):
            _check_bitmap(entry.content)
    # Pillow's choice: the largest, and of several the one with the fewest colors.
    largest = min(entries, key=lambda entry: (-entry.pixels, entry.depth), default=None)
    return largest.content if largest and _is_png(largest) else None


def _is_png(entry: _Entry) -> bool:
    return formats.detect_format(entry.content) == "PNG"


def _read_entry(data: bytes, at: int) -> _Entry:
    width, height, colors, _, _, bits, size, offset = struct.unpack_from("<BBBBHHII", data, at)
    depth = bits or (colors and (colors - 1).bit_length()) or 256
    return _Entry((width or 256) * (height or 256), depth, data[offset : offset + size])


def _check_bitmap(content: bytes) -> None:
    if len(content) < 20:
        return
    width, height = struct.unpack_from("<ii", content, 4)
    (compression,) = struct.unpack_from("<I", content, 16)
    if compression in _RUN_LENGTHS:
        raise refused("a picture of run lengths, which icons do not have")
    if abs(width * height) > 8 * _MAX_BYTES:  # at one bit per pixel, more than the file can hold
        raise refused("a picture that is larger than an icon")
