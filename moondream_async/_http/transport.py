"""Pool connections: an O(1) stack of idle connections per origin.

httpx's own pool walks all its connections on every request, and permanently loses slots when tasks are cancelled while
connecting. Here a connection either belongs to one request or is on a stack. `session` limits their number.
"""

from __future__ import annotations

import functools
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from typing import Any, cast

import anyio
import anyio.lowlevel
import httpcore
import httpx

from .._concurrency.loop_local import LoopLocal
from .connections import PooledConnection
from .proxies import EnvironmentProxies, Proxy
from .tls import shared_ssl_context

NEW_CONNECTION = "moondream_new_connection"
"""Request extension: whether to send the request on a new connection."""

_STALE_ERRORS = (httpcore.RemoteProtocolError, httpcore.ReadError, httpcore.WriteError)
_YIELD_EVERY = 128  # chunks, after which other tasks may run

Origin = tuple[bytes, bytes, int | None]


class PooledTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 over httpcore's connections, on asyncio and trio, in any number of event loops.

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
        core = httpcore.Request(
            method=request.method,
            url=httpcore.URL(scheme=origin[0], host=origin[1], port=origin[2], target=url.raw_path),
            headers=request.headers.raw,
            content=request.stream,
            extensions=request.extensions,
        )
        while True:
            connection = None if request.extensions.get(NEW_CONNECTION) else await idle.take(origin)
            is_reused = connection is not None
            if connection is None:
                connection = self._new_connection(core.url.origin, idle.proxy_for(url))
            try:
                response = await connection.handle_async_request(core)
                break
            except BaseException as exc:
                connection.abort()
                # The server had closed an idle connection, and never read this request.
                if is_reused and isinstance(exc, _STALE_ERRORS):
                    continue
                if connection.proxy is not None:
                    exc.add_note(f" (through {connection.proxy})")
                raise
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Body(response, functools.partial(idle.give_back, origin, connection)),
            extensions=cast("Any", response).extensions,
        )

    def _new_connection(self, origin: httpcore.Origin, proxy: Proxy | None) -> PooledConnection:
        if self._public_only:  # the addresses that a proxy connects to cannot be checked
            proxy = None
        encrypted = origin.scheme == b"https" or (proxy is not None and proxy.url.scheme == "https")
        tls = shared_ssl_context() if encrypted else None
        return PooledConnection(origin, tls, public_only=self._public_only, proxy=proxy)

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
        self._stacks: defaultdict[Origin, deque[PooledConnection]] = defaultdict(deque)
        self._proxies = EnvironmentProxies()
        self._at_loop_end: AsyncGenerator[None, None] | None = None
        self._closed = False

    def proxy_for(self, url: httpx.URL) -> Proxy | None:
        """Return the proxy for new connections to a URL's origin, if any."""
        return self._proxies.find(url.scheme, url.host, url.port)

    async def take(self, origin: Origin) -> PooledConnection | None:
        stack = self._stacks[origin]
        if stack and stack[0].has_expired():
            await stack.popleft().aclose()  # one surplus connection per request
        while stack:
            connection = stack.pop()
            if await connection.prepare_reuse():
                return connection
            await connection.aclose()
        return None

    def give_back(self, origin: Origin, connection: PooledConnection) -> None:
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
        return await anext(self._chunks)
