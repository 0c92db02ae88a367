"""Refuse files whose structure is built to exhaust a decoder, before decoding (pure).

The number of pixels is checked elsewhere. These checks are about everything else: tags that claim the same megabyte
sixty thousand times, millions of empty chunks, hundreds of scans of one picture. Real files are far below every
limit. Each check reads a file about once.
"""

from __future__ import annotations

import itertools
import re
import struct
from collections.abc import Callable, Iterable, Iterator

from . import isobmff, jpeg2000, searching, tags
from .limits import check_size, refused

_MAX_BLOCKS = 100_000  # segments of a JPEG, chunks of a WebP
_MAX_SCANS = 64  # of a progressive JPEG; encoders write about ten
_MAX_EXIF = 16  # EXIF segments of a JPEG, which Pillow joins one by one
_MAX_SLOW_BYTES = 16 * 1024 * 1024  # of formats that Pillow decodes in Python
_MAX_SLOW_PIXELS = 10_000_000
_RUN_LENGTHS = (b"\1", b"\2")  # BMP compressions that Pillow decodes in Python
_MARKER = re.compile(rb"\xff([^\x00\xff])")
_MARKER_IN_SCAN = re.compile(rb"\xff([^\x00\xd0-\xd7\xff])")  # except restart markers, which have no data
_SCAN, _END = 0xDA, 0xD9
_BARE_MARKERS = frozenset({0xC8, *range(0xD0, 0xDA), *range(0xF0, 0xFE)})  # which have no data, according to Pillow
_MAX_JUNK = 1024 * 1024  # bytes outside segments, which Pillow reads one by one


def check(data: bytes, kind: str | None) -> None:
    """Check a file's structure.

    Raises:
        ImageError: It would take far more time or memory to decode than an image of its size needs.
    """
    check_structure = _CHECKS.get(kind or "")
    if check_structure is not None:
        check_structure(data)


def _check_jpeg(data: bytes) -> None:
    exif: list[bytes] = []
    end = 2
    for count, (marker, start, end) in enumerate(_jpeg_segments(data)):
        if marker == 0xE1 and data[start : start + 6] == b"Exif\0\0":
            exif.append(data[start + 6 : end])
        elif marker == 0xE2 and data[start : start + 4] == b"MPF\0":  # the index of an MPO's pictures
            tags.check_block(data[start + 4 : end])
        if count >= _MAX_BLOCKS or len(exif) > _MAX_EXIF:
            raise refused(f"more than {_MAX_BLOCKS:,} segments, or {_MAX_EXIF} of EXIF")
    tags.check_block(b"".join(exif))  # joined, as Pillow reads them
    if _has_more(searching.offsets(data, b"\xff\xda"), _MAX_SCANS) and _has_more(_scans(data, end), _MAX_SCANS):
        raise refused(f"more than {_MAX_SCANS} scans")


def _jpeg_segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield the marker, start and end of each segment before the first scan, as Pillow finds them."""
    at, junk = 2, 0
    while match := _MARKER.search(data, at, at + _MAX_JUNK):
        junk += match.start() - at
        if junk > _MAX_JUNK:
            break
        at, marker = match.end(), match[1][0]
        if marker in _BARE_MARKERS:
            yield marker, at, at
            continue
        start, at = at + 2, at + max(2, int.from_bytes(data[at : at + 2], "big"))
        yield marker, start, at
        if marker == _SCAN:
            return
    if len(data) - at > _MAX_JUNK:
        raise refused("a megabyte that belongs to no segment")


def _scans(data: bytes, at: int) -> Iterator[int]:
    """Yield the start of each scan after the first, up to the end of the image; `at` is inside the first scan."""
    while (match := _MARKER_IN_SCAN.search(data, at)) and match[1][0] != _END:
        at = match.end() + int.from_bytes(data[match.end() : match.end() + 2], "big")
        if match[1][0] == _SCAN:
            yield match.start()


def _has_more(items: Iterable[int], limit: int) -> bool:
    return sum(1 for _ in itertools.islice(items, limit + 1)) > limit


def _check_bmp(data: bytes) -> None:
    width, height = struct.unpack_from("<ii", data.ljust(34, b"\0"), 18)
    if data[30:31] in _RUN_LENGTHS and (len(data) > _MAX_SLOW_BYTES or abs(width * height) > _MAX_SLOW_PIXELS):
        raise refused("too many pixels or bytes for a format that is read slowly; save it as PNG")


def _check_webp(data: bytes) -> None:
    if data[12:16] == b"VP8X" and len(data) >= 30:  # its canvas is allocated when the file is opened
        check_size(1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little"))
    at, count = 12, 0
    while at + 8 <= len(data):
        count += 1
        if count > _MAX_BLOCKS:
            raise refused(f"more than {_MAX_BLOCKS:,} chunks")
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"EXIF":
            tags.check_block(data[at + 8 : at + 8 + length])
        at += 8 + length + length % 2


_CHECKS: dict[str, Callable[[bytes], None]] = {
    "JPEG": _check_jpeg,
    "BMP": _check_bmp,
    "WEBP": _check_webp,
    "TIFF": tags.check_block,
    "AVIF": isobmff.check,
    "HEIF": isobmff.check,
    "JPEG2000": jpeg2000.check,
}
