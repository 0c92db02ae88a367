"""Parse HTTP/1.1 responses with httptools if it is installed (extra `fast`), otherwise with h11.

Both accept and refuse the same responses, with two exceptions: h11 refuses chunk sizes of more than 20 digits, and
httptools control characters in chunk extensions.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, cast

import h11
import httpx

from . import http1_head
from .http1_head import MAX_HEAD, Head

_MAX_EVENTS = 128  # parsed by h11 at a time, so that tiny chunks do not block the event loop


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
            parts = http1_head.split_head(self._unparsed + data)
            if parts is None:
                self._unparsed += data
                break
            raw, data = http1_head.normalize(parts[0]), parts[1]
            self._unparsed = b""
            head = http1_head.check(raw)
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


class H11Parser(ResponseParser):
    """Parses responses with h11: pure Python, always installed."""

    def start(self) -> None:
        """Prepare for the next response."""
        super().start()
        self._connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=2 * MAX_HEAD)
        self._connection.send(_any_request())
        self._connection.send(h11.EndOfMessage())

    def _parse(self, data: bytes) -> bool:
        try:
            if data:
                self._connection.receive_data(data)
            return self._next_events()
        except h11.RemoteProtocolError as exc:
            problem = str(exc)
        raise httpx.RemoteProtocolError(problem)

    def _next_events(self) -> bool:
        for _ in range(_MAX_EVENTS):
            event = self._connection.next_event()
            if isinstance(event, h11.Data):
                self.chunks.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                self.is_complete = True
                self.has_surplus = bool(self._connection.trailing_data[0])
                return False
            elif not isinstance(event, h11.Response):  # NEED_DATA, or PAUSED after the end
                self.has_surplus = self.is_complete
                return False
        return True


class HttptoolsParser(ResponseParser):
    """Parses responses with httptools, in C."""

    def __init__(self, parser_class: Callable[[object], Any]) -> None:
        super().__init__()
        self._parser = parser_class(self)
        # As h11: with both framings the chunks count, and spaces may follow the size of a chunk.
        self._parser.set_dangerous_leniencies(lenient_chunked_length=True, lenient_spaces_after_chunk_size=True)

    def _parse(self, data: bytes) -> bool:
        try:
            self._parser.feed_data(data)
        except Exception as exc:
            problem = str(exc)
        else:
            return False
        if not self.is_complete:
            raise httpx.RemoteProtocolError(problem)
        self.has_surplus = True
        return False

    def on_message_begin(self) -> None:
        """Note that a response begins, perhaps a second one."""
        self.has_surplus = self.is_complete

    def on_body(self, body: bytes) -> None:
        """Add a part of the body."""
        if not self.has_surplus:
            self.chunks.append(body)

    def on_message_complete(self) -> None:
        """Note the end of the response."""
        self.is_complete = True


def new_parser() -> ResponseParser:
    """Return the fastest parser that is installed."""
    parser_class = _httptools_class()
    return H11Parser() if parser_class is None else HttptoolsParser(parser_class)


@functools.cache
def _httptools_class() -> Callable[[object], Any] | None:
    try:
        import httptools
    except ImportError:
        return None
    return cast("Callable[[object], Any]", cast("Any", httptools).HttpResponseParser)


@functools.cache
def _any_request() -> h11.Request:
    """Return a request that h11 wants to see before the response."""
    return h11.Request(method="POST", target="/", headers=[("Host", "x"), ("Content-Length", "0")])
