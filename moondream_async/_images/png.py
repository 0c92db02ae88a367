"""Read what a PNG says about its picture, and leave out what is not needed to decode it (pure).

Pillow unpacks every text and profile, and refuses a sound file when one of them is longer than 1 MB.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from .limits import refused

_SIGNATURE_SIZE = 8
_MAX_CHUNKS = 100_000
_MAX_PROFILE = 16 * 1024 * 1024  # bytes of a color profile; real ones have up to a few million
_MAX_TEXT = 1024 * 1024  # bytes of a text that are searched for the orientation

_LEFT_OUT = (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf")
_XMP = b"XML:com.adobe.xmp"
_RAW_EXIF = b"Raw profile type exif"  # how ImageMagick writes EXIF


class Chunk(NamedTuple):
    """One chunk: its type, where it starts (with its length), and where its data starts and ends."""

    type: bytes
    start: int
    data_start: int
    data_end: int


def split(data: bytes) -> tuple[bytes, dict[str, Any]]:
    """Split a PNG into a file that holds only what decoding needs, and the rest as Pillow's `Image.info` has it.

    Raises:
        ImageError: It has too many chunks, or a color profile that is too long.
    """
    kept: list[memoryview] = []
    info: dict[str, Any] = {}
    view, kept_from = memoryview(data), 0
    for chunk in _chunks(data):
        if chunk.type not in _LEFT_OUT:
            continue
        kept.append(view[kept_from : chunk.start])
        kept_from = chunk.data_end + 4
        _add_info(info, chunk.type, view[chunk.data_start : chunk.data_end])
    if not kept:
        return data, info
    return b"".join([*kept, view[kept_from:]]), info


def _chunks(data: bytes) -> Iterator[Chunk]:
    at, count = _SIGNATURE_SIZE, 0
    while at + 8 <= len(data):
        count += 1
        if count > _MAX_CHUNKS:
            raise refused(f"more than {_MAX_CHUNKS:,} chunks")
        length = int.from_bytes(data[at : at + 4], "big")
        chunk = Chunk(data[at + 4 : at + 8], at, at + 8, at + 8 + length)
        yield chunk
        if chunk.type == b"IEND":
            break
        at += 12 + length


def _add_info(info: dict[str, Any], type_: bytes, content: memoryview) -> None:
    """Add what a chunk says to `info`, unless an earlier one said it."""
    keyword, _, _ = bytes(content[:80]).partition(b"\0")
    rest = content[len(keyword) + 1 :]
    if type_ == b"eXIf":
        info.setdefault("exif", b"Exif\0\0" + content)
    elif type_ == b"iCCP" and "icc_profile" not in info:
        info["icc_profile"] = _profile(rest[1:])
    elif type_ == b"iTXt" and keyword == _XMP and "xmp" not in info:
        info["xmp"] = _international_text(rest)
    elif type_ in (b"tEXt", b"zTXt") and keyword == _RAW_EXIF and _RAW_EXIF.decode() not in info:
        text = _unpacked(rest[1:], _MAX_TEXT) if type_ == b"zTXt" else bytes(rest[:_MAX_TEXT])
        info[_RAW_EXIF.decode()] = text.decode("latin-1")


def _profile(packed: memoryview) -> bytes:
    profile = _unpacked(packed, _MAX_PROFILE + 1)
    if len(profile) > _MAX_PROFILE:
        raise refused(f"a color profile of more than {_MAX_PROFILE:,} bytes")
    return profile


def _international_text(rest: memoryview) -> bytes:
    """The text of an iTXt chunk, after its keyword: two flags, the language, the translated keyword, the text."""
    is_packed = bytes(rest[:1]) == b"\1"
    _, _, after_language = bytes(rest[2 : _MAX_TEXT + 2]).partition(b"\0")
    _, _, text = after_language.partition(b"\0")
    return _unpacked(memoryview(text), _MAX_TEXT) if is_packed else text


def _unpacked(packed: memoryview, most: int) -> bytes:
    """Up to so many bytes of what was packed; none if it is damaged."""
    try:
        return zlib.decompressobj().decompress(packed, most)
    except zlib.error:
        return b""
