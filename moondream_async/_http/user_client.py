"""Send requests over a user's own HTTP client or transport, of httpx or of its fork httpx2.

The rest of the package sees httpx's responses and exceptions only. httpx2 is never imported here: an object of its
classes exists only if the user has imported it.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from typing import Any, Protocol, TypeAlias

import httpx

from ..errors import ConfigurationError
from .payloads import BytesBody, FileBody
from .transport_errors import as_httpx_error


class Httpx2Client(Protocol):
    """The type of `httpx2.AsyncClient`, for type checkers; httpx2 need not be installed."""

    @property
    def is_closed(self) -> bool:
        """Whether the client is closed."""
        ...

    def build_request(self, *args: Any, **kwargs: Any) -> Any:
        """Build a request."""
        ...

    async def send(self, *args: Any, **kwargs: Any) -> Any:
        """Send a request."""
        ...


class Httpx2Transport(Protocol):
    """The type of `httpx2.AsyncBaseTransport`, for type checkers."""

    async def handle_async_request(self, request: Any) -> Any:
        """Send a request."""
        ...

    async def aclose(self) -> None:
        """Close the transport."""
        ...


UserClient: TypeAlias = httpx.AsyncClient | httpx.AsyncBaseTransport | Httpx2Client | Httpx2Transport
"""What `http_client` takes."""


def adapt(http_client: object) -> ClientAdapter | httpx.AsyncBaseTransport | None:
    """Return what sends requests over a user's client or transport, or None if it is neither."""
    if isinstance(http_client, httpx.AsyncBaseTransport):
        return http_client
    if isinstance(http_client, httpx.AsyncClient):
        return ClientAdapter(http_client, httpx)
    httpx2: Any = sys.modules.get("httpx2")
    if httpx2 is not None and isinstance(http_client, httpx2.AsyncClient):
        return ClientAdapter(http_client, httpx2)
    if httpx2 is not None and isinstance(http_client, httpx2.AsyncBaseTransport):
        return _TransportAdapter(http_client, httpx2)
    return None


class ClientAdapter:
    """Sends requests over a user's client, which adds its own headers, cookies and credentials, and calls its hooks.

    Args:
        client: An `AsyncClient` of httpx or httpx2.
        family: The module that it comes from.
    """

    def __init__(self, client: Any, family: Any) -> None:
        self._client = client
        self._family = family

    async def send(
        self,
        method: str,
        url: httpx.URL,
        headers: httpx.Headers,
        body: bytes | FileBody,
        extensions: dict[str, Any],
        *,
        bare: bool,
    ) -> httpx.Response:
        """Send one request and return the response with its body unread. Redirects are not followed.

        Args:
            method: HTTP method.
            url: Absolute URL.
            headers: All headers but `Content-Length`.
            body: Bytes, or (a part of) a file.
            extensions: httpx's request extensions, with the timeouts.
            bare: Whether the client must not add its headers, cookies and credentials.

        Raises:
            ConfigurationError: The client is closed.
            TRANSPORT_ERRORS: There was no response.
        """
        if self._client.is_closed:
            raise ConfigurationError("The http_client is closed.")
        if not isinstance(body, bytes):
            headers = headers.copy()
            headers["Content-Length"] = str(len(body))
        build = self._family.Request if bare else self._client.build_request
        options: dict[str, Any] = {"auth": None} if bare else {}
        with _as_httpx_errors():
            request = build(
                method,
                url if self._family is httpx else str(url),
                headers=headers.raw,
                content=body,
                extensions=extensions,
            )
            response = await self._client.send(request, stream=True, follow_redirects=False, **options)
            if isinstance(response, httpx.Response):
                return response
            return _as_httpx_response(response, httpx.Request(method, url))


class _TransportAdapter(httpx.AsyncBaseTransport):
    """Sends httpx's requests over a transport of httpx2."""

    def __init__(self, transport: Any, family: Any) -> None:
        self._transport = transport
        self._family = family

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        # httpx2 takes streams of its own classes only; it wraps any other iterable.
        body = await request.aread() if isinstance(request.stream, BytesBody) else request.stream
        with _as_httpx_errors():
            response = await self._transport.handle_async_request(
                self._family.Request(
                    request.method,
                    str(request.url),
                    headers=request.headers.raw,
                    content=body,
                    extensions=request.extensions,
                )
            )
            return _as_httpx_response(response, request)


def _as_httpx_response(response: Any, request: httpx.Request) -> httpx.Response:
    """Return a response of httpx2 as one of httpx, with its body still unread unless a hook has read it."""
    headers: list[tuple[bytes, bytes]] = response.headers.raw
    if response.is_stream_consumed:
        headers = [(name, value) for name, value in headers if name.lower() != b"content-encoding"]  # it is decoded
        body: dict[str, Any] = {"content": response.content}
    else:
        body = {"stream": _Body(response)}
    return httpx.Response(
        response.status_code,
        headers=headers,
        extensions=response.extensions,
        request=request,
        **body,
    )


class _Body(httpx.AsyncByteStream):
    """The body of a response of httpx2, as it was sent."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _Chunks(aiter(self._response.stream))

    async def aclose(self) -> None:
        with _as_httpx_errors():
            await self._response.aclose()


class _Chunks:
    """The chunks of a body; a class, not an async generator, so that abandoning it midway needs no finalization."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        with _as_httpx_errors():
            return await anext(self._chunks)


@contextmanager
def _as_httpx_errors() -> Generator[None]:
    """Convert exceptions of httpx2 and httpcore2 to those of httpx with the same names."""
    try:
        yield
    except Exception as exc:
        failure = as_httpx_error(exc)
        if failure is exc:
            raise
    else:
        return
    raise failure
