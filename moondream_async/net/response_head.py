"""Bounds of what a server may send before the headers of its answer are complete."""

from __future__ import annotations

import httpcore

LARGEST_HEAD = 64 * 1024
"""Bytes of an answer's headers, with all interim (1xx) answers before them."""

_PIECE = 16 * 1024  # bytes parsed in one go, so that thousands of interim answers do not hold the event loop


class ResponseHead:
    """Counts what comes before an answer's headers are complete, and notices what comes before they are asked for.

    Attributes:
        is_awaited: Whether the headers are still to come.
    """

    def __init__(self) -> None:
        self.is_awaited = True
        self._is_reused = False
        self._read = 0

    def expect(self) -> None:
        """Begin another exchange on a connection that was kept."""
        self.is_awaited = self._is_reused = True
        self._read = 0

    def arrived(self) -> None:
        """Note that the headers are complete: what comes now is the body, and bounded by its reader."""
        self.is_awaited = self._is_reused = False

    @property
    def has_begun(self) -> bool:
        """Whether some of it has come."""
        return self._read > 0

    def limit(self, max_bytes: int) -> int:
        """Return how many bytes may be read in one go."""
        return min(max_bytes, _PIECE)

    def count(self, data: bytes) -> None:
        """Count what was read.

        Raises:
            httpcore.RemoteProtocolError: It is more than headers may have.
        """
        if self._read > LARGEST_HEAD:
            raise httpcore.RemoteProtocolError(f"the headers of the answer have more than {LARGEST_HEAD:,} bytes")
        self._read += len(data)

    def check_silence(self, has_data: bool) -> None:
        """Check that a kept connection says nothing before its next request is sent.

        Raises:
            httpcore.RemoteProtocolError: It does; those bytes belong to no request of ours.
        """
        if self._is_reused and has_data:
            raise httpcore.RemoteProtocolError("the server sent an answer that nobody had asked for")
