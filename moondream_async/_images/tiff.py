"""Read the few TIFF tags that show which picture of a file is the main one, and how its samples are stored (pure).

Pillow opens the first picture of a file. In a camera's RAW photo, and in some image pyramids, that is a thumbnail.
"""

from __future__ import annotations

import struct
from typing import Any

import attrs

from ..errors import ImageError
from . import ifd

SUBFILE_TYPE, WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC = 254, 256, 257, 258, 259, 262
CHANNELS, PLANES, SUB_DIRECTORIES, SAMPLE_FORMAT, DNG_VERSION = 277, 284, 330, 339, 50706
SIGNED, FLOATS = 2, 3
"""Values of `SAMPLE_FORMAT`."""

RAW_PHOTO = "The file is a camera's RAW photo, which is not supported; convert it to JPEG first."

_OLD_SUBFILE_TYPE, _LEAF_DATA = 255, 34310
_SUBFILE_TYPES = (SUBFILE_TYPE, _OLD_SUBFILE_TYPE)
_PIXELS = (WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, CHANNELS, SAMPLE_FORMAT)
_TAGS = frozenset((*_SUBFILE_TYPES, *_PIXELS, SUB_DIRECTORIES, DNG_VERSION, _LEAF_DATA))
_SEPARATE_PLANES = 2  # value of PLANES
_WHITE_IS_ZERO = 0  # value of PHOTOMETRIC
_REDUCED = 1  # bit of SUBFILE_TYPE
_OLD_REDUCED = 2  # value of _OLD_SUBFILE_TYPE
_RAW_PHOTOMETRICS = (32803, 34892)  # color filter array, linear raw
_RAW_COMPRESSIONS = (262, 32767, 32769, 32770, 32772, 34713, 65000, 65535)  # Kodak, Sony, Epson, Samsung, Nikon, Pentax
_MAX_DIRECTORIES, _MAX_TAGS, _MAX_VALUES = 64, 1024, 16


@attrs.frozen
class Directory:
    """One picture of a TIFF: the offset of its directory, and its tags with integer values."""

    offset: int
    tags: dict[int, tuple[int, ...]]

    def get(self, tag: int, default: int = 0) -> int:
        """Return the first value of a tag."""
        return self.tags.get(tag, (default,))[0]

    @property
    def is_reduced(self) -> bool:
        """Whether it is marked as a smaller copy of another picture in the file."""
        return bool(self.get(SUBFILE_TYPE) & _REDUCED) or self.get(_OLD_SUBFILE_TYPE) == _OLD_REDUCED

    @property
    def is_raw(self) -> bool:
        """Whether it holds raw sensor values, or belongs to a file that does."""
        return (
            DNG_VERSION in self.tags
            or _LEAF_DATA in self.tags
            or self.get(PHOTOMETRIC) in _RAW_PHOTOMETRICS
            or self.get(COMPRESSION) in _RAW_COMPRESSIONS
        )


def main_picture(data: bytes) -> bytes:
    """Return the file with its main picture first: unchanged unless the first one is a reduced copy.

    Raises:
        ImageError: The file is a camera's RAW photo.
    """
    pictures = directories(data)
    if _has_raw_header(data) or any(picture.is_raw for picture in pictures):
        raise ImageError(RAW_PHOTO)
    if not pictures or not pictures[0].is_reduced:
        return data
    main = next((each for each in pictures if not each.is_reduced and each.get(WIDTH) and each.get(HEIGHT)), None)
    return data if main is None else _with_first(data, main.offset)


def check_picture(picture: Any) -> None:
    """Check the tags of a Pillow image that was opened from a TIFF; other images pass.

    Raises:
        ImageError: It is the thumbnail of a RAW photo, or Pillow reads its samples wrongly.
    """
    tags: Any = getattr(picture, "tag_v2", None)
    if tags is None:
        return
    if DNG_VERSION in tags or tags.get(PHOTOMETRIC) in _RAW_PHOTOMETRICS:
        raise ImageError(RAW_PHOTO)
    bits, formats = tags.get(BITS, (1,)), tags.get(SAMPLE_FORMAT, (1,))
    if SIGNED in formats and max(bits) < 32:
        raise ImageError(
            f"The image holds signed {max(bits)}-bit values without defined black and white points; "
            "scale them to 0..255 (uint8) first."
        )
    if tags.get(PLANES) == _SEPARATE_PLANES and len(bits) > 1 and max(bits) > 8:
        raise ImageError(
            f"The image is a TIFF of {max(bits)}-bit channels in separate planes, which is not supported; "
            "convert it to an 8-bit RGB PNG or JPEG first."
        )


def gray_scale(picture: Any) -> tuple[int, bool]:
    """Return how many bits a 16-bit gray image uses, and whether 0 is white; Pillow applies neither."""
    tags: Any = getattr(picture, "tag_v2", None)
    if tags is None or not picture.mode.startswith("I;16"):
        return 16, False
    return (12 if tags.get(BITS) == (12,) else 16), tags.get(PHOTOMETRIC) == _WHITE_IS_ZERO


def directories(data: bytes) -> list[Directory]:
    """Read the directories of a file: the chain of its pictures, each followed by its sub-directories."""
    layout = ifd.Layout.of(data)
    pictures: list[Directory] = []
    seen = {0}
    offset = layout.first(data) if layout else None
    while layout and offset and offset not in seen and len(pictures) < _MAX_DIRECTORIES:
        seen.add(offset)
        directory = _read_directory(layout, data, offset)
        if directory is None:
            break
        pictures.append(directory)
        for child in directory.tags.get(SUB_DIRECTORIES, ()):
            if child not in seen and len(pictures) < _MAX_DIRECTORIES:
                seen.add(child)
                inner = _read_directory(layout, data, child)
                pictures.extend([inner] if inner else [])
        offset = layout.next(data, offset)
    return pictures


def _read_directory(layout: ifd.Layout, data: bytes, offset: int) -> Directory | None:
    """Read the directory at an offset, or return None if the file ends before it."""
    count = layout.entry_count(data, offset)
    if count is None:
        return None
    entries = layout.entries(data, offset, min(count, _MAX_TAGS))
    tags = {entry.tag: layout.integers(data, entry, _MAX_VALUES) or (0,) for entry in entries if entry.tag in _TAGS}
    return Directory(offset, tags)


def _has_raw_header(data: bytes) -> bool:
    # Canon's CR2 and Phase One's IIQ have a mark between the header and the first directory.
    return data[8:10] == b"CR" or data[8:12] in (b"IIII", b"MMMM")


def _with_first(data: bytes, offset: int) -> bytes:
    """Return the file with its header pointing to the directory at another offset."""
    layout = ifd.Layout.of(data)
    assert layout is not None
    first = struct.pack(layout.offset_format, offset)
    return b"".join((data[: layout.first_at], first, memoryview(data)[layout.first_at + len(first) :]))
