"""Connections of the pool, direct or through a proxy; reused only if they have no unread data."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from typing import Any, cast

import httpcore

from ..errors import ConfigurationError
from .asyncio_backend import AsyncioBackend, AsyncioStream
from .proxies import Proxy
from .public_network import PublicOnly
from .trio_backend import TrioBackend, TrioStream

_KEEPALIVE = 60.0  # seconds that a connection may idle; if the server closes it sooner, reuse detects that


class PooledConnection:
    """A connection that can be closed without being interrupted.

    `task.cancel()` reaches into anyio's shielded scopes, so httpcore's own cleanup, which awaits locks, can be
    interrupted. Sockets are therefore closed without awaiting.

    Args:
        origin: The origin to connect to.
        tls: TLS context for an https origin, or for a proxy with an https URL.
        public_only: Whether to connect to public addresses only.
        proxy: The proxy to connect through, if any.
    """

    def __init__(
        self, origin: httpcore.Origin, tls: ssl.SSLContext | None, *, public_only: bool = False, proxy: Proxy | None
    ) -> None:
        self._backend = _backend()
        network = PublicOnly(self._backend) if public_only else self._backend
        self.proxy = proxy
        self._stream: AsyncioStream | TrioStream | None = None
        self._can_be_kept = True
        if proxy is None:
            self._connection: httpcore.AsyncConnectionInterface = httpcore.AsyncHTTPConnection(
                origin, ssl_context=tls, keepalive_expiry=_KEEPALIVE, network_backend=network
            )
        else:
            self._connection = _proxy_pool(proxy, tls, network).create_connection(origin)

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """Send a request, and read the head of its response.

        Raises:
            httpcore.RemoteProtocolError: On a reused connection, a response began to arrive before the request was
                sent, and is not an error. It belongs to another request: a server may refuse early, but not succeed.
        """
        response = await self._connection.handle_async_request(request)
        stream = cast("dict[str, Any]", cast("Any", response).extensions).get("network_stream")
        if isinstance(stream, (AsyncioStream, TrioStream)):
            self._stream = stream
            stream.head.complete()
            if stream.head.is_early and response.status < 400:
                raise httpcore.RemoteProtocolError("the server responded before the request was sent")
            self._can_be_kept = not stream.head.is_early and _is_well_framed(response)
        else:
            self._can_be_kept = False
        return response

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
        if isinstance(stream, TrioStream) and await stream.has_unread():
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


def _backend() -> AsyncioBackend | TrioBackend:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return TrioBackend()
    return AsyncioBackend()


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
            keepalive_expiry=_KEEPALIVE,
            network_backend=network,
        )
    try:
        return httpcore.AsyncSOCKSProxy(
            url, proxy_auth=proxy.auth, ssl_context=tls, keepalive_expiry=_KEEPALIVE, network_backend=network
        )
    except (ImportError, RuntimeError):  # socksio is not installed
        pass
    raise ConfigurationError(
        f"{str(proxy)[0].upper()}{str(proxy)[1:]} uses SOCKS, which needs an extra: "
        "pip install 'moondream-async[proxy]'."
    )


def _is_well_framed(response: httpcore.Response) -> bool:
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
