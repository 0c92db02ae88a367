"""Parts of files that are built to exhaust a decoder."""

from __future__ import annotations

import struct
import zlib

from PIL import Image

from tests.support.pictures import file

PNG = file(Image.new("RGB", (64, 64), "red"), "PNG")


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def exif(entries: int, value: int) -> bytes:
    """Return an EXIF block in which all tags refer to the same `value` bytes."""
    at = 14 + 12 * entries
    tags = b"".join(struct.pack("<HHII", 0x9000 + n, 7, value, at) for n in range(entries)) + bytes(4)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", entries) + tags + bytes(value)


def png_with(data: bytes) -> bytes:
    return PNG[:33] + data + PNG[33:]
