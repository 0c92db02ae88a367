"""The boxes of AVIF and HEIC: limits on items, samples and pixels."""

from __future__ import annotations

import struct

import pytest
from PIL import Image

from moondream_async import ImageError
from moondream_async._images import av1, isobmff
from moondream_async._images.prepare import encode
from tests.support.hostile import exif
from tests.support.pictures import AVIF, file

FTYP = b"\0\0\0\x1cftypavif\0\0\0\0avifmif1miaf"


def box(kind: bytes, *content: bytes, version: int | None = None) -> bytes:
    head = b"" if version is None else bytes((version, 0, 0, 0))
    body = head + b"".join(content)
    return struct.pack(">I", 8 + len(body)) + kind + body


def meta(*content: bytes) -> bytes:
    return FTYP + box(b"meta", *content, version=0)


def table(*content: bytes) -> bytes:
    return FTYP + box(b"moov", box(b"trak", box(b"mdia", box(b"minf", box(b"stbl", *content)))))


def infe(item: int, kind: bytes) -> bytes:
    return box(b"infe", struct.pack(">HH4s", item, 0, kind), b"\0", version=2)


def iinf(kinds: list[bytes]) -> bytes:
    entries = [infe(index + 1, kind) for index, kind in enumerate(kinds)]
    return box(b"iinf", struct.pack(">H", len(kinds)), *entries, version=0)


def iloc(extents: list[tuple[int, int, int]], method: int = 0) -> bytes:
    """Build an item location box of `(item, offset, length)`."""
    entries = [struct.pack(">HHHHII", item, method, 0, 1, offset, length) for item, offset, length in extents]
    return box(b"iloc", b"\x44\0", struct.pack(">H", len(extents)), *entries, version=1)


def tiles_of(payload: bytes, count: int, method: int = 0) -> bytes:
    """Build AV1 items that all share the same bytes."""
    place = 8 + len(FTYP) if method == 0 else 0
    items = iloc([(index + 1, place, len(payload)) for index in range(count)], method)
    boxes = [iinf([b"av01"] * count), items, box(b"idat", payload)]
    if method == 1:
        return meta(*boxes)
    return FTYP + box(b"mdat", payload) + meta(*boxes)[len(FTYP) :]


def av1_of(side: int) -> bytes:
    """Build a reduced sequence header of a still picture."""
    bits = f"00011{0:05b}{15:04b}{15:04b}{side - 1:016b}{side - 1:016b}".ljust(64, "0")
    return b"\x0a\x08" + int(bits, 2).to_bytes(8, "big")


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (meta(box(b"iloc", b"\0\0", struct.pack(">I", 100_000), version=2)), "items"),
        (meta(box(b"iinf", struct.pack(">I", 100_000), version=1)), "items"),
        (meta(box(b"iprp", box(b"ipma", struct.pack(">I", 100_000), version=0))), "items"),
        (meta(box(b"free") * 60_000), "boxes"),
        (meta(box(b"iref", box(b"thmb", bytes(6)) * 60_000, version=0)), "boxes"),
        (table(box(b"stts", struct.pack(">I", 2_000_000), version=0)), "table"),
        (table(*[box(name, struct.pack(">I", 10_000), version=0) for name in (b"stsc", b"stco")]), "chunks"),
        (meta(iloc([(1, 0, 2_000_000_000)])), "share their bytes"),
        (tiles_of(av1_of(16_000), 16), "pixels in all"),
        (tiles_of(av1_of(16_000), 16, method=1), "pixels in all"),
        (
            meta(iinf([b"Exif"]), iloc([(1, 0, 70_000)], method=1), box(b"idat", exif(5000, 1000))),
            "claim more bytes",
        ),
        (meta(box(b"iref", box(b"cdsc", bytes(4 + 2 * 1000)), version=0), bytes(2_000_000)), "too many pictures"),
    ],
    ids=range(12),
)
def test_rejected_images(data: bytes, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        isobmff.check(data)


@pytest.mark.parametrize(
    "data",
    [
        FTYP,
        meta(),
        tiles_of(av1_of(512), 700),
        meta(box(b"iloc", version=0)),
        FTYP + b"\0\0\0\1free",
        meta(infe(1, b"")[:10]),
    ],
    ids=range(6),
)
def test_accepted(data: bytes) -> None:
    isobmff.check(data)


def test_av1_sizes() -> None:
    assert av1.max_pixels(av1_of(300)) == 90_000
    assert av1.max_pixels(b"\x12\0" + av1_of(300)) == 90_000
    assert av1.max_pixels(b"") == av1.max_pixels(b"\xff" * 100) == av1.max_pixels(b"\x0a") - 1 == 0


@pytest.mark.skipif(not AVIF, reason="this Pillow does not support AVIF")
def test_av1_sizes_of_a_real_encoder() -> None:
    for size in ((64, 48), (301, 17)):
        still = file(Image.new("RGB", size), "AVIF")
        frames = file(Image.new("RGB", size), "AVIF", save_all=True, append_images=[Image.new("RGB", size, "red")])
        for data in (still, frames):
            assert av1.max_pixels(data[data.rfind(b"mdat") + 4 :]) == size[0] * size[1]


def test_a_real_heic_is_read() -> None:
    pillow_heif = pytest.importorskip("pillow_heif")
    import io

    buffer = io.BytesIO()
    pillow_heif.from_pillow(Image.new("RGB", (128, 96), "red")).save(buffer, quality=50)
    assert encode(buffer.getvalue()).original_size == (128, 96)
