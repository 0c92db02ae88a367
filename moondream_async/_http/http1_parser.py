"""Parse HTTP/1.1 responses with httptools if it is installed (extra `fast`), otherwise with h11.

Both accept and refuse the same responses, with two exceptions: h11 refuses chunk sizes of more than 20 digits, and
httptools control characters in chunk extensions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import httpx

from .._concurrency.forks import no_fork
from . import http1_head
from .http1_head import MAX_HEAD, Head


class ResponseParser:
    """Parses the responses of one connection, one after the other.

    Attributes:
        head: The head of the response, without interim (1xx) responses; None until it is complete.
        chunks: Parts of its body that were parsed and not taken yet.
        is_complete: Whether all of it was parsed.
        has_surplus: Whether data follows it.
    """

    head: Head | None = None
    chunks: list[bytes]
    is_complete = has_surplus = False

    def __init__(self) -> None:
        self._unparsed = b""  # the beginning of a head
        self._framing_size = 0  # bytes since the last byte of a body
        self.start()

    def start(self) -> None:
        """Prepare for the next response."""
        self.head, self.chunks = None, []
        self.is_complete = self.has_surplus = False
        self._framing_size = 0

    def feed(self, data: bytes) -> bool:
        """Parse data, and return whether some of it is left, to be parsed by `feed(b"")`.

        Raises:
            httpx.RemoteProtocolError: It is not a valid response.
        """
        self._framing_size += len(data)
        while self.head is None:
            parts = http1_head.split_head(self._unparsed + data, len(self._unparsed))
            if parts is None:
                self._unparsed += data
                break
            self._unparsed, data = b"", parts[1]
            raw, head = http1_head.read_head(parts[0])
            if head.status >= 200:
                self.head = head
                data = raw + data
        has_more = self.head is not None and self._parse(data)
        if self.chunks:
            self._framing_size = 0
        elif self._framing_size > MAX_HEAD and not self.is_complete:
            raise httpx.RemoteProtocolError(f"the response headers have more than {MAX_HEAD:,} bytes")
        return has_more

    def feed_end(self) -> None:
        """Parse the end of the connection.

        Raises:
            httpx.RemoteProtocolError: The response is not complete.
        """
        if self.head is None:
            raise httpx.RemoteProtocolError("the server closed the connection without a response")
        if self.head.has_end and not self.is_complete:
            raise httpx.RemoteProtocolError("the server closed the connection before the response was complete")
        self.is_complete = True

    def _parse(self, data: bytes) -> bool:
        raise NotImplementedError


def new_parser() -> ResponseParser:
    """Return a parser of the fastest library that is installed."""
    return _parser_class()()


@functools.cache
def _parser_class() -> Callable[[], ResponseParser]:
    with no_fork():
        try:
            from .httptools_parser import HttptoolsParser
        except ImportError:
            from .h11_parser import H11Parser

            return H11Parser
        return HttptoolsParser
