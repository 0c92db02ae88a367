"""Parse HTTP/1.1 responses with httptools (extra `fast`), in C."""

from __future__ import annotations

from typing import Any, cast

import httptools
import httpx

from .http1_parser import ResponseParser

if not hasattr(cast("Any", httptools).HttpResponseParser, "set_dangerous_leniencies"):
    raise ImportError("this version of httptools is too old")


class HttptoolsParser(ResponseParser):
    """Parses responses with httptools."""

    def __init__(self) -> None:
        super().__init__()
        self._parser: Any = cast("Any", httptools).HttpResponseParser(self)
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
