"""A request and a response of httpx for `PooledTransport`, made without copying headers that nobody may look at."""

from __future__ import annotations

import functools
from typing import Any

import httpx

from .payloads import BytesBody, FileBody


class SharedHeaders(httpx.Headers):
    """The headers of many requests, not changed any more once a request has them. A copy can be changed."""

    @functools.cached_property
    def encoded(self) -> bytes:
        """The headers as they are sent.

        Raises:
            httpx.LocalProtocolError: A header has a line break in it.
        """
        return encode_headers(self.raw)


class PooledRequest(httpx.Request):
    """A request whose `headers` lack `Content-Length`: the transport adds that.

    Args:
        method: HTTP method, in upper case.
        url: Absolute URL.
        headers: All other headers; they are shared, not copied.
        stream: The body.
        extensions: As for httpx.
    """

    stream: BytesBody | FileBody

    def __init__(
        self,
        method: str,
        url: httpx.URL,
        headers: httpx.Headers,
        stream: BytesBody | FileBody,
        extensions: dict[str, Any],
    ) -> None:
        # All that httpx's `__init__` sets, which takes longer than to send the request.
        self.method, self.url, self.headers, self.stream, self.extensions = method, url, headers, stream, extensions

    @property
    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """All headers."""
        return [*self.headers.raw, (b"Content-Length", b"%d" % len(self.stream))]


class PooledResponse(httpx.Response):
    """A response whose `headers` are made when they are first used.

    Args:
        status: Its status.
        raw_headers: Its headers, as they came.
        stream: Its body.
    """

    def __init__(self, status: int, raw_headers: list[tuple[bytes, bytes]], stream: httpx.AsyncByteStream) -> None:
        # All that httpx's `__init__` sets, except for the headers.
        self.status_code, self.raw_headers, self.stream = status, raw_headers, stream
        self._request = self.next_request = None
        self.extensions, self.history = {}, []
        self.is_closed = self.is_stream_consumed = False
        self.default_encoding = "utf-8"
        self._num_bytes_downloaded = 0

    @functools.cached_property
    def headers(self) -> httpx.Headers:  # type: ignore[override]  # pyright: ignore[reportIncompatibleVariableOverride]
        """Its headers."""
        return httpx.Headers(self.raw_headers)


def raw_headers_of(response: httpx.Response) -> list[tuple[bytes, bytes]]:
    """Return the headers of a response as they came."""
    return response.raw_headers if isinstance(response, PooledResponse) else response.headers.raw


def encode_head(request: httpx.Request) -> bytes:
    """Return the request line and the headers, as they are sent.

    Raises:
        httpx.LocalProtocolError: A header has a line break in it.
    """
    headers, length = request.headers, b""
    if isinstance(request, PooledRequest):
        length = b"Content-Length: %d\r\n" % len(request.stream)
    encoded = headers.encoded if isinstance(headers, SharedHeaders) else encode_headers(headers.raw)
    line = b"%s %s HTTP/1.1\r\n" % (request.method.encode("ascii"), request.url.raw_path)
    if line.count(b"\n") > 1 or b"\0" in line:
        raise httpx.LocalProtocolError("the method has a line break in it")
    return b"%s%s%s\r\n" % (line, encoded, length)


def encode_headers(headers: list[tuple[bytes, bytes]]) -> bytes:
    """Return headers as they are sent.

    Raises:
        httpx.LocalProtocolError: A header has a line break in it.
    """
    encoded = b"".join([b"%s: %s\r\n" % header for header in headers])
    if encoded.count(b"\n") != len(headers) or encoded.count(b"\r") != len(headers) or b"\0" in encoded:
        raise httpx.LocalProtocolError("a header has a line break in it")
    return encoded
