"""Files built to exhaust: found by their structure, before a decoder walks it in Python or copies it (pure).

Pixels are counted elsewhere. This is about what stands around them: tags that claim the same megabyte
sixty thousand times, millions of empty chunks, hundreds of passes over one picture. Real files are far
below every limit here.
"""

from __future__ import annotations

import struct

from ..errors import ImageError

_MOST_BLOCKS = 100_000  # chunks of a PNG, segments of a JPEG, blocks of a GIF before its first picture
_MOST_SCANS = 64  # passes of a progressive JPEG; encoders make about ten
_LARGEST_SLOW = 16 * 1024 * 1024  # bytes of the formats that Pillow reads in Python
_TAG_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_POINTERS = (0x014A, 0x8769, 0x8825, 0xA005)  # tags that lead to further directories
_TAGGED = ("TIFF", "WEBP", "AVIF", "HEIF", "JPEG2000")  # the other formats that hold such tags, anywhere
_TAG_HEADERS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
_MOST_TAG_BLOCKS = 16


def check(data: bytes, kind: str | None) -> None:
    """Look at a file's structure.

    Raises:
        ImageError: It is built to take far more time or memory than an image of its size needs.
    """
    if kind == "PNG":
        _check_png(data)
    elif kind == "JPEG":
        _check_jpeg(data)
    elif kind == "GIF":
        _check_gif(data)
    elif _is_slow(data, kind) and len(data) > _LARGEST_SLOW:
        raise _hostile(f"more than {_LARGEST_SLOW:,} bytes in a format that is read slowly; save it as PNG")
    elif kind in _TAGGED:
        _check_tags(data)


def _is_slow(data: bytes, kind: str | None) -> bool:
    plain = kind == "PPM" and data[1:2] in b"123"
    run_lengths = kind == "BMP" and data[30:31] in (b"\1", b"\2")
    return plain or run_lengths


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
            _check_tags(data[at + 8 : at + 8 + length])
        at += 12 + length


def _check_jpeg(data: bytes) -> None:
    if data.count(b"\xff\xda") > _MOST_SCANS:
        raise _hostile(f"more than {_MOST_SCANS} scans")
    at, count = 2, 0
    while data[at : at + 1] == b"\xff" and data[at + 1 : at + 2] != b"\xda":
        count += 1
        if count > _MOST_BLOCKS:
            raise _hostile(f"more than {_MOST_BLOCKS:,} segments")
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    _check_tags(data[:at])


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


def _check_tags(data: bytes) -> None:
    """Of every TIFF structure in here, EXIF included: values must not claim more bytes than there are."""
    for header in _TAG_HEADERS:
        at = data.find(header)
        for _ in range(_MOST_TAG_BLOCKS):
            if at < 0:
                break
            if _claimed(data, at) > 2 * len(data) + 65536:
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
        for offset in directories[: _MOST_TAG_BLOCKS if depth else 1]:
            count = _unpack(count_at, data, base + offset)
            start = base + offset + struct.calcsize(count_at)
            for index in range(min(count[0] if count else 0, 65535)):
                tag = _unpack(entry, data, start + index * struct.calcsize(entry))
                if tag is None:
                    break
                total += _TAG_SIZES.get(tag[1], 0) * tag[2]
                if tag[0] in _POINTERS:
                    found.append(tag[3])
        directories = found
    return total


def _unpack(form: str, data: bytes, at: int) -> tuple[int, ...] | None:
    return struct.unpack_from(form, data, at) if at + struct.calcsize(form) <= len(data) else None
