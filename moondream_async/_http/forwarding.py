"""Forward a request to a service, and give its response on without collecting it, and without the key."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import anyio
import httpx

from .._wire.redact import Redactor
from .._wire.responses import InvalidResponse, decode
from ..errors import APIError, MoondreamError
from .client import HttpClient
from .event_stream import MAX_EVENT
from .request import REDIRECT_STATUSES, Request
from .response_body import MAX_RESPONSE, ResponseTooLargeError, read_all
from .retrying import FailedAttempt
from .transport_errors import TRANSPORT_ERRORS, from_transport, total_timeout

_HEADERS = ("retry-after", "retry-after-ms", "x-request-id")
_HEADER_PREFIX = "x-fal-"
_PLAIN_TEXT = "text/plain; charset=utf-8"  # of responses that are not JSON, which a browser must not show as a page


class Forwarded:
    """The response to a forwarded request.

    Attributes:
        status: Its status.
        headers: Those of its headers that may be given on, with lowercase names.
        request_id: The request's ID at the service, if it said it.
    """

    def __init__(self, response: httpx.Response, redactor: Redactor) -> None:
        self._response = response
        self._redactor = redactor
        self.status = response.status_code
        kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        self._is_stream = response.is_success and kind == "text/event-stream"
        self.headers = redactor.headers(
            {name: value for name, value in response.headers.items() if name in _HEADERS or name[:6] == _HEADER_PREFIX}
        )
        self.headers["content-type"] = kind if self._is_stream or kind == "application/json" else _PLAIN_TEXT
        self.request_id = self.headers.get("x-request-id") or self.headers.get("x-fal-request-id")

    async def parts(self) -> AsyncIterator[bytes]:
        """Yield the body: of an event stream, lines as they arrive; of any other response, all of it at once.

        Raises:
            MoondreamError: The connection broke, or the response is too large.
        """
        if not self._is_stream:
            yield self._redacted(await self._read_all())
            return
        rest = b""
        async for chunk in self._chunks():
            lines, newline, rest = (rest + chunk).rpartition(b"\n")
            if newline:
                yield self._redacted(lines + newline)
            if len(rest) > MAX_EVENT:
                raise _unusable("one of its events is too large")
        if rest:
            yield self._redacted(rest)

    async def _read_all(self) -> bytes:
        try:
            return await read_all(self._response, MAX_RESPONSE)
        except ResponseTooLargeError as exc:
            raise _unusable(str(exc)) from None

    async def _chunks(self) -> AsyncIterator[bytes]:
        response = self._response
        encoded = "content-encoding" in response.headers
        source = response.aiter_bytes() if encoded else cast("httpx.AsyncByteStream", response.stream)
        async for chunk in source:
            yield chunk

    def _redacted(self, data: bytes) -> bytes:
        if not self._redactor.may_be_in(data):
            return data
        if not self._is_stream:
            try:
                return _redacted_json(data, self._redactor)
            except InvalidResponse:
                pass
        lines = data.decode("utf-8", "replace").split("\n")
        redacted = [self._redactor.text(line) for line in lines]
        return data if redacted == lines else "\n".join(redacted).encode()


@asynccontextmanager
async def forward(http: HttpClient, request: Request) -> AsyncGenerator[Forwarded]:
    """Send a request once and give its response, its body unread; close it at the end.

    Redirects are not followed, as the key must not go elsewhere.

    Args:
        http: Sends the request. Its `Timeouts.total` covers everything until the response was read.
        request: The request, with the key.

    Raises:
        MoondreamError: There was no response, it cannot be given on, or the connection broke while it was read.
    """
    error: MoondreamError | None = None
    response: httpx.Response | None = None
    with http.lease(request) as lease, anyio.move_on_after(http.timeouts.total) as limit:
        try:
            response = await http.open(request, lease)
            if response.status_code in REDIRECT_STATUSES:
                raise _unusable("it redirects elsewhere")
            if lease is not None:
                lease.record(None if response.status_code < 500 else FailedAttempt(_unusable("5xx"), None))
            yield Forwarded(response, http.redactor)
        except TRANSPORT_ERRORS as exc:
            failed = http.explain(request.address, cast("Exception", from_transport(exc)))
            if lease is not None:
                lease.record(failed)
            error = failed.error
        finally:
            if response is not None:
                with anyio.CancelScope(shield=True):
                    await response.aclose()
    if limit.cancelled_caught:
        error = total_timeout(http.timeouts.total, "Timeouts.total", request.address)
    if error is not None:
        raise error


def _redacted_json(data: bytes, redactor: Redactor) -> bytes:
    redacted = redactor.json(decode(data))
    return data if redacted == decode(data) else json.dumps(redacted).encode("ascii")


def _unusable(problem: str) -> APIError:
    return APIError(f"The server's response cannot be used: {problem}.", status=502)
