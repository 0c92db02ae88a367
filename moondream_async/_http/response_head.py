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
        is_early: Whether they began to come, on a kept connection, before the request was sent.
    """

    def __init__(self) -> None:
        self.is_awaited = True
        self.is_early = False
        self._is_reused = False
        self._is_sending = False
        self._read = 0

    def expect(self) -> None:
        """Begin another exchange on a connection that was kept."""
        self.is_awaited = self._is_reused = True
        self.is_early = self._is_sending = False
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
        """Note whether a kept connection says something before its next request is sent.

        Raises:
            httpcore.RemoteProtocolError: Nothing of the request was sent yet, so that the bytes belong to no request.
        """
        if self._is_reused and has_data:
            if not self._is_sending:
                raise httpcore.RemoteProtocolError("the server sent an answer that nobody had asked for")
            self.is_early = True
        self._is_sending = True
