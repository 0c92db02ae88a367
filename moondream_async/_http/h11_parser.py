"""Parse HTTP/1.1 responses with h11: pure Python, always installed, as httpx needs it."""

from __future__ import annotations

import functools

import h11
import httpx

from .http1_head import MAX_HEAD
from .http1_parser import ResponseParser

_MAX_EVENTS = 128  # parsed at a time, so that tiny chunks do not block the event loop


class H11Parser(ResponseParser):
    """Parses responses with h11."""

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


@functools.cache
def _any_request() -> h11.Request:
    """Return a request that h11 wants to see before the response."""
    return h11.Request(method="POST", target="/", headers=[("Host", "x"), ("Content-Length", "0")])
