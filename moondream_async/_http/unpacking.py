"""gzip and deflate undone in steps, so that a few bytes cannot become gigabytes at once (pure)."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

SUPPORTED = ("gzip", "x-gzip", "deflate")
"""Content codings that can be undone."""

_STEP = 256 * 1024  # bytes that are unpacked at a time
_GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
_MAGIC = b"\x1f\x8b"


class Unpacker:
    """Undoes gzip, of one member or several, and deflate.

    Raises:
        zlib.error: From its methods: the data is damaged.
    """

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(_GZIP_OR_ZLIB)
        self._begun = self._is_padding = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        """Yield what a chunk unpacks to, in bounded pieces."""
        self._begun = self._begun or bool(data)
        while data and not self._is_padding:
            piece = self._inner.decompress(data, _STEP)
            if piece:
                yield piece
            data = self._inner.unconsumed_tail
            if self._inner.eof:
                data = self._next_member()

    def finish(self) -> None:
        """Check that the data was complete."""
        if self._begun and not self._inner.eof:
            raise zlib.error("the end is missing")

    def _next_member(self) -> bytes:
        """Return what follows the end of a member, if it is another one."""
        rest = self._inner.unused_data
        if rest.startswith(_MAGIC):
            self._inner = zlib.decompressobj(_GZIP_OR_ZLIB)
            return rest
        self._is_padding = not _MAGIC.startswith(rest)
        return b""
