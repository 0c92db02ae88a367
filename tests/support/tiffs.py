"""TIFF files with any tags, for tests; Pillow writes only some."""

from __future__ import annotations

import struct
from typing import Any

_FORMS = {1: "B", 3: "H", 4: "I"}
_LONG, _SHORT = 4, 3
_LONGS = (254, 256, 257, 273, 278, 279, 330)

Tags = dict[int, list[int]]


def picture(
    pixels: Any,
    *,
    photometric: int = 1,
    sample_format: int = 1,
    bits: int | None = None,
    planes: bool = False,
    tags: Tags | None = None,
) -> tuple[Tags, bytes]:
    """Return the tags and data of an array of shape (height, width[, channels]); with `planes`, (channels, height, width)."""
    shape = (*pixels.shape[1:], pixels.shape[0]) if planes else (*pixels.shape, 1)[:3]
    height, width, channels = shape
    defaults: Tags = {
        256: [width],
        257: [height],
        258: [bits or pixels.dtype.itemsize * 8] * channels,
        259: [1],
        262: [photometric],
        277: [channels],
        278: [height],
        284: [2 if planes else 1],
        339: [sample_format] * channels,
    }
    return defaults | (tags or {}), pixels.tobytes()


def tiff(*pictures: tuple[Tags, bytes], below: tuple[Tags, bytes] | None = None, order: str = "<") -> bytes:
    """Return a file of these pictures; `below` is a SubIFD of the first."""
    out = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))
    sub = _append(out, *below, order=order)[0] if below else None
    link_at = 4
    for tags, data in pictures:
        all_tags = tags | ({330: [sub]} if sub else {})
        sub = None
        at, next_link_at = _append(out, all_tags, data, order=order)
        struct.pack_into(f"{order}I", out, link_at, at)
        link_at = next_link_at
    return bytes(out)


def _append(out: bytearray, tags: Tags, data: bytes, *, order: str) -> tuple[int, int]:
    """Append a picture; return the offset of its directory, and of the directory's link to the next."""
    planes = tags[277][0] if tags.get(284) == [2] else 1
    size = len(data) // planes
    tags = {273: [len(out) + size * plane for plane in range(planes)], 279: [size] * planes, **tags}
    out += data
    entries = bytearray()
    for tag in sorted(tags):
        kind = _LONG if tag in _LONGS else 1 if tag == 50706 else _SHORT
        value = struct.pack(f"{order}{len(tags[tag])}{_FORMS[kind]}", *tags[tag])
        if len(value) > 4:
            out += bytes(len(out) % 2)
            value, large = struct.pack(f"{order}I", len(out)), value
            out += large
        entries += struct.pack(f"{order}HHI", tag, kind, len(tags[tag])) + value.ljust(4, b"\0")
    out += bytes(len(out) % 2)
    at = len(out)
    out += struct.pack(f"{order}H", len(tags)) + entries + bytes(4)
    return at, len(out) - 4
