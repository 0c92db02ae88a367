"""Search a large file without blocking other threads (pure)."""

from __future__ import annotations

from collections.abc import Iterator

_WINDOW = 8 * 1024 * 1024  # bytes searched at a time, because `bytes.find` holds the GIL


def offsets(data: bytes, pattern: bytes) -> Iterator[int]:
    """Yield the offset of each occurrence of `pattern`, without overlaps."""
    start = 0
    while start < len(data):
        end = start + _WINDOW
        offset = data.find(pattern, start, end + len(pattern) - 1)
        if offset < 0:
            start = end
        else:
            yield offset
            start = offset + len(pattern)
