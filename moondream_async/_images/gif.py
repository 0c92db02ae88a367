"""Remove what a GIF holds before its first frame and decoding does not need (pure)."""

from __future__ import annotations

from .limits import refused

_MAX_BLOCKS = 100_000
_EXTENSION = b"!"
_GRAPHIC_CONTROL = 0xF9  # transparency; the only extension that affects decoding


def without_extensions(data: bytes) -> bytes:
    """Return the file without comments and application data before its first frame.

    Raises:
        ImageError: There are too many blocks.
    """
    flags = data[10] if len(data) > 10 else 0
    start = at = 13 + (3 << (flags & 7) + 1 if flags & 0x80 else 0)
    kept, count = [data[:start]], 0
    while data[at : at + 1] == _EXTENSION:
        block_start, label = at, data[at + 1 : at + 2]
        at += 2
        while at < len(data):
            count += 1
            if count > _MAX_BLOCKS:
                raise refused(f"more than {_MAX_BLOCKS:,} blocks before its first frame")
            length = data[at]
            at += 1 + length
            if length == 0:
                break
        if label == bytes([_GRAPHIC_CONTROL]):
            kept.append(data[block_start:at])
    return data if at == start else b"".join([*kept, memoryview(data)[at:]])
