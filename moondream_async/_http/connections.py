"""One connection of the pool: directly or through a proxy; kept only if nothing was left on it."""

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

_KEEPALIVE = 60.0  # seconds a connection may idle; a server that closes it sooner is noticed on reuse


class PooledConnection:
    """One connection, and a way to close it that cannot be interrupted.

    `task.cancel()` reaches into anyio's shielded scopes, so that httpcore's own clean-up, which
    awaits locks, can be cut short. What was opened is therefore closed without awaiting.

    Args:
        origin: What it leads to.
        tls: For https, or a proxy that is reached by https.
        public_only: Connect to public addresses only.
        proxy: What it goes through.
    """

    def __init__(
        self, origin: httpcore.Origin, tls: ssl.SSLContext | None, *, public_only: bool = False, proxy: Proxy | None
    ) -> None:
        self._backend = _backend()
        network = PublicOnly(self._backend) if public_only else self._backend
        self.proxy = proxy
        self._stream: AsyncioStream | TrioStream | None = None
        self._may_be_kept = True
        if proxy is None:
            self._connection: httpcore.AsyncConnectionInterface = httpcore.AsyncHTTPConnection(
                origin, ssl_context=tls, keepalive_expiry=_KEEPALIVE, network_backend=network
            )
        else:
            self._connection = _proxy_pool(proxy, tls, network).create_connection(origin)

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        """Send a request, and read the head of its answer.

        Raises:
            httpcore.RemoteProtocolError: On a kept connection, an answer other than an error began to come before the
                request was sent. It cannot be the request's; a server may refuse early, but not answer.
        """
        response = await self._connection.handle_async_request(request)
        stream = cast("dict[str, Any]", cast("Any", response).extensions).get("network_stream")
        if isinstance(stream, (AsyncioStream, TrioStream)):
            self._stream = stream
            stream.head.complete()
            if stream.head.is_early and response.status < 400:
                raise httpcore.RemoteProtocolError("the server answered before the request was sent")
            self._may_be_kept = not stream.head.is_early and _is_well_framed(response)
        else:
            self._may_be_kept = False
        return response

    def is_reusable(self) -> bool:
        """Tell whether its answer was read to the end, and nothing was left behind it."""
        return (
            self._may_be_kept
            and self._connection.is_available()
            and not self._connection.has_expired()
            and not _has_leftover(self._connection)
        )

    async def reuse(self) -> bool:
        """Make it ready for another request; False if it has been closed, or something has come on it, meanwhile."""
        stream = self._stream
        if stream is None or self._connection.has_expired():
            return False
        if isinstance(stream, TrioStream) and await stream.has_unread():
            return False
        stream.head.reset()
        return True

    def has_expired(self) -> bool:
        """Tell whether it has idled too long, or was closed by the server."""
        return self._connection.has_expired()

    def abort(self) -> None:
        """Close it at once; safe to call again."""
        self._backend.abort()

    async def aclose(self) -> None:
        """Close it."""
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
    """Make what knows how to connect through a proxy; no connection is kept in it."""
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
    except (ImportError, RuntimeError):  # httpcore's way to say that socksio is not installed
        pass
    raise ConfigurationError(
        f"{str(proxy)[0].upper()}{str(proxy)[1:]} speaks SOCKS, which needs an extra: "
        "pip install 'moondream-async[proxy]'."
    )


def _is_well_framed(response: httpcore.Response) -> bool:
    """Tell whether there is one opinion only of where the answer ends; if not, what follows could be part of it."""
    headers = {name.lower(): value for name, value in response.headers}
    if response.status in (204, 304):
        return b"transfer-encoding" not in headers and headers.get(b"content-length", b"0").strip() == b"0"
    return not (b"transfer-encoding" in headers and b"content-length" in headers)


def _has_leftover(connection: object) -> bool:
    """Tell whether the parser holds bytes behind the end of the answer.

    httpcore has no public way to ask. Without an answer the connection is not kept, which is slow and never wrong.
    """
    while not hasattr(connection, "_h11_state"):
        inner = getattr(connection, "_connection", None)
        if inner is None:
            return True
        connection = inner
    return bool(cast("Any", connection)._h11_state.trailing_data[0])
