"""Forward a request to a service, and pass its response on as it arrives, without the key."""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import anyio
import httpx

from .._wire.redact import Redactor
from .._wire.responses import InvalidResponse, decode
from ..errors import APIError, MoondreamError
from .client import HttpClient
from .decompression import SUPPORTED_ENCODINGS, Decompressor
from .event_stream import MAX_EVENT
from .request import REDIRECT_STATUSES, Request
from .response_body import MAX_RESPONSE
from .retrying import FailedAttempt
from .transport_errors import TRANSPORT_ERRORS, from_transport, total_timeout

_HEADERS = ("retry-after", "retry-after-ms", "x-request-id")
_PLAIN_TEXT = "text/plain; charset=utf-8"  # of responses that are not JSON, which a browser must not show as a page
_NO_ENCODING = ("", "identity")
_WINDOW, _OVERLAP = 48 * 1024, 8 * 1024  # characters; of longer texts, the redactor decodes no escapes
_REQUEST_ID = re.compile(rb'"request_id": ?"([\x20-\x21\x23-\x5b\x5d-\x7e]{1,200})"')


class Forwarded:
    """The response to a forwarded request.

    Attributes:
        status: Its status.
        headers: Those of its headers that may be passed on, with lowercase names.
        request_id: The request's ID at the service, if it said it.
    """

    def __init__(self, response: httpx.Response, redactor: Redactor) -> None:
        self._response = response
        self._redactor = redactor
        self.status = response.status_code
        if not 200 <= self.status <= 599:
            raise _unusable(f"its status is {self.status}")
        self._encoding = response.headers.get("content-encoding", "").strip().lower()
        if self._encoding not in (*_NO_ENCODING, *SUPPORTED_ENCODINGS):
            raise _unusable(f"its encoding {self._encoding!r} is not supported")
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        self._is_stream = response.is_success and kind == "text/event-stream"
        known = {name: value for name, value in response.headers.items() if name in _HEADERS or _is_fals(name)}
        redacted = redactor.headers({name: value for name, value in known.items() if redactor.text(name) == name})
        self.headers = {name: value for name, value in redacted.items() if value.isascii() and value.isprintable()}
        self.headers["content-type"] = kind if self._is_stream or kind == "application/json" else _PLAIN_TEXT
        self.request_id = self.headers.get("x-request-id") or self.headers.get("x-fal-request-id")

    async def parts(self) -> AsyncIterator[bytes]:
        """Yield the body: of an event stream, lines as they arrive; of any other response, all of it at once.

        Raises:
            MoondreamError: The connection broke, or the response is too large.
        """
        if not self._is_stream:
            body = b"".join([chunk async for chunk in self._chunks(MAX_RESPONSE)])
            self._find_request_id(body)
            yield self._redacted_body(body)
            return
        rest = b""
        async for chunk in self._chunks(None):
            data = rest + chunk
            end = max(data.rfind(b"\n"), data.rfind(b"\r")) + 1
            rest = data[end:]
            if end:
                self._find_request_id(data)
                yield b"".join(map(self._redacted_line, data[:end].splitlines(keepends=True)))
            if len(rest) > MAX_EVENT:
                raise _unusable("one of its events is too large")
        if rest:
            yield self._redacted_line(rest)

    async def _chunks(self, limit: int | None) -> AsyncIterator[bytes]:
        """Yield the body, decompressed; raise if it is larger than the limit."""
        decompressor = None if self._encoding in _NO_ENCODING else Decompressor()
        size = 0
        async for chunk in cast("httpx.AsyncByteStream", self._response.stream):
            for piece in (chunk,) if decompressor is None else decompressor.feed(chunk):
                size += len(piece)
                if limit is not None and size > limit:
                    raise _unusable(f"it has more than {limit:,} bytes")
                yield piece

    def _find_request_id(self, data: bytes) -> None:
        if self.request_id is None and (match := _REQUEST_ID.search(data)):
            self.request_id = self._redactor.text(match[1].decode("ascii"))

    def _redacted_body(self, data: bytes) -> bytes:
        if not self._redactor.may_be_in(data):
            return data
        try:
            return _redacted_json(data, self._redactor)
        except InvalidResponse:
            return self._redacted_text(data)

    def _redacted_line(self, line: bytes) -> bytes:
        if not self._redactor.may_be_in(line):
            return line
        field, colon, value = line.partition(b":")
        if field == b"data":
            try:
                return field + colon + b" " + _redacted_json(value.strip(), self._redactor) + line[len(line.rstrip()) :]
            except InvalidResponse:
                pass
        return self._redacted_text(line)

    def _redacted_text(self, data: bytes) -> bytes:
        if b"\0" in data:
            raise _unusable("it is not text")
        text = data.decode("utf-8", "replace")
        if len(text) <= _WINDOW:
            redacted = self._redactor.text(text)
            return data if redacted == text else redacted.encode("utf-8", "replace")
        for start in range(0, len(text), _WINDOW - _OVERLAP):
            window = text[start : start + _WINDOW]
            if self._redactor.text(window) != window:
                raise _unusable("it repeats the API key")
        return data


@asynccontextmanager
async def forward(http: HttpClient, request: Request) -> AsyncGenerator[Forwarded]:
    """Send a request once and give its response, its body unread; close it at the end.

    Redirects are not followed, as the key must not go elsewhere.

    Args:
        http: Sends the request. Its `Timeouts.total` covers everything until the response was read.
        request: The request, with the key.

    Raises:
        MoondreamError: There was no response, it cannot be passed on, or the connection broke while it was read.
    """
    error: MoondreamError | None = None
    response: httpx.Response | None = None
    with http.lease(request) as lease, anyio.move_on_after(http.timeouts.total) as limit:
        try:
            response = await http.open(request, lease)
            if response.status_code in REDIRECT_STATUSES:
                raise _unusable("it redirects elsewhere")
            if lease is not None:
                lease.record(
                    None
                    if response.status_code < 500
                    else FailedAttempt(_unusable(f"its status is {response.status_code}"), None)
                )
            yield Forwarded(response, http.redactor)
        except TRANSPORT_ERRORS as exc:
            failed = http.explain(request.address, cast("Exception", from_transport(exc)))
            if lease is not None:
                lease.record(failed)
            error = failed.error
        except zlib.error:
            error = _unusable("its compression is damaged")
        finally:
            if response is not None:
                with anyio.CancelScope(shield=True):
                    await response.aclose()
    if limit.cancelled_caught:
        error = total_timeout(http.timeouts.total, "Timeouts.total", request.address)
    if error is not None:
        raise error


def _is_fals(name: str) -> bool:
    return name.startswith("x-fal-")


def _redacted_json(data: bytes, redactor: Redactor) -> bytes:
    redacted = redactor.json(decode(data))
    return data if redacted == decode(data) else json.dumps(redacted).encode("ascii")


def _unusable(problem: str) -> APIError:
    return APIError(f"The server's response cannot be used: {problem}.", status=502)
