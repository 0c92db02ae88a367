"""Check the tags of a TIFF or EXIF block before a decoder reads them (pure).

Every check reads each byte at most a few times: directories that overlap are refused instead of read again.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from typing import NamedTuple

from . import searching
from .limits import refused

_HEADERS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_BYTE_TYPES = (1, 2, 6, 7)
_DIRECTORY_TAGS = (0x014A, 0x8769, 0x8825, 0xA005)  # SubIFDs, Exif, GPS, Interoperability
_MAX_DIRECTORIES = 16  # per level; real files have four in all
_MAX_LEVELS = 3  # image, Exif, Interoperability
_MAX_NUMBERS = 1_000_000  # values that Pillow turns into Python numbers
_MAX_BLOCKS = 1000  # TIFF headers in one file; real files have a few
_SPARE = 65_536  # bytes that tags may claim beyond twice the file

_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT = 0x0100, 0x0101, 0x0142, 0x0143
_PIECE_TAGS, _MAX_PIECES = (0x0111, 0x0144), 100_000  # strips and tiles, each decoded by a call
_LENGTH_TAGS = {0x0117: "strips", 0x0145: "tiles"}
_MAX_SHARING = 8  # times that the bytes of a file may be decoded, by strips or tiles that share them
_SPARE_TILE_PIXELS = 2048 * 2048  # a tile may be larger than its image, but not without end


class _Tag(NamedTuple):
    number: int
    type: int
    values: int  # how many
    value: int  # or the offset of the value


class _Layout(NamedTuple):
    """How a TIFF structure writes its numbers."""

    order: str
    is_big: bool

    @property
    def offset(self) -> str:
        return f"{self.order}Q" if self.is_big else f"{self.order}I"

    @property
    def entry_count(self) -> str:
        return f"{self.order}Q" if self.is_big else f"{self.order}H"

    @property
    def entry(self) -> str:
        return f"{self.order}HHQQ" if self.is_big else f"{self.order}HHII"


def check_block(block: bytes) -> None:
    """Check a block that is a TIFF structure: a TIFF file, or the EXIF of another format.

    Raises:
        ImageError: Its tags claim far more than the block holds.
    """
    block = block.removeprefix(b"Exif\0\0")
    if block[:4] in _HEADERS:
        _Checker(block).check(0)


def check_anywhere(data: bytes) -> None:
    """Check every TIFF structure in a file, wherever it is.

    Raises:
        ImageError: Its tags claim far more than the file holds.
    """
    checker = _Checker(data)
    blocks = itertools.chain.from_iterable(searching.offsets(data, header) for header in _HEADERS)
    for count, at in enumerate(blocks):
        if count >= _MAX_BLOCKS:
            raise refused(f"more than {_MAX_BLOCKS:,} blocks of tags")
        checker.check(at)


class _Checker:
    """Checks the structures of one file, which share one budget of entries."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._entries_left = len(data) // 12 + 64  # as many as there is room for, if none overlap
        self._numbers = 0

    def check(self, base: int) -> None:
        header = self._data[base : base + 4]
        layout = _Layout("<" if header.startswith(b"I") else ">", is_big=b"+" in header)
        first = self._number(layout.offset, base + (8 if layout.is_big else 4))
        claimed, offsets = 0, [] if first is None else [first]
        for _ in range(_MAX_LEVELS):
            deeper: list[int] = []
            for offset in offsets[:_MAX_DIRECTORIES]:
                tags = list(self._tags(layout, base, offset))
                claimed += sum(_TYPE_SIZES.get(tag.type, 0) * tag.values for tag in tags)
                if claimed > 2 * len(self._data) + _SPARE:
                    raise refused("tags that claim more bytes than there are")
                self._check_numbers(tags)
                self._check_pieces(tags, layout, base)
                _check_tile_size(tags, layout)
                deeper += [tag.value for tag in tags if tag.number in _DIRECTORY_TAGS]
            offsets = deeper

    def _tags(self, layout: _Layout, base: int, offset: int) -> Iterator[_Tag]:
        count = self._number(layout.entry_count, base + offset) or 0
        start, size = base + offset + struct.calcsize(layout.entry_count), struct.calcsize(layout.entry)
        count = max(0, min(count, 65_535, (len(self._data) - start) // size))
        self._entries_left -= count
        if self._entries_left < 0:
            raise refused("directories of tags that overlap")
        for entry in struct.iter_unpack(layout.entry, self._data[start : start + count * size]):
            yield _Tag(*entry)

    def _check_numbers(self, tags: list[_Tag]) -> None:
        self._numbers += sum(tag.values for tag in tags if tag.type not in _BYTE_TYPES and tag.type in _TYPE_SIZES)
        if self._numbers > _MAX_NUMBERS:
            raise refused(f"more than {_MAX_NUMBERS:,} numbers in its tags")

    def _check_pieces(self, tags: list[_Tag], layout: _Layout, base: int) -> None:
        for tag in tags:
            if tag.number in (*_PIECE_TAGS, *_LENGTH_TAGS) and tag.values > _MAX_PIECES:
                raise refused(f"its pixels in more than {_MAX_PIECES:,} pieces")
            if tag.number in _LENGTH_TAGS and self._total(tag, layout, base) > _MAX_SHARING * len(self._data) + _SPARE:
                raise refused(f"{_LENGTH_TAGS[tag.number]} that share their bytes")

    def _total(self, tag: _Tag, layout: _Layout, base: int) -> int:
        """Sum the values of a tag that are stored apart from it."""
        code = {3: "H", 4: "I", 16: "Q"}.get(tag.type)
        if code is None or tag.values * _TYPE_SIZES[tag.type] <= struct.calcsize(layout.offset[1:]):
            return 0
        size = _TYPE_SIZES[tag.type]
        start = base + tag.value
        count = max(0, min(tag.values, (len(self._data) - start) // size))
        return sum(struct.unpack_from(f"{layout.order}{count}{code}", self._data, start)) if count else 0

    def _number(self, form: str, at: int) -> int | None:
        if at + struct.calcsize(form) > len(self._data):
            return None
        return int(struct.unpack_from(form, self._data, at)[0])


def _check_tile_size(tags: list[_Tag], layout: _Layout) -> None:
    sizes = {
        tag.number: _inline(tag, layout) for tag in tags if tag.number in (_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT)
    }
    if _TILE_WIDTH in sizes and _TILE_HEIGHT in sizes:
        tile, image = sizes[_TILE_WIDTH] * sizes[_TILE_HEIGHT], sizes.get(_WIDTH, 0) * sizes.get(_HEIGHT, 0)
        if tile > 4 * image + _SPARE_TILE_PIXELS:
            raise refused("tiles that are far larger than the image")


def _inline(tag: _Tag, layout: _Layout) -> int:
    """The first value of a tag that holds it in place; a short one is at the front of its field."""
    if layout.order == "<":
        return tag.value & (0xFFFF if tag.type == 3 else 0xFFFF_FFFF)
    bits = 64 if layout.is_big else 32
    return tag.value >> (bits - (16 if tag.type == 3 else 32 if tag.type == 4 else bits))
