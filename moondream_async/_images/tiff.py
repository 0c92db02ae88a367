"""Read the few TIFF tags that say what a file really holds (pure).

Pillow opens the first picture of a file and asks no more. In a camera's raw photo, and in some pyramids, that is a
thumbnail.
"""

from __future__ import annotations

import struct
from typing import Any

import attrs

from ..errors import ImageError

SUBFILE_TYPE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
CHANNELS, PLANES, SUB_DIRECTORIES, SAMPLE_FORMAT, DNG_VERSION = 277, 284, 330, 339, 50706
SIGNED, FLOATS = 2, 3
"""Values of `SAMPLE_FORMAT`."""

RAW_PHOTO = "The file is a camera's RAW photo, which is not read here; convert it to JPEG first."

_OLD_SUBFILE_TYPE, _LEAF_DATA = 255, 34310
_SUBFILE_TYPES = (SUBFILE_TYPE, _OLD_SUBFILE_TYPE)
_PIXELS = (WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, CHANNELS, SAMPLE_FORMAT)
_WANTED = frozenset((*_SUBFILE_TYPES, *_PIXELS, SUB_DIRECTORIES, DNG_VERSION, _LEAF_DATA))
_SEPARATE_PLANES = 2  # value of PLANES
_WHITE_IS_ZERO = 0  # value of PHOTOMETRIC
_REDUCED = 1  # bit of SUBFILE_TYPE
_OLD_REDUCED = 2  # value of _OLD_SUBFILE_TYPE
_RAW_PHOTOMETRICS = (32803, 34892)  # color filter array, linear raw
_RAW_COMPRESSIONS = (262, 32767, 32769, 32770, 32772, 34713, 65000, 65535)  # Kodak, Sony, Epson, Samsung, Nikon, Pentax
_TYPES = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}  # of whole numbers
_MAX_DIRECTORIES, _MAX_TAGS, _MAX_VALUES = 64, 1024, 16


@attrs.frozen
class Directory:
    """One picture of a TIFF: where its directory is, and the whole numbers of its tags."""

    offset: int
    tags: dict[int, tuple[int, ...]]

    def get(self, tag: int, default: int = 0) -> int:
        """The first value of a tag."""
        return self.tags.get(tag, (default,))[0]

    @property
    def is_reduced(self) -> bool:
        """Whether it says that it is a smaller copy of another picture in the file."""
        return bool(self.get(SUBFILE_TYPE) & _REDUCED) or self.get(_OLD_SUBFILE_TYPE) == _OLD_REDUCED

    @property
    def is_raw(self) -> bool:
        """Whether it holds a sensor's values, or belongs to a file that does."""
        return (
            DNG_VERSION in self.tags
            or _LEAF_DATA in self.tags
            or self.get(PHOTOMETRIC) in _RAW_PHOTOMETRICS
            or self.get(COMPRESSION) in _RAW_COMPRESSIONS
        )


def main_picture(data: bytes) -> bytes:
    """Return the file so that its first picture is the main one: unchanged, unless that is a reduced copy.

    Raises:
        ImageError: It is a camera's raw photo.
    """
    found = directories(data)
    if _has_raw_header(data) or any(directory.is_raw for directory in found):
        raise ImageError(RAW_PHOTO)
    if not found or not found[0].is_reduced:
        return data
    main = next((each for each in found if not each.is_reduced and each.get(WIDTH) and each.get(HEIGHT)), None)
    return data if main is None else _starting_at(data, main.offset)


def check_picture(picture: Any) -> None:
    """Check a Pillow image that was opened from a TIFF by its tags; others pass.

    Raises:
        ImageError: It is the thumbnail of a raw photo, or Pillow reads its samples wrongly.
    """
    tags: Any = getattr(picture, "tag_v2", None)
    if tags is None:
        return
    if DNG_VERSION in tags or tags.get(PHOTOMETRIC) in _RAW_PHOTOMETRICS:
        raise ImageError(RAW_PHOTO)
    bits, formats = tags.get(BITS, (1,)), tags.get(SAMPLE_FORMAT, (1,))
    if SIGNED in formats and max(bits) < 32:
        raise ImageError(
            f"The image holds signed {max(bits)}-bit values, and which of them are black and white is not known; "
            "scale them to 0..255 (uint8) first."
        )
    if tags.get(PLANES) == _SEPARATE_PLANES and len(bits) > 1 and max(bits) > 8:
        raise ImageError(
            f"The image is a TIFF of {max(bits)}-bit channels in planes of their own, which is not read here; "
            "convert it to 8-bit RGB, as PNG or JPEG, first."
        )


def gray_scale(picture: Any) -> tuple[int, bool]:
    """Return how many bits a 16-bit gray image uses, and whether its zero is white: which Pillow leaves to us."""
    tags: Any = getattr(picture, "tag_v2", None)
    if tags is None or not picture.mode.startswith("I;16"):
        return 16, False
    return (12 if tags.get(BITS) == (12,) else 16), tags.get(PHOTOMETRIC) == _WHITE_IS_ZERO


def directories(data: bytes) -> list[Directory]:
    """Read the directories of a file: the chain of its pictures, each followed by those below it."""
    layout = _Layout.of(data)
    found: list[Directory] = []
    seen = {0}
    offset = layout.first(data) if layout else 0
    while layout and offset not in seen and len(found) < _MAX_DIRECTORIES:
        seen.add(offset)
        directory, offset = layout.read(data, offset)
        if directory is None:
            break
        found.append(directory)
        for below in directory.tags.get(SUB_DIRECTORIES, ()):
            if below not in seen and len(found) < _MAX_DIRECTORIES:
                seen.add(below)
                inner, _ = layout.read(data, below)
                found.extend([inner] if inner else [])
    return found


def _has_raw_header(data: bytes) -> bool:
    # Canon's CR2 and Phase One's IIQ say so between the header and the first directory.
    return data[8:10] == b"CR" or data[8:12] in (b"IIII", b"MMMM")


def _starting_at(data: bytes, offset: int) -> bytes:
    layout = _Layout.of(data)
    assert layout is not None
    at, form = (8, "Q") if layout.big else (4, "I")
    first = struct.pack(layout.order + form, offset)
    return b"".join((data[:at], first, memoryview(data)[at + len(first) :]))


@attrs.frozen
class _Layout:
    """How numbers are stored: byte order, and whether it is a BigTIFF."""

    order: str
    big: bool

    @classmethod
    def of(cls, data: bytes) -> _Layout | None:
        known = {b"II*\0": ("<", False), b"MM\0*": (">", False), b"II+\0": ("<", True), b"MM\0+": (">", True)}
        found = known.get(data[:4])
        return cls(*found) if found else None

    def first(self, data: bytes) -> int:
        return self._number("Q" if self.big else "I", data, 8 if self.big else 4) or 0

    def read(self, data: bytes, offset: int) -> tuple[Directory | None, int]:
        """Read the directory at an offset, and where the next one is; None if it is not in the file."""
        count = self._number("Q" if self.big else "H", data, offset)
        if count is None:
            return None, 0
        start, step = offset + (8 if self.big else 2), 20 if self.big else 12
        tags: dict[int, tuple[int, ...]] = {}
        for at in range(start, start + step * min(count, _MAX_TAGS), step):
            tag = self._number("H", data, at)
            if tag is None:
                break
            if tag in _WANTED:
                tags[tag] = self._values(data, at) or (0,)
        following = self._number("Q" if self.big else "I", data, start + step * count)
        return Directory(offset, tags), following or 0

    def _values(self, data: bytes, at: int) -> tuple[int, ...]:
        form = _TYPES.get(self._number("H", data, at + 2) or 0)
        count = self._number("Q" if self.big else "I", data, at + 4)
        if form is None or not count:
            return ()
        inline, value_at = (8, at + 12) if self.big else (4, at + 8)
        if count * struct.calcsize(form) > inline:
            value_at = self._number("Q" if self.big else "I", data, value_at) or len(data)
        size = struct.calcsize(form)
        values = (self._number(form, data, value_at + size * index) for index in range(min(count, _MAX_VALUES)))
        return tuple(value for value in values if value is not None)

    def _number(self, form: str, data: bytes, at: int) -> int | None:
        if at + struct.calcsize(form) > len(data):
            return None
        (value,) = struct.unpack_from(self.order + form, data, at)
        return int(value)
