"""Files built to exhaust: found by their structure, before a decoder walks it in Python or copies it (pure).

Pixels are counted elsewhere. This is about what stands around them: tags that claim the same megabyte
sixty thousand times, millions of empty chunks, hundreds of passes over one picture. Real files are far
below every limit here.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from ..errors import ImageError

_MOST_BLOCKS = 100_000  # chunks of a PNG, segments of a JPEG, blocks of a GIF before its first picture
_MOST_SCANS = 64  # passes of a progressive JPEG; encoders make about ten
_MOST_EXIF = 16  # segments of EXIF in a JPEG, which Pillow joins one by one
_LARGEST_SLOW = 16 * 1024 * 1024  # bytes of the formats that Pillow reads in Python
_MOST_SLOW_PIXELS = 10_000_000
_LONGEST_HEADER = 4096  # bytes of a PPM, in which size and depth must have been told
_LARGEST_ICON, _MOST_ICONS = 4 * 1024 * 1024, 64
_RUN_LENGTHS = (b"\1", b"\2")  # compression of a BMP that is read in Python
_PIECES, _MOST_PIECES = (0x0111, 0x0144), 100_000  # strips and tiles of a TIFF, each decoded by a call
_TAG_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_POINTERS = (0x014A, 0x8769, 0x8825, 0xA005)  # tags that lead to further directories
_TAG_HEADERS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MOST_TAG_BLOCKS = 1000  # real files have a few, and chance makes one in a gigabyte
_MOST_POINTERS = 16


def check(data: bytes, kind: str | None) -> None:
    """Look at a file's structure.

    Raises:
        ImageError: It is built to take far more time or memory than an image of its size needs.
    """
    look = _LOOKS.get(kind or "")
    if look is not None:
        look(data)


def _hostile(what: str) -> ImageError:
    return ImageError(f"The image is refused undecoded: it has {what}.")


def _check_png(data: bytes) -> None:
    at, count = 8, 0
    while at + 8 <= len(data):
        count += 1
        if count > _MOST_BLOCKS:
            raise _hostile(f"more than {_MOST_BLOCKS:,} chunks")
        length = int.from_bytes(data[at : at + 4], "big")
        if data[at + 4 : at + 8] == b"eXIf":
            _check_exif(data[at + 8 : at + 8 + length])
        at += 12 + length


def _check_jpeg(data: bytes) -> None:
    if data.count(b"\xff\xda") > _MOST_SCANS:
        raise _hostile(f"more than {_MOST_SCANS} scans")
    at, count, exif = 2, 0, list[bytes]()
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda":
        count += 1
        end = at + 2 + int.from_bytes(data[at + 2 : at + 4], "big")
        if data[at + 4 : at + 10] == b"Exif\0\0":
            exif.append(data[at + 10 : end])
        if count > _MOST_BLOCKS or len(exif) > _MOST_EXIF:
            raise _hostile(f"more than {_MOST_BLOCKS:,} segments, or {_MOST_EXIF} of EXIF")
        at = end
    _check_exif(b"".join(exif))  # which is how Pillow reads it


def _check_bmp(data: bytes) -> None:
    width, height = struct.unpack_from("<ii", data.ljust(34, b"\0"), 18)
    if data[30:31] in _RUN_LENGTHS and (len(data) > _LARGEST_SLOW or abs(width * height) > _MOST_SLOW_PIXELS):
        raise _hostile("too many pixels or bytes for a format that is read slowly; save it as PNG")


def _check_ppm(data: bytes) -> None:
    words = re.sub(rb"#[^\r\n]*", b"", data[:_LONGEST_HEADER]).split(None, 4)
    if len(words) < 4:
        raise _hostile(f"no end of its header in the first {_LONGEST_HEADER:,} bytes")
    if data[1:2] in b"123" and len(data) > _LARGEST_SLOW:
        raise _hostile(f"more than {_LARGEST_SLOW:,} bytes in a format that is read slowly; save it as PNG")


def _check_ico(data: bytes) -> None:
    count = int.from_bytes(data[4:6], "little")
    if len(data) > _LARGEST_ICON or count > _MOST_ICONS:
        raise _hostile("more bytes or pictures than an icon has")
    for entry in range(count):
        inner = data[int.from_bytes(data[18 + 16 * entry : 22 + 16 * entry], "little") :]
        if not inner.startswith(b"\x89PNG") and inner[16:17] in _RUN_LENGTHS:
            raise _hostile("a picture of run lengths, which icons do not have")


def _check_webp(data: bytes) -> None:
    at, count = 12, 0
    while at + 8 <= len(data):
        count += 1
        if count > _MOST_BLOCKS:
            raise _hostile(f"more than {_MOST_BLOCKS:,} chunks")
        length = int.from_bytes(data[at + 4 : at + 8], "little")
        if data[at : at + 4] == b"EXIF":
            _check_exif(data[at + 8 : at + 8 + length])
        at += 8 + length + length % 2


def _check_gif(data: bytes) -> None:
    flags = data[10] if len(data) > 10 else 0
    at, count = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0), 0
    while data[at : at + 1] == b"!":
        at += 2
        while at < len(data):
            count += 1
            if count > _MOST_BLOCKS:
                raise _hostile(f"more than {_MOST_BLOCKS:,} blocks before its first picture")
            length = data[at]
            at += 1 + length
            if length == 0:
                break


def _check_exif(block: bytes) -> None:
    """Of the tags in here: values must not claim more bytes than there are."""
    block = block.removeprefix(b"Exif\0\0")
    if block[:4] in _TAG_HEADERS and _claimed(block, 0) > 2 * len(block) + 65536:
        raise _hostile("tags that claim more bytes than there are")


def _check_tags_anywhere(data: bytes) -> None:
    """The same of all tags in a file whose boxes are not looked at."""
    for header in _TAG_HEADERS:
        at, count = data.find(header), 0
        while at >= 0:
            count += 1
            if count > _MOST_TAG_BLOCKS or _claimed(data, at) > 2 * len(data) + 65536:
                raise _hostile("tags that claim more bytes than there are")
            at = data.find(header, at + 4)


def _claimed(data: bytes, base: int) -> int:
    """Bytes claimed by the tags of the structure that starts at `base`, to two directories deep."""
    order = "<" if data[base : base + 1] == b"I" else ">"
    big = data[base + 2 : base + 4] in (b"+\0", b"\0+")
    count_at, entry = (f"{order}Q", f"{order}HHQQ") if big else (f"{order}H", f"{order}HHII")
    first = _unpack(f"{order}Q" if big else f"{order}I", data, base + (8 if big else 4))
    total, directories = 0, [first[0]] if first else []
    for depth in range(2):
        found: list[int] = []
        for offset in directories[: _MOST_POINTERS if depth else 1]:
            count = _unpack(count_at, data, base + offset)
            start = base + offset + struct.calcsize(count_at)
            for index in range(min(count[0] if count else 0, 65535)):
                tag = _unpack(entry, data, start + index * struct.calcsize(entry))
                if tag is None:
                    break
                total += _TAG_SIZES.get(tag[1], 0) * tag[2]
                if tag[0] in _PIECES and tag[2] > _MOST_PIECES:
                    raise _hostile(f"its pixels in more than {_MOST_PIECES:,} pieces")
                if tag[0] in _POINTERS:
                    found.append(tag[3])
        directories = found
    return total


def _unpack(form: str, data: bytes, at: int) -> tuple[int, ...] | None:
    return struct.unpack_from(form, data, at) if at + struct.calcsize(form) <= len(data) else None


_LOOKS: dict[str, Callable[[bytes], None]] = {
    "PNG": _check_png,
    "JPEG": _check_jpeg,
    "GIF": _check_gif,
    "BMP": _check_bmp,
    "PPM": _check_ppm,
    "ICO": _check_ico,
    "WEBP": _check_webp,
    "TIFF": _check_exif,
    "AVIF": _check_tags_anywhere,
    "HEIF": _check_tags_anywhere,
    "JPEG2000": _check_tags_anywhere,
}
