"""Read the directories (IFDs) of a TIFF structure: a TIFF file, or the EXIF block of another format (pure)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

HEADERS = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
"""The first four bytes of a structure -> its byte order, and whether it is a BigTIFF."""

TYPE_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes per value of each type."""

_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # unsigned types -> their struct format


class Entry(NamedTuple):
    """One directory entry, as stored."""

    tag: int
    type: int
    size: int  # number of values
    value: int  # the value field as a number: the value, left-aligned, or the offset of the values


class Layout(NamedTuple):
    """How a structure stores its numbers.

    Attributes:
        order: Byte order, as in `struct` formats.
        is_big: Whether it is a BigTIFF, with 64-bit offsets and counts.
    """

    order: str
    is_big: bool

    @classmethod
    def of(cls, block: bytes) -> Layout | None:
        """Return the layout that a block's header declares, or None if the block is not a TIFF structure."""
        header = HEADERS.get(block[:4])
        return cls(*header) if header else None

    @property
    def offset_format(self) -> str:
        """The `struct` format of an offset, and of an entry's value field."""
        return self.order + ("Q" if self.is_big else "I")

    @property
    def first_at(self) -> int:
        """The position of the first directory's offset in the header."""
        return 8 if self.is_big else 4

    def first(self, data: bytes, base: int = 0) -> int | None:
        """Return the offset of the first directory, or None if the data ends before it."""
        return self._read(self.offset_format, data, base + self.first_at)

    def entry_count(self, data: bytes, at: int) -> int | None:
        """Return the number of entries that the directory at a position declares, or None if the data ends before."""
        return self._read(self._count_format, data, at)

    def entries(self, data: bytes, at: int, limit: int) -> Iterator[Entry]:
        """Yield the first entries of the directory at a position, at most `limit` and as many as the data holds."""
        start, size = at + struct.calcsize(self._count_format), struct.calcsize(self._entry_format)
        count = max(0, min(limit, (len(data) - start) // size))
        for fields in struct.iter_unpack(self._entry_format, data[start : start + count * size]):
            yield Entry(*fields)

    def next(self, data: bytes, at: int) -> int | None:
        """Return the offset of the directory after the one at a position, or None if the data ends before it."""
        size = struct.calcsize(self._entry_format) * (self.entry_count(data, at) or 0)
        return self._read(self.offset_format, data, at + struct.calcsize(self._count_format) + size)

    def is_inline(self, entry: Entry) -> bool:
        """Return whether an entry holds its values itself, rather than their offset."""
        return entry.size * TYPE_SIZES.get(entry.type, 0) <= struct.calcsize(self.offset_format)

    def integers(self, data: bytes, entry: Entry, limit: int, base: int = 0) -> tuple[int, ...]:
        """Return the first values of an entry, at most `limit`; none if their type is not an unsigned integer."""
        code = _INTEGERS.get(entry.type)
        if code is None:
            return ()
        source, at = data, base + entry.value
        if self.is_inline(entry):
            source, at = struct.pack(self.offset_format, entry.value), 0
        count = max(0, min(entry.size, limit, (len(source) - at) // TYPE_SIZES[entry.type]))
        return struct.unpack_from(f"{self.order}{count}{code}", source, at) if count else ()

    @property
    def _count_format(self) -> str:
        return self.order + ("Q" if self.is_big else "H")

    @property
    def _entry_format(self) -> str:
        return self.order + ("HHQQ" if self.is_big else "HHII")

    def _read(self, number_format: str, data: bytes, at: int) -> int | None:
        if at + struct.calcsize(number_format) > len(data):
            return None
        (number,) = struct.unpack_from(number_format, data, at)
        return int(number)
