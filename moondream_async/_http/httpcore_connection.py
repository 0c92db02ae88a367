"""An HTTP/1.1 connection of httpcore: on trio, through a proxy, or where tests mock httpcore."""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Callable
from typing import Any, cast

import anyio
import anyio.lowlevel
import httpcore
import httpx

from ..errors import ConfigurationError
from .http1 import KEEPALIVE
from .network_backend import NetworkBackend, NetworkStream, PublicOnly
from .pooled_request import PooledRequest
from .proxies import Proxy
from .tracing import trace_extension
from .transport_errors import as_httpx_error

_YIELD_EVERY = 128  # chunks, after which other tasks may run


class HttpcoreConnection:
    """A connection that can be closed without being interrupted.

    `task.cancel()` reaches into anyio's shielded scopes, so httpcore's own cleanup, which awaits locks, can be
    interrupted. Sockets are therefore closed without awaiting.

    Args:
        origin: A URL at the origin to connect to.
        tls: TLS context for an https origin, or for a proxy with an https URL.
        public_only: Whether to connect to public addresses only.
        proxy: The proxy to connect through, if any.

    Attributes:
        has_answered: Whether a request was answered on it.
    """

    def __init__(
        self, origin: httpx.URL, tls: ssl.SSLContext | None, *, public_only: bool = False, proxy: Proxy | None = None
    ) -> None:
        self._backend = NetworkBackend()
        network = PublicOnly(self._backend) if public_only else self._backend
        self.proxy = proxy
        self._stream: NetworkStream | None = None
        self.has_answered = False
        self._can_be_kept = True
        if proxy is None:
            self._connection: httpcore.AsyncConnectionInterface = httpcore.AsyncHTTPConnection(
                _core_url(origin).origin, ssl_context=tls, keepalive_expiry=KEEPALIVE, network_backend=network
            )
        else:
            self._connection = _proxy_pool(proxy, tls, network).create_connection(_core_url(origin).origin)

    async def handle_async_request(self, request: httpx.Request, give_back: Callable[[], None]) -> httpx.Response:
        """Send a request, and read the head of its response.

        Args:
            request: The request.
            give_back: Called once, when the response is closed.

        Raises:
            httpx.TransportError: There is no response. On a reused connection this may be because a successful response
                began to arrive before the request was sent: it belongs to another request, as a server may refuse
                early, but not succeed.
        """
        core = httpcore.Request(
            method=request.method,
            url=_core_url(request.url),
            headers=request.raw_headers if isinstance(request, PooledRequest) else request.headers.raw,
            content=request.stream,
            extensions={**request.extensions, **trace_extension(request.headers)},
        )
        try:
            response = await self._connection.handle_async_request(core)
        except Exception as exc:
            raise as_httpx_error(exc) from None
        self._check_head(response)
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Body(response, give_back),
            extensions=cast("Any", response).extensions,
        )

    def _check_head(self, response: httpcore.Response) -> None:
        stream = cast("dict[str, Any]", cast("Any", response).extensions).get("network_stream")
        if not isinstance(stream, NetworkStream):
            self._can_be_kept = False
            return
        self._stream, self.has_answered = stream, True
        stream.head.complete()
        if stream.head.is_early and response.status < 400:
            raise httpx.RemoteProtocolError("the server responded before the request was sent")
        self._can_be_kept = not stream.head.is_early and _is_healthy_framed(response)

    def is_reusable(self) -> bool:
        """Return whether its response was read to the end, and nothing follows it."""
        return (
            self._can_be_kept
            and self._connection.is_available()
            and not self._connection.has_expired()
            and not _has_leftover(self._connection)
        )

    async def prepare_reuse(self) -> bool:
        """Prepare the connection for another request; return False if it was closed or has received data while idle."""
        stream = self._stream
        if stream is None or self._connection.has_expired():
            return False
        if await stream.has_unread():
            return False
        stream.head.reset()
        return True

    def has_expired(self) -> bool:
        """Return whether it has idled too long, or was closed by the server."""
        return self._connection.has_expired()

    def abort(self) -> None:
        """Close the connection immediately; further calls do nothing."""
        self._backend.abort()

    async def aclose(self) -> None:
        """Close the connection."""
        self.abort()
        with contextlib.suppress(httpcore.NetworkError):
            await self._connection.aclose()


def _proxy_pool(
    proxy: Proxy, tls: ssl.SSLContext | None, network: httpcore.AsyncNetworkBackend
) -> httpcore.AsyncConnectionPool:
    """Return the httpcore pool that creates connections through a proxy; it keeps none of them."""
    url = httpcore.URL(
        scheme=proxy.url.raw_scheme, host=proxy.url.raw_host, port=proxy.url.port, target=proxy.url.raw_path
    )
    if not proxy.is_socks:
        return httpcore.AsyncHTTPProxy(
            url,
            proxy_auth=proxy.auth,
            ssl_context=tls,
            proxy_ssl_context=tls if proxy.url.scheme == "https" else None,
            keepalive_expiry=KEEPALIVE,
            network_backend=network,
        )
    try:
        return httpcore.AsyncSOCKSProxy(
            url, proxy_auth=proxy.auth, ssl_context=tls, keepalive_expiry=KEEPALIVE, network_backend=network
        )
    except (ImportError, RuntimeError):  # socksio is not installed
        pass
    raise ConfigurationError(
        f"{str(proxy)[0].upper()}{str(proxy)[1:]} uses SOCKS, which needs an extra: "
        "pip install 'moondream-async[socks]'."
    )


def _is_healthy_framed(response: httpcore.Response) -> bool:
    """Return whether the end of the response is unambiguous; if not, what follows might still be part of it."""
    headers = {name.lower(): value for name, value in response.headers}
    if response.status in (204, 304):
        return b"transfer-encoding" not in headers and headers.get(b"content-length", b"0").strip() == b"0"
    return not (b"transfer-encoding" in headers and b"content-length" in headers)


def _has_leftover(connection: object) -> bool:
    """Return whether the parser holds bytes after the end of the response.

    httpcore has no public API for this. If its state cannot be read, the connection is not reused: slower, but safe.
    """
    while not hasattr(connection, "_h11_state"):
        inner = getattr(connection, "_connection", None)
        if inner is None:
            return True
        connection = inner
    return bool(cast("Any", connection)._h11_state.trailing_data[0])


class _Body(httpx.AsyncByteStream):
    """The body of a response; closing it returns its connection to the pool, or closes the connection too."""

    def __init__(self, response: httpcore.Response, give_back: Callable[[], None]) -> None:
        self._response = response
        self._give_back = give_back
        self._chunks: Any = None
        self._closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._chunks = aiter(cast("AsyncIterable[bytes]", self._response.stream))
        return _Chunks(self._chunks)

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            with anyio.CancelScope(shield=True):
                if hasattr(self._chunks, "aclose"):
                    await self._chunks.aclose()
                await self._response.aclose()
        finally:
            self._give_back()


class _Chunks:
    """The chunks of a body; lets other tasks run regularly, as one read can return thousands of tiny chunks."""

    def __init__(self, chunks: AsyncIterator[bytes]) -> None:
        self._chunks = chunks
        self._count = 0

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        self._count += 1
        if self._count % _YIELD_EVERY == 0:
            await anyio.lowlevel.checkpoint()
        try:
            return await anext(self._chunks)
        except Exception as exc:
            raise as_httpx_error(exc) from None


def _core_url(url: httpx.URL) -> httpcore.URL:
    return httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
