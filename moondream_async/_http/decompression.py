"""Decompress gzip and deflate in steps, so that a few bytes cannot become gigabytes at once (pure)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

SUPPORTED_ENCODINGS = ("gzip", "x-gzip", "deflate")
"""Content encodings that can be decompressed."""

_MAX_OUTPUT = 256 * 1024  # bytes that are decompressed at a time
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_GZIP_MAGIC = b"\x1f\x8b"


class Decompressor:
    """Decompresses deflate, and gzip with any number of members.

    Raises:
        zlib.error: From its methods: the data is damaged.
    """

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._has_started = self._is_padding = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Decompress a chunk, and yield the output in pieces of limited size."""
        self._has_started = self._has_started or bool(data)
        while data and not self._is_padding:
            piece = self._inner.decompress(data, _MAX_OUTPUT)
            if piece:
                yield piece
            data = self._inner.unconsumed_tail
            if self._inner.eof:
                data = self._next_member()

    def finish(self) -> None:
        """Check that the data was complete."""
        if self._has_started and not self._inner.eof:
            raise zlib.error("the end is missing")

    def _next_member(self) -> bytes:
        """Return what follows a finished member, if it is another member."""
        rest = self._inner.unused_data
        if rest.startswith(_GZIP_MAGIC):
            self._inner = zlib.decompressobj(_GZIP_OR_ZLIB)
            return rest
        self._is_padding = not _GZIP_MAGIC.startswith(rest)
        return b""
