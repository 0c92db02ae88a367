"""Send requests over pooled connections, one request at a time on each.

httpx's own pool walks all its connections on every request, and permanently loses slots when tasks are cancelled while
connecting. Here a connection either belongs to one request or is idle in the pool. `session` limits their number.

On asyncio, requests go over our own connections (`http1`); on trio, through proxies, and where a test has patched
httpcore, as respx does, over httpcore's.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

import httpx

from .._concurrency.forks import no_fork
from .._concurrency.loop_local import LoopLocal, is_asyncio
from .connection_pool import Connection, ConnectionPool, Opening, Origin
from .http1 import Http1Connection
from .tls import shared_ssl_context

NEW_CONNECTION = "moondream_new_connection"
"""Request extension: whether to send the request on a new connection."""

OPENING = "moondream_opening"
"""Request extension: the `Opening` of a connection for this request, if any."""

_STALE_ERRORS = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)


class PooledTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 on asyncio and trio, in any number of event loops.

    Requests go through the environment's proxies, except to loopback.

    Args:
        public_only: Whether to connect to public addresses only.
    """

    def __init__(self, *, public_only: bool = False) -> None:
        self._public_only = public_only
        self._pools = LoopLocal(ConnectionPool)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request on an idle connection, or on a new one.

        Raises:
            ConfigurationError: The proxy or the certificates that the environment names cannot be used.
            TRANSPORT_ERRORS: There was no response.
        """
        pool = self._pools.get()
        if not pool.closes_with_loop:
            await pool.close_with_loop(self._pools)
        url = request.url
        origin = _origin_of(url)
        if url.scheme not in ("http", "https") or not url.raw_host:
            raise httpx.UnsupportedProtocol("the URL must begin with http:// or https:// and a host")
        opening: Opening | None = request.extensions.get(OPENING)
        may_reuse = not (request.extensions.get(NEW_CONNECTION) or _is_mocked())
        while True:
            connection: Connection | None = await pool.take(origin) if may_reuse else None
            if connection is None and opening is not None and opening.origin == origin:
                connection = await opening.take()
            if connection is None:
                connection = self._new_connection(url, pool)
            try:
                return await connection.handle_async_request(
                    request, functools.partial(pool.give_back, origin, connection)
                )
            except BaseException as exc:
                connection.abort()
                # The server had closed an idle connection, and never read this request.
                if connection.has_answered and isinstance(exc, _STALE_ERRORS):
                    continue
                if connection.proxy is not None:
                    exc.add_note(f" (through {connection.proxy})")
                raise

    async def connect_ahead(self, url: httpx.URL, timeout: float | None) -> Opening | None:
        """Begin to connect for a request that will follow, with its result as the extension `OPENING`.

        Args:
            url: The URL of the request.
            timeout: Seconds that connecting may take.

        Returns:
            None if there is an idle connection, or on trio, or if there is a proxy.

        Raises:
            ConfigurationError: The proxy that the environment names cannot be used.
        """
        if not is_asyncio() or _is_mocked():
            return None
        pool = self._pools.get()
        if not pool.closes_with_loop:
            await pool.close_with_loop(self._pools)
        if pool.proxy_for(url) is not None:
            return None
        return pool.open_ahead(_origin_of(url), self._http1_connection(url), timeout)

    def _http1_connection(self, url: httpx.URL) -> Http1Connection:
        is_encrypted = url.scheme == "https"
        return Http1Connection(
            url.raw_host.decode("ascii"),
            url.port or (443 if is_encrypted else 80),
            shared_ssl_context if is_encrypted else None,
            public_only=self._public_only,
        )

    def _new_connection(self, url: httpx.URL, pool: ConnectionPool) -> Connection:
        # The addresses that a proxy connects to cannot be checked.
        proxy = None if self._public_only else pool.proxy_for(url)
        if proxy is None and is_asyncio() and not _is_mocked():
            return self._http1_connection(url)
        encrypted = url.scheme == "https" or (proxy is not None and proxy.url.scheme == "https")
        tls = shared_ssl_context() if encrypted else None
        with no_fork():
            from .httpcore_connection import HttpcoreConnection

        return HttpcoreConnection(url, tls, public_only=self._public_only, proxy=proxy)

    async def aclose(self) -> None:
        """Close the idle connections of the running event loop; those of other loops close when their loop ends."""
        pool = self._pools.pop()
        if pool is not None:
            await pool.aclose()


def _origin_of(url: httpx.URL) -> Origin:
    return url.raw_scheme, url.raw_host, url.port


def _is_mocked() -> bool:
    """Return whether a test has replaced how httpcore's connections send requests, as respx does."""
    httpcore = sys.modules.get("httpcore")
    if httpcore is None:
        return False
    send: Any = httpcore.AsyncHTTPConnection.handle_async_request
    return not send.__module__.startswith("httpcore")
