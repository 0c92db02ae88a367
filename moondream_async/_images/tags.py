"""Check the tags of a TIFF or EXIF block before a decoder reads them (pure).

Every check reads each byte at most a few times: overlapping directories are refused, not read again.
"""

from __future__ import annotations

import itertools

from . import ifd, searching
from .limits import refused

_BYTE_TYPES = (1, 2, 6, 7)
_DIRECTORY_TAGS = (0x014A, 0x8769, 0x8825, 0xA005)  # SubIFDs, Exif, GPS, Interoperability
_MAX_DIRECTORIES = 16  # per level; real files have four in all
_MAX_LEVELS = 3  # image, Exif, Interoperability
_MAX_ENTRIES = 65_535  # per directory
_MAX_NUMBERS = 1_000_000  # values that Pillow turns into Python numbers
_MAX_BLOCKS = 1000  # TIFF headers in one file; real files have a few
_MARGIN = 65_536  # bytes that tags may claim beyond twice the file's size

_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT = 0x0100, 0x0101, 0x0142, 0x0143
_SEGMENT_TAGS, _MAX_SEGMENTS = (0x0111, 0x0144), 100_000  # strips and tiles, each decoded by a call
_LENGTH_TAGS = {0x0117: "strips", 0x0145: "tiles"}
_MAX_SHARING = 8  # how often strips or tiles that share bytes may decode the whole file
_TILE_MARGIN = 2048 * 2048  # pixels; a tile may be larger than its image, within limits


def check_block(block: bytes) -> None:
    """Check a block that is a TIFF structure: a TIFF file, or the EXIF of another format.

    Raises:
        ImageError: Its tags claim far more than the block holds.
    """
    block = block.removeprefix(b"Exif\0\0")
    if block[:4] in ifd.HEADERS:
        _Checker(block).check(0)


def check_anywhere(data: bytes) -> None:
    """Check every TIFF structure in a file, wherever it is.

    Raises:
        ImageError: Its tags claim far more than the file holds.
    """
    checker = _Checker(data)
    blocks = itertools.chain.from_iterable(searching.offsets(data, header) for header in ifd.HEADERS)
    for count, at in enumerate(blocks):
        if count >= _MAX_BLOCKS:
            raise refused(f"more than {_MAX_BLOCKS:,} blocks of tags")
        checker.check(at)


class _Checker:
    """Checks the structures of one file, which share one budget of entries."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._entries_left = len(data) // 12 + 64  # as many as fit into the file without overlaps
        self._numbers = 0

    def check(self, base: int) -> None:
        layout = ifd.Layout.of(self._data[base : base + 4])
        assert layout is not None
        first = layout.first(self._data, base)
        claimed, offsets = 0, [] if first is None else [first]
        for _ in range(_MAX_LEVELS):
            deeper: list[int] = []
            for offset in offsets[:_MAX_DIRECTORIES]:
                entries = self._entries(layout, base + offset)
                claimed += sum(ifd.TYPE_SIZES.get(entry.type, 0) * entry.size for entry in entries)
                if claimed > 2 * len(self._data) + _MARGIN:
                    raise refused("tags that claim more bytes than there are")
                self._check_numbers(entries)
                self._check_segments(entries, layout, base)
                _check_tile_size(entries, layout)
                deeper += [entry.value for entry in entries if entry.tag in _DIRECTORY_TAGS]
            offsets = deeper

    def _entries(self, layout: ifd.Layout, at: int) -> list[ifd.Entry]:
        entries = list(layout.entries(self._data, at, min(layout.entry_count(self._data, at) or 0, _MAX_ENTRIES)))
        self._entries_left -= len(entries)
        if self._entries_left < 0:
            raise refused("directories of tags that overlap")
        return entries

    def _check_numbers(self, entries: list[ifd.Entry]) -> None:
        self._numbers += sum(
            entry.size for entry in entries if entry.type not in _BYTE_TYPES and entry.type in ifd.TYPE_SIZES
        )
        if self._numbers > _MAX_NUMBERS:
            raise refused(f"more than {_MAX_NUMBERS:,} numbers in its tags")

    def _check_segments(self, entries: list[ifd.Entry], layout: ifd.Layout, base: int) -> None:
        for entry in entries:
            if entry.tag in (*_SEGMENT_TAGS, *_LENGTH_TAGS) and entry.size > _MAX_SEGMENTS:
                raise refused(f"its pixels in more than {_MAX_SEGMENTS:,} pieces")
            # A length in the entry itself is of a single strip or tile, which shares bytes with none.
            if entry.tag in _LENGTH_TAGS and not layout.is_inline(entry):
                total = sum(layout.integers(self._data, entry, _MAX_SEGMENTS, base))
                if total > _MAX_SHARING * len(self._data) + _MARGIN:
                    raise refused(f"{_LENGTH_TAGS[entry.tag]} that share their bytes")


def _check_tile_size(entries: list[ifd.Entry], layout: ifd.Layout) -> None:
    sizes = {
        entry.tag: _inline_value(entry, layout)
        for entry in entries
        if entry.tag in (_WIDTH, _HEIGHT, _TILE_WIDTH, _TILE_HEIGHT)
    }
    if _TILE_WIDTH in sizes and _TILE_HEIGHT in sizes:
        tile, image = sizes[_TILE_WIDTH] * sizes[_TILE_HEIGHT], sizes.get(_WIDTH, 0) * sizes.get(_HEIGHT, 0)
        if tile > 4 * image + _TILE_MARGIN:
            raise refused("tiles that are far larger than the image")


def _inline_value(entry: ifd.Entry, layout: ifd.Layout) -> int:
    """Return the first value of an entry that holds it itself, whatever its type; shorter types are left-aligned."""
    if layout.order == "<":
        return entry.value & (0xFFFF if entry.type == 3 else 0xFFFF_FFFF)
    bits = 64 if layout.is_big else 32
    return entry.value >> (bits - (16 if entry.type == 3 else 32 if entry.type == 4 else bits))
