"""Check the boxes of an AVIF or HEIC before a decoder builds tables from them (pure).

Decoders search items linearly, so their time is quadratic in the number of items; likewise for the chunks of an image
sequence. See ISO/IEC 14496-12 and 23008-12.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

from . import av1, tags
from .limits import MAX_PIXELS, refused

_MAX_BOXES = 50_000
_MAX_EXTENTS = 50_000  # of all items
_MAX_ITEMS = 5000  # a tiled picture of 100 megapixels with transparency has about 800
_MAX_COPIES = 1024 * 1024 * 1024  # bytes of EXIF and XMP that belong to several pictures and are copied for each
_MAX_SHARING, _MARGIN = 8, 1024 * 1024  # items may share bytes, as blank tiles do: 8 times the file and 1 MiB
_MAX_SAMPLES = 1_000_000  # entries per table of a sequence
_MAX_LOOKUPS = 20_000_000  # chunks of a sequence times the runs in which they are looked up
_MAX_DEPTH = 8
_MAX_ALL_PIXELS = 4 * MAX_PIXELS  # of the picture, its transparency, its thumbnails, ...

# Boxes that contain boxes -> bytes before the first one.
_CONTAINERS = {
    b"meta": 4, b"iprp": 0, b"ipco": 0, b"iref": 4, b"grpl": 0,
    b"moov": 0, b"trak": 0, b"mdia": 0, b"minf": 0, b"stbl": 0, b"edts": 0, b"stsd": 8,
    b"iinf": 0, b"jp2h": 0, b"res ": 0,
}  # fmt: skip
_ITEM_TABLES = (b"iinf", b"iloc", b"ipma")
_SAMPLE_TABLES = {b"stts": 4, b"ctts": 4, b"stsc": 4, b"stco": 4, b"co64": 4, b"stss": 4, b"stsz": 8}


class Box(NamedTuple):
    """The type of a box, and the start and end of its content."""

    type: bytes
    start: int
    end: int


def check(data: bytes) -> None:
    """Check the numbers of boxes, items, samples and pixels.

    Raises:
        ImageError: There are far more than in a real image.
    """
    all_boxes = list(boxes(data))
    described, descriptions = 0, set[bytes]()
    entries = dict.fromkeys(_SAMPLE_TABLES, 0)
    for box in all_boxes:
        if box.type in _ITEM_TABLES and _item_count(data, box) > _MAX_ITEMS:
            raise refused(f"more than {_MAX_ITEMS:,} items")
        if box.type in _SAMPLE_TABLES:
            at = box.start + _SAMPLE_TABLES[box.type]
            entries[box.type] += int.from_bytes(data[at : at + 4], "big")
        elif box.type == b"cdsc":
            described += (box.end - box.start - 4) // 2
            descriptions.add(data[box.start : box.start + 4])
    if (described - len(descriptions)) * len(data) > _MAX_COPIES:
        raise refused("EXIF or XMP of too many pictures")
    if max(entries.values()) > _MAX_SAMPLES:
        raise refused(f"a sequence with a table of more than {_MAX_SAMPLES:,} entries")
    if (entries[b"stco"] + entries[b"co64"]) * entries[b"stsc"] > _MAX_LOOKUPS:
        raise refused("a sequence in too many chunks of different lengths")
    _check_items(data, all_boxes)


def _check_items(data: bytes, all_boxes: list[Box]) -> None:
    """Check the size of all items, the tags of EXIF items, and the pixels of AV1 items.

    libavif decodes a tile at its own size even if its grid needs less; libheif refuses such tiles.
    """
    types = {_item_id(data, box): _item_type(data, box) for box in all_boxes if box.type == b"infe"}
    extents = list(itertools.islice(_all_extents(data, all_boxes), _MAX_EXTENTS + 1))
    if len(extents) > _MAX_EXTENTS or sum(extent.size for extent in extents) > _MAX_SHARING * len(data) + _MARGIN:
        raise refused("items in too many pieces, or that share their bytes")
    contents: dict[int, list[bytes]] = {}
    for extent in extents:
        if types.get(extent.item) in (b"av01", b"Exif"):
            contents.setdefault(extent.item, []).append(data[extent.start : extent.start + extent.size])
    pixels = 0
    for item, pieces in contents.items():
        if types[item] == b"Exif":
            tags.check_anywhere(b"".join(pieces))
        else:
            pixels += av1.max_pixels(b"".join(pieces))
    if pixels > _MAX_ALL_PIXELS:
        raise refused(f"more than {_MAX_ALL_PIXELS:,} pixels in all of its pictures and tiles")


def boxes(data: bytes) -> Iterator[Box]:
    """Yield all boxes of a file, nested ones included.

    Raises:
        ImageError: There are far more than in a real image.
    """
    for count, box in enumerate(_boxes(data, 0, len(data), 0)):
        if count >= _MAX_BOXES:
            raise refused(f"more than {_MAX_BOXES:,} boxes")
        yield box


def _boxes(data: bytes, start: int, end: int, depth: int) -> Iterator[Box]:
    at = start
    while at + 8 <= end:
        size, head = int.from_bytes(data[at : at + 4], "big"), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        box_end = end if size == 0 else min(end, at + size)
        if box_end < at + head:
            return
        box = Box(data[at + 4 : at + 8], at + head, box_end)
        yield box
        if box.type in _CONTAINERS and depth < _MAX_DEPTH:
            yield from _boxes(data, box.start + _head_size(data, box), box_end, depth + 1)
        at = box_end


def _head_size(data: bytes, box: Box) -> int:
    if box.type == b"iinf":
        return 6 if data[box.start : box.start + 1] == b"\0" else 8
    return _CONTAINERS[box.type]


def _item_id(data: bytes, infe: Box) -> int:
    return int.from_bytes(data[infe.start + 4 : infe.start + (8 if data[infe.start] == 3 else 6)], "big")


def _item_count(data: bytes, box: Box) -> int:
    version = data[box.start : box.start + 1]
    if box.type == b"ipma":
        return int.from_bytes(data[box.start + 4 : box.start + 8], "big")
    if box.type == b"iinf":
        return int.from_bytes(data[box.start + 4 : box.start + (6 if version == b"\0" else 8)], "big")
    return int.from_bytes(data[box.start + 6 : box.start + (10 if version == b"\2" else 8)], "big")


def _item_type(data: bytes, infe: Box) -> bytes:
    at = infe.start + (10 if data[infe.start] == 3 else 8)
    return data[at : at + 4]


class _Extent(NamedTuple):
    item: int
    start: int
    size: int


def _all_extents(data: bytes, all_boxes: list[Box]) -> Iterator[_Extent]:
    idat_start = next((box.start for box in all_boxes if box.type == b"idat"), 0)
    for box in all_boxes:
        if box.type == b"iloc":
            yield from _extents(data, box, idat_start)


def _extents(data: bytes, box: Box, idat_start: int) -> Iterator[_Extent]:
    """Yield the extents of all items that an item location box lists."""
    if box.end - box.start < 8:
        return
    version, sizes = data[box.start], data[box.start + 4 : box.start + 6]
    offset_size, length_size, base_size = sizes[0] >> 4, sizes[0] & 15, sizes[1] >> 4
    index_size, id_size = sizes[1] & 15 if version else 0, 4 if version == 2 else 2
    numbers = _NumberReader(data[box.start : box.end], 8 + (2 if version == 2 else 0))
    for _ in range(_item_count(data, box)):
        item = numbers.read(id_size)
        is_in_idat = bool(version) and numbers.read(2) & 15 == 1
        numbers.read(2)
        start = numbers.read(base_size) + (idat_start if is_in_idat else 0)
        for _ in range(numbers.read(2) if offset_size + length_size + index_size else 0):
            numbers.read(index_size)
            offset = numbers.read(offset_size)
            yield _Extent(item, start + offset, numbers.read(length_size))
        if numbers.is_at_end:
            return


class _NumberReader:
    """Reads consecutive numbers of any size."""

    def __init__(self, content: bytes, at: int) -> None:
        self._content, self._at = content, at

    @property
    def is_at_end(self) -> bool:
        return self._at >= len(self._content)

    def read(self, size: int) -> int:
        self._at += size
        return int.from_bytes(self._content[self._at - size : self._at], "big")
