"""Files built to exhaust a decoder are refused; similar harmless files are not."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

import pytest
from PIL import Image

from moondream_async import ImageError
from moondream_async._images.prepare import encode
from tests.support.hostile import PNG, chunk, exif, png_with
from tests.support.pictures import file

JPEG = file(Image.new("RGB", (64, 64), "red"), "JPEG", progressive=True)
GIF = file(Image.new("P", (16, 16)), "GIF")
TIFF = file(Image.new("RGB", (16, 16)), "TIFF")


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


def bmp_of_runs(width: int, height: int, runs: bytes) -> bytes:
    head = struct.pack("<IiiHHIIiiII", 40, width, height, 1, 8, 1, len(runs), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 1078) + head + bytes(1024) + runs


def icon(inner: bytes) -> bytes:
    return b"\0\0\1\0\1\0" + struct.pack("<BBBBHHII", 16, 16, 0, 0, 1, 32, len(inner), 22) + inner


def many_strips(count: int) -> bytes:
    table = [(256, 4, 1, 1), (257, 4, 1, count), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1), (278, 3, 1, 1)]
    at = 8 + 2 + 12 * 8 + 4
    table[5:5] = [(273, 4, count, at), (279, 4, count, at + 4 * count)]
    tags = b"".join(struct.pack("<HHII", *tag) for tag in sorted(table))
    offsets = struct.pack("<I", at + 8 * count) * count
    return b"II*\0\x08\0\0\0" + struct.pack("<H", 8) + tags + bytes(4) + offsets + struct.pack("<I", 1) * count + b"x"


def jpeg_with(segments: bytes) -> bytes:
    return JPEG[:2] + segments + JPEG[2:]


def segment(kind: int, data: bytes) -> bytes:
    return bytes((0xFF, kind)) + struct.pack(">H", len(data) + 2) + data


def scans_after_a_false_end(count: int) -> bytes:
    """Return a JPEG with scans after a comment that contains the end-of-image marker."""
    last = JPEG.rfind(b"\xff\xda")
    return JPEG[:-2] + segment(0xFE, b"\xff\xd9") + JPEG[last:-2] * count + JPEG[-2:]


def tiff_of(tags: list[tuple[int, int, int, int]], body: bytes) -> bytes:
    """Return a TIFF with these tags; `body` follows them."""
    entries = b"".join(struct.pack("<HHII", *tag) for tag in sorted(tags))
    return b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)) + entries + bytes(4) + body


def gray(width: int, height: int, compression: int = 1) -> list[tuple[int, int, int, int]]:
    return [(256, 4, 1, width), (257, 4, 1, height), (258, 3, 1, 8), (259, 3, 1, compression), (262, 3, 1, 1)]


def shared_strips(count: int, nbytes: int) -> bytes:
    """Return a TIFF with one row per strip, all with the same bytes."""
    at = 8 + 2 + 12 * 8 + 4
    tags = [(273, 4, count, at), (278, 4, 1, 1), (279, 4, count, at + 4 * count)]
    offsets, lengths = struct.pack("<I", at + 8 * count) * count, struct.pack("<I", nbytes) * count
    return tiff_of(gray(nbytes, count) + tags, offsets + lengths + bytes(nbytes))


def tiff_with(tag: tuple[int, int, int, int], body: bytes) -> bytes:
    return tiff_of([*gray(16, 16), tag], body)


def tiff_of_tile(side: int) -> bytes:
    body = zlib.compress(bytes(side * min(side, 256)))
    at = 8 + 2 + 12 * 9 + 4
    tags = [(322, 4, 1, side), (323, 4, 1, side), (324, 4, 1, at), (325, 4, 1, len(body))]
    return tiff_of(gray(16, 16, 8) + tags, body)


def overlapping_directories() -> bytes:
    """Return a TIFF with sixteen pointers to directories that share their entries."""
    count, at = 20_000, 8 + 2 + 12 * 21 + 4
    pointers = [(0x8769, 4, 1, at + 12 * index) for index in range(16)]
    return tiff_of(gray(16, 16) + pointers, struct.pack("<H", count) + b"\xff" * 12 * (count + 20))


def webp_of_canvas(width: int, height: int) -> bytes:
    """Return a WebP of one frame of 64 x 64 pixels on a canvas of this size."""
    picture = file(Image.new("RGB", (64, 64), "red"), "WEBP")[12:]
    frame = bytes(6) + (63).to_bytes(3, "little") * 2 + bytes(4) + picture
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    chunks = ((b"VP8X", b"\2\0\0\0" + sides), (b"ANIM", bytes(6)), (b"ANMF", frame))
    body = b"WEBP" + b"".join(name + struct.pack("<I", len(content)) + content for name, content in chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


DECOYS = segment(0xFE, b"II*\0" * 20)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (lambda: jpeg_with(segment(0xE1, b"Exif\0\0" + bytes(100)) * 95_000), "segments"),
        (lambda: jpeg_with(DECOYS)[: 2 + len(DECOYS)] + jpeg_with_exif(exif(5000, 200_000))[2:], "claim more bytes"),
        (lambda: jpeg_with_exif(exif(5000, 60_000)).replace(b"Exif\0\0II*\0", b"Exif\0\0II*\0", 1), "claim more bytes"),
        (lambda: bmp_of_runs(13_000, 13_000, b"\x1a\0\0" * 100), "read slowly"),
        (lambda: b"P6" + b" " * 10_000_000 + b"1 1 255 aaa", "whose header does not end"),
        (lambda: b"P6 #" + b"a" * 10_000_000 + b"\n1 1 255 aaa", "whose header does not end"),
        (lambda: many_strips(200_000), "pieces"),
        (lambda: shared_strips(1000, 60_000), "share their bytes"),
        (lambda: tiff_with((282, 5, 1_000_000, 8), bytes(8_000_000)), "numbers in its tags"),
        (lambda: tiff_of_tile(30_000), "far larger than the image"),
        (lambda: overlapping_directories(), "overlap"),
        (lambda: jpeg_with(segment(0xE2, b"MPF\0" + exif(4000, 10_000))), "claim more bytes"),
        (lambda: JPEG[:2] + b"\xff" * 3_000_000 + JPEG[2:], "belongs to no segment"),
        (lambda: JPEG[:2] + b"\xff\xfe\0\2" + bytes(3_000_000) + JPEG[2:], "belongs to no segment"),
        (lambda: JPEG[:2] + b"\xff\xd0" * 200_000 + JPEG[2:], "segments"),
        (lambda: JPEG[:2] + b"\xff" + jpeg_with_exif(exif(5000, 200_000))[2:], "claim more bytes"),
        (lambda: scans_after_a_false_end(100), "more than 64 scans"),
        (lambda: webp_of_canvas(1 << 24, 255), "refused undecoded"),
        (lambda: icon(PNG + bytes(5_000_000)), "icon"),
        (lambda: icon(bmp_of_runs(5000, 5000, b"\0\1")[14:]), "run lengths"),
        (lambda: icon(struct.pack("<IiiHHIIiiII", 40, 13_000, 26_000, 1, 32, 0, 0, 0, 0, 0, 0)), "larger than an icon"),
        (lambda: icon(png_with(chunk(b"abCd", b"") * 200_000)), "chunks"),
        (lambda: repeated_scans(100), "more than 64 scans"),
        (lambda: JPEG[:2] + b"\xff\xfe\0\2" * 200_000 + JPEG[2:], "segments"),
        (lambda: jpeg_with_exif(exif(5000, 200_000)), "claim more bytes"),
        (lambda: png_with(chunk(b"eXIf", exif(5000, 200_000))), "claim more bytes"),
        (lambda: png_with(chunk(b"abCd", b"") * 200_000), "chunks"),
        (lambda: png_with(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(100_000_000)))), "color profile of more than"),
        (lambda: gif_with(b"!\xfe" + b"\1a" * 200_000 + b"\0"), "blocks"),
        (lambda: gif_with(b"!\xf0\1a\0" * 200_000), "blocks"),
        (lambda: big_tags(500, 1_000_000), "claim more bytes"),
        (lambda: b"P3 5000 5000 255 " + b"1 " * 10_000_000, "read slowly"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_rejected_images(data: Callable[[], bytes], says: str) -> None:
    with pytest.raises(ImageError, match=says):
        encode(data())


@pytest.mark.parametrize(
    "data",
    [
        lambda: JPEG,
        lambda: repeated_scans(20),
        lambda: jpeg_with_exif(exif(1, 50_000)),
        lambda: png_with(chunk(b"eXIf", exif(20, 1000))),
        lambda: png_with(chunk(b"tEXt", b"a\0b") * 1000),
        lambda: gif_with(b"!\xfe\3abc\0" * 100),
        lambda: big_tags(1, 1_000_000),
        lambda: file(Image.new("RGB", (16, 16)), "TIFF", big_tiff=True),
        lambda: b"P3 2 1 255 1 2 3 4 5 6 ",
        lambda: bmp_of_runs(16, 2, b"\x10\5\0\0\x10\6\0\1"),
        lambda: file(Image.new("RGBA", (64, 64)), "ICO"),
        lambda: many_strips(100),
        lambda: b"P6 # a comment\n1 1\n255\nabc",
        lambda: JPEG + b"\xff\xda\0\2" * 100,  # for example, of a motion photo
        lambda: JPEG[:2] + b"\xff" * 1000 + JPEG[2:],
        lambda: gif_with(b"!\xfe" + (b"\xff" + b"a" * 255) * 10_000 + b"\0"),
        lambda: shared_strips(16, 48),
        lambda: tiff_of_tile(256),
        lambda: webp_of_canvas(64, 64),
        lambda: icon(PNG),
        lambda: icon(png_with(chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(1_100_000))))),
    ],
    ids=range(21),
)
def test_accepted(data: Callable[[], bytes]) -> None:
    assert encode(data()).width > 0
