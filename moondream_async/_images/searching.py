"""Search a large file without keeping other threads waiting (pure)."""

from __future__ import annotations

from collections.abc import Iterator

_WINDOW = 8 * 1024 * 1024  # bytes searched at a time; a search does not let other threads run


def offsets(data: bytes, pattern: bytes) -> Iterator[int]:
    """Yield where `pattern` occurs, without overlaps."""
    start = 0
    while start < len(data):
        end = start + _WINDOW
        found = data.find(pattern, start, end + len(pattern) - 1)
        if found < 0:
            start = end
        else:
            yield found
            start = found + len(pattern)
