"""Limits on what a server may send before the headers of its response are complete."""

from __future__ import annotations

import httpx

from .http1_head import MAX_HEAD

_MAX_READ = 16 * 1024  # bytes parsed in one go, so that thousands of interim responses do not block the event loop


class ResponseHead:
    """Counts the bytes before a response's headers are complete, and detects bytes that arrive before the request.

    Attributes:
        is_awaited: Whether the headers are still incomplete.
        is_early: Whether bytes arrived on a reused connection before the request was sent completely.
    """

    def __init__(self) -> None:
        self.is_awaited = True
        self.is_early = False
        self._is_reused = False
        self._is_sending = False
        self._size = 0

    def reset(self) -> None:
        """Prepare for another request on a reused connection."""
        self.is_awaited = self._is_reused = True
        self.is_early = self._is_sending = False
        self._size = 0

    def complete(self) -> None:
        """Record that the headers are complete; what follows is the body, which its reader limits."""
        self.is_awaited = self._is_reused = False

    def limit(self, max_bytes: int) -> int:
        """Return how many bytes may be read in one go."""
        return min(max_bytes, _MAX_READ)

    def count(self, data: bytes) -> None:
        """Count bytes that were read.

        Raises:
            httpx.RemoteProtocolError: The headers are larger than allowed.
        """
        if self._size > MAX_HEAD:
            raise httpx.RemoteProtocolError(f"the response headers have more than {MAX_HEAD:,} bytes")
        self._size += len(data)

    def check_unsolicited(self, has_data: bool) -> None:
        """Record whether a reused connection has data before its next request is sent.

        Raises:
            httpx.RemoteProtocolError: It has, and nothing of the request was sent yet, so the data belongs to no
                request.
        """
        if self._is_reused and has_data:
            if not self._is_sending:
                raise httpx.RemoteProtocolError("the server sent a response without a request")
            self.is_early = True
        self._is_sending = True
