"""Files built to exhaust a decoder are refused; their harmless neighbours are not."""

from __future__ import annotations

import struct
import zlib

import pytest
from PIL import Image

from moondream_async import ImageError
from moondream_async.images.prepare import encode
from tests.support.pictures import file

JPEG = file(Image.new("RGB", (64, 64), "red"), "JPEG", progressive=True)
PNG = file(Image.new("RGB", (64, 64), "red"), "PNG")
GIF = file(Image.new("P", (16, 16)), "GIF")
TIFF = file(Image.new("RGB", (16, 16)), "TIFF")


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def exif(entries: int, value: int) -> bytes:
    """An EXIF block of so many tags, each claiming the same `value` bytes."""
    at = 14 + 12 * entries
    tags = b"".join(struct.pack("<HHII", 0x9000 + n, 7, value, at) for n in range(entries)) + bytes(4)
    return b"II*\0\x08\0\0\0" + struct.pack("<H", entries) + tags + bytes(value)


def png_with(data: bytes) -> bytes:
    return PNG[:33] + data + PNG[33:]


def gif_with(data: bytes) -> bytes:
    at = 13 + 3 * (2 << (GIF[10] & 7))
    return GIF[:at] + data + GIF[at:]


def jpeg_with_exif(block: bytes) -> bytes:
    pieces = [b"Exif\0\0" + block[at : at + 60_000] for at in range(0, len(block), 60_000)]
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(piece) + 2) + piece for piece in pieces)
    return JPEG[:2] + segments + JPEG[2:]


def repeated_scans(count: int) -> bytes:
    last = JPEG.rfind(b"\xff\xda")
    return JPEG[:-2] + JPEG[last:-2] * count + JPEG[-2:]


def big_tags(count: int, value: int) -> bytes:
    at = struct.unpack_from("<I", TIFF, 4)[0]
    (entries,) = struct.unpack_from("<H", TIFF, at)
    kept = TIFF[at + 2 : at + 2 + 12 * entries]
    end = len(TIFF) + 2 + 12 * (entries + count) + 4
    more = b"".join(struct.pack("<HHII", 60_000 + n, 1, value, end) for n in range(count))
    table = struct.pack("<H", entries + count) + kept + more + bytes(4)
    return TIFF[:4] + struct.pack("<I", len(TIFF)) + TIFF[8:] + table + bytes(value)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (repeated_scans(100), "more than 64 scans"),
        (JPEG[:2] + b"\xff\xfe\0\2" * 200_000 + JPEG[2:], "segments"),
        (jpeg_with_exif(exif(5000, 200_000)), "claim more bytes"),
        (png_with(chunk(b"eXIf", exif(5000, 200_000))), "claim more bytes"),
        (png_with(chunk(b"abCd", b"") * 200_000), "chunks"),
        (png_with(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(100_000_000)))), "cannot be decoded"),
        (png_with(chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(1_000_000))) * 100), "cannot be decoded"),
        (png_with(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(100_000_000)))), "cannot be decoded"),
        (gif_with(b"!\xfe" + b"\1a" * 200_000 + b"\0"), "blocks"),
        (gif_with(b"!\xf0\1a\0" * 200_000), "blocks"),
        (big_tags(500, 1_000_000), "claim more bytes"),
        (b"P3 5000 5000 255 " + b"1 " * 10_000_000, "read slowly"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_built_to_exhaust(data: bytes, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        encode(data)


@pytest.mark.parametrize(
    "data",
    [
        JPEG,
        repeated_scans(20),
        jpeg_with_exif(exif(1, 50_000)),
        png_with(chunk(b"eXIf", exif(20, 1000))),
        png_with(chunk(b"tEXt", b"a\0b") * 1000),
        gif_with(b"!\xfe\3abc\0" * 100),
        big_tags(1, 1_000_000),
        file(Image.new("RGB", (16, 16)), "TIFF", big_tiff=True),
        b"P3 2 1 255 1 2 3 4 5 6 ",
    ],
    ids=range(9),
)
def test_harmless(data: bytes) -> None:
    assert encode(data).width > 0
