"""JPEG 2000 files that declare more tiles, code-blocks, precincts or layers than an image needs are refused."""

from __future__ import annotations

import struct

import pytest
from PIL import Image

from moondream_async import ImageError
from moondream_async._images import jpeg2000
from moondream_async._images.prepare import encode
from tests.support.pictures import file

PICTURE = Image.effect_noise((200, 150), 50).convert("RGB")


def header(
    side: int,
    *,
    tile: int | None = None,
    components: int = 3,
    levels: int = 5,
    block: int = 4,
    precincts: bytes = b"",
    layers: int = 1,
    more: bytes = b"",
) -> bytes:
    """A codestream that ends after its main header."""
    siz = struct.pack(">H8IH", 0, side, side, 0, 0, tile or side, tile or side, 0, 0, components)
    siz += b"\7\1\1" * components
    cod = struct.pack(">BBHBBBBBB", bool(precincts), 2, layers, 0, levels, block, block, 0, 1) + precincts
    return b"\xff\x4f" + marker(0x51, siz) + marker(0x52, cod) + more


def marker(kind: int, content: bytes) -> bytes:
    return bytes((0xFF, kind)) + struct.pack(">H", len(content) + 2) + content


def style_of_component(levels: int, block: int, precincts: bytes = b"") -> bytes:
    return marker(0x53, struct.pack(">BBBBBBB", 1, bool(precincts), levels, block, block, 0, 1) + precincts)


def tile_part(content: bytes) -> bytes:
    return marker(0x90, struct.pack(">HIBB", 0, 14 + len(content), 0, 1)) + content + b"\xff\x93"


def box(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", 8 + len(content)) + kind + content


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (header(8000, block=0), "code-blocks"),
        (header(8000, precincts=b"\x44" * 6), "code-blocks"),
        (header(8000, more=style_of_component(5, 0)), "code-blocks"),
        (header(8000, more=tile_part(style_of_component(5, 0))), "code-blocks"),
        (header(8000, precincts=b"\x88" * 6, layers=65_535), "layers"),
        (header(8000, levels=0, block=8, precincts=b"\x0f", more=style_of_component(0, 8, b"\xf0")), "narrow"),
        (header(8000, tile=32), "62,500 tiles"),
        (header(8000, tile=32) + bytes(1_000_000), "62,500 tiles"),
        (header(64, components=16_384), "components"),
        (header(13_300), "samples in one tile"),
        (header(100_000, tile=10_000), "100000 x 100000 pixels"),
        (header(64, more=marker(0x40, bytes(10))), "does not exist in JPEG 2000"),
        (header(64, more=marker(0x64, b"") * 300_000), "marker segments"),
        (header(64, more=b"".join(style_of_component(n % 33, n // 33 % 9) for n in range(297))), "styles"),
        (box(b"jP  ", b"\r\n\x87\n") + box(b"free", b"") * 60_000, "boxes"),
        (box(b"jP  ", b"\r\n\x87\n") + box(b"jp2c", header(8000, block=0)), "code-blocks"),
    ],
    ids=range(16),
)
def test_rejected_images(data: bytes, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        jpeg2000.check(data)


@pytest.mark.parametrize(
    "data",
    [
        header(11_000),
        header(13_300, tile=1024, block=3) + bytes(14 * 169),
        header(10_000, precincts=b"\x77" + b"\x88" * 5, layers=20),
    ],
    ids=["large", "tiles", "precincts"],
)
def test_accepted(data: bytes) -> None:
    jpeg2000.check(data)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"no_jp2": True},
        {"tile_size": (64, 64)},
        {"codeblock_size": (4, 4)},
        {"precinct_size": (64, 64)},
        {"progression": "RPCL", "quality_mode": "rates", "quality_layers": [40, 20, 10]},
        {"num_resolutions": 2, "plt": True},
    ],
    ids=str,
)
def test_valid_files_are_read(options: dict[str, object]) -> None:
    assert encode(file(PICTURE, "JPEG2000", **options)).original_size == (200, 150)


def test_tile_part_that_ends_before_its_data() -> None:
    looped = marker(0x90, struct.pack(">HIBB", 0, 14, 0, 1)) + marker(0x64, bytes(20)) + b"\xff\x93"
    jpeg2000.check(header(64, more=looped))
