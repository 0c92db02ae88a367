"""Read a PNG's metadata, and remove what is not needed to decode it (pure).

Pillow decompresses all texts and profiles, and refuses a valid file if one of them is longer than 1 MB.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from typing import Any, NamedTuple

from .limits import refused

_SIGNATURE_SIZE = 8
_MAX_CHUNKS = 100_000
_MAX_PROFILE = 16 * 1024 * 1024  # bytes; real color profiles have up to a few million
_MAX_TEXT = 1024 * 1024  # bytes of a text that are searched for the orientation

_REMOVED = (b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf")
_XMP = b"XML:com.adobe.xmp"
_RAW_EXIF = b"Raw profile type exif"  # keyword under which ImageMagick stores EXIF


class Chunk(NamedTuple):
    """One chunk: its type, its start (the length field), and the start and end of its data."""

    type: bytes
    start: int
    data_start: int
    data_end: int


def split(data: bytes) -> tuple[bytes, dict[str, Any]]:
    """Split a PNG into a file with only what decoding needs, and the metadata in the form of Pillow's `Image.info`.

    Raises:
        ImageError: The file has too many chunks, or too large a color profile.
    """
    kept: list[memoryview] = []
    info: dict[str, Any] = {}
    view, kept_from = memoryview(data), 0
    for chunk in _chunks(data):
        if chunk.type not in _REMOVED:
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
    """Add the metadata of a chunk to `info`, unless an earlier chunk set it."""
    keyword, _, _ = bytes(content[:80]).partition(b"\0")
    rest = content[len(keyword) + 1 :]
    if type_ == b"eXIf":
        info.setdefault("exif", b"Exif\0\0" + content)
    elif type_ == b"iCCP" and "icc_profile" not in info:
        info["icc_profile"] = _read_profile(rest[1:])
    elif type_ == b"iTXt" and keyword == _XMP and "xmp" not in info:
        info["xmp"] = _read_itxt(rest)
    elif type_ in (b"tEXt", b"zTXt") and keyword == _RAW_EXIF and _RAW_EXIF.decode() not in info:
        text = _decompress(rest[1:], _MAX_TEXT) if type_ == b"zTXt" else bytes(rest[:_MAX_TEXT])
        info[_RAW_EXIF.decode()] = text.decode("latin-1")


def _read_profile(compressed: memoryview) -> bytes:
    profile = _decompress(compressed, _MAX_PROFILE + 1)
    if len(profile) > _MAX_PROFILE:
        raise refused(f"a color profile of more than {_MAX_PROFILE:,} bytes")
    return profile


def _read_itxt(rest: memoryview) -> bytes:
    """Return the text of an iTXt chunk; `rest` is two flags, the language, the translated keyword and the text."""
    is_compressed = bytes(rest[:1]) == b"\1"
    _, _, after_language = bytes(rest[2 : _MAX_TEXT + 2]).partition(b"\0")
    _, _, text = after_language.partition(b"\0")
    return _decompress(memoryview(text), _MAX_TEXT) if is_compressed else text


def _decompress(compressed: memoryview, limit: int) -> bytes:
    """Decompress up to `limit` bytes; return no bytes if the data is damaged."""
    try:
        return zlib.decompressobj().decompress(compressed, limit)
    except zlib.error:
        return b""
