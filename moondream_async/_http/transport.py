"""Pool connections: an O(1) stack of idle connections per origin.

httpx's own pool walks all its connections on every request, and permanently loses slots when tasks are cancelled while
connecting. Here a connection either belongs to one request or is on a stack. `session` limits their number.

On asyncio, requests go over our own connections (`http1`); on trio, through proxies, and where a test has patched
httpcore, as respx does, over httpcore's.
"""

from __future__ import annotations

import asyncio
import functools
import sys
from collections import defaultdict, deque
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, TypeAlias

import httpx

from .._concurrency.forks import no_fork
from .._concurrency.loop_local import LoopLocal
from .http1 import Http1Connection
from .proxies import EnvironmentProxies, Proxy
from .tls import shared_ssl_context

if TYPE_CHECKING:
    from .httpcore_connection import HttpcoreConnection

NEW_CONNECTION = "moondream_new_connection"
"""Request extension: whether to send the request on a new connection."""

_STALE_ERRORS = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)

Origin: TypeAlias = tuple[bytes, bytes, int | None]
Connection: TypeAlias = "Http1Connection | HttpcoreConnection"


class PooledTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 on asyncio and trio, in any number of event loops.

    Requests go through the environment's proxies, except to loopback.

    Args:
        public_only: Whether to connect to public addresses only.
    """

    def __init__(self, *, public_only: bool = False) -> None:
        self._public_only = public_only
        self._idle = LoopLocal(_IdleConnections)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request on an idle connection, or on a new one.

        Raises:
            ConfigurationError: The proxy or the certificates that the environment names cannot be used.
            TRANSPORT_ERRORS: There was no response.
        """
        idle = self._idle.get()
        if not idle.closes_with_loop:
            await idle.close_with_loop(self._idle)
        url = request.url
        origin = (url.raw_scheme, url.raw_host, url.port)
        if url.scheme not in ("http", "https") or not url.raw_host:
            raise httpx.UnsupportedProtocol("the URL must begin with http:// or https:// and a host")
        may_reuse = not (request.extensions.get(NEW_CONNECTION) or _is_mocked())
        while True:
            connection = await idle.take(origin) if may_reuse else None
            is_reused = connection is not None
            if connection is None:
                connection = self._new_connection(url, idle)
            try:
                return await connection.handle_async_request(
                    request, functools.partial(idle.give_back, origin, connection)
                )
            except BaseException as exc:
                connection.abort()
                # The server had closed an idle connection, and never read this request.
                if is_reused and isinstance(exc, _STALE_ERRORS):
                    continue
                if connection.proxy is not None:
                    exc.add_note(f" (through {connection.proxy})")
                raise

    def _new_connection(self, url: httpx.URL, idle: _IdleConnections) -> Connection:
        # The addresses that a proxy connects to cannot be checked.
        proxy = None if self._public_only else idle.proxy_for(url)
        encrypted = url.scheme == "https" or (proxy is not None and proxy.url.scheme == "https")
        tls = shared_ssl_context() if encrypted else None
        if proxy is None and _is_asyncio() and not _is_mocked():
            port = url.port or (443 if encrypted else 80)
            return Http1Connection(url.raw_host.decode("ascii"), port, tls, public_only=self._public_only)
        with no_fork():
            from .httpcore_connection import HttpcoreConnection

        return HttpcoreConnection(url, tls, public_only=self._public_only, proxy=proxy)

    async def aclose(self) -> None:
        """Close the idle connections of the running event loop; those of other loops close when their loop ends."""
        idle = self._idle.pop()
        if idle is not None:
            await idle.aclose()


class _IdleConnections:
    """The idle connections of one event loop; last in, first out, so that surplus ones expire.

    Attributes:
        closes_with_loop: Whether `close_with_loop` was called.
    """

    def __init__(self) -> None:
        self.closes_with_loop = False
        self._stacks: defaultdict[Origin, deque[Connection]] = defaultdict(deque)
        self._proxies = EnvironmentProxies()
        self._at_loop_end: AsyncGenerator[None, None] | None = None
        self._closed = False

    def proxy_for(self, url: httpx.URL) -> Proxy | None:
        """Return the proxy for new connections to a URL's origin, if any."""
        return self._proxies.find(url.scheme, url.host, url.port)

    async def take(self, origin: Origin) -> Connection | None:
        stack = self._stacks[origin]
        if stack and stack[0].has_expired():
            await stack.popleft().aclose()  # one surplus connection per request
        while stack:
            connection = stack.pop()
            if await connection.prepare_reuse():
                return connection
            await connection.aclose()
        return None

    def give_back(self, origin: Origin, connection: Connection) -> None:
        """Keep the connection if its response was read to the end and nothing follows it; close it otherwise."""
        if not self._closed and connection.is_reusable():
            self._stacks[origin].append(connection)
        else:
            connection.abort()

    async def close_with_loop(self, owner: LoopLocal[_IdleConnections]) -> None:
        # An event loop closes live async generators when it ends: the only moment at which sockets that
        # `asyncio.run` leaves behind can still be closed properly.
        self.closes_with_loop = True

        async def wait_for_end() -> AsyncGenerator[None, None]:
            try:
                yield
            finally:
                owner.pop()
                await self._close_all()

        self._at_loop_end = wait_for_end()
        await anext(self._at_loop_end)

    async def aclose(self) -> None:
        if self._at_loop_end is not None:
            await self._at_loop_end.aclose()
        await self._close_all()

    async def _close_all(self) -> None:
        self._closed = True
        stacks, self._stacks = self._stacks, defaultdict(deque)
        for stack in stacks.values():
            for connection in stack:
                await connection.aclose()


def _is_asyncio() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _is_mocked() -> bool:
    """Return whether a test has replaced how httpcore's connections send requests, as respx does."""
    httpcore = sys.modules.get("httpcore")
    if httpcore is None:
        return False
    send: Any = httpcore.AsyncHTTPConnection.handle_async_request
    return not send.__module__.startswith("httpcore")
