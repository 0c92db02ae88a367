"""The transport for load: an O(1) stack of idle connections per origin.

httpx's stock pool walks all its connections on every request, and loses slots for good when
tasks are cancelled while connecting. Here a connection is either in the hands of one request or
on top of a stack; how many there may be is the business of the limiter in front (`session`).
"""

from __future__ import annotations

import asyncio
import functools
import ssl
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any, cast

import anyio
import httpcore
import httpx

from .asyncio_backend import AsyncioBackend
from .loops import LoopLocal

_KEEPALIVE = 60.0  # seconds a connection may idle; a server that closes it sooner is noticed on reuse
_STALE = (httpcore.RemoteProtocolError, httpcore.ReadError, httpcore.WriteError)

Origin = tuple[bytes, bytes, int | None]


@functools.cache
def shared_ssl_context() -> ssl.SSLContext:
    """The one TLS context of all clients: making one costs more than a hundred requests."""
    return httpx.create_ssl_context()


class PooledTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 over httpcore's connections, on asyncio and trio, in any number of loops."""

    def __init__(self) -> None:
        self._idle = LoopLocal(_IdleConnections)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send on an idle connection, or on a new one; raises httpcore's or httpx's errors."""
        idle = self._idle.get()
        if not idle.hooked:
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
            connection = await idle.take(origin)
            reused = connection is not None
            if connection is None:
                connection = _connect(core.url.origin, idle.backend)
            try:
                answer = await connection.handle_async_request(core)
                break
            except _STALE:
                # A kept connection that the server had closed; it never read this request.
                if not reused:
                    raise
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(answer, functools.partial(idle.give_back, origin, connection)),
            extensions=cast("Any", answer).extensions,
        )

    async def aclose(self) -> None:
        """Close this loop's idle connections; those of other loops close when their loop ends."""
        idle = self._idle.pop()
        if idle is not None:
            await idle.aclose()


def _connect(origin: httpcore.Origin, backend: httpcore.AsyncNetworkBackend | None) -> httpcore.AsyncHTTPConnection:
    return httpcore.AsyncHTTPConnection(
        origin,
        ssl_context=shared_ssl_context() if origin.scheme == b"https" else None,
        keepalive_expiry=_KEEPALIVE,
        network_backend=backend,
    )


def _backend() -> httpcore.AsyncNetworkBackend | None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return None  # trio: httpcore's own
    return AsyncioBackend()


class _IdleConnections:
    """The idle connections of one event loop; last in, first out, so that the surplus ages."""

    def __init__(self) -> None:
        self.backend = _backend()
        self.hooked = False
        self._stacks: defaultdict[Origin, deque[httpcore.AsyncHTTPConnection]] = defaultdict(deque)
        self._at_loop_end: AsyncGenerator[None, None] | None = None
        self._closed = False

    async def take(self, origin: Origin) -> httpcore.AsyncHTTPConnection | None:
        stack = self._stacks[origin]
        while stack:
            connection = stack.pop()
            if not connection.has_expired():
                return connection
            await connection.aclose()
        return None

    async def give_back(self, origin: Origin, connection: httpcore.AsyncHTTPConnection) -> None:
        if not connection.is_available():
            return  # it was closed: its answer was not read to the end
        if self._closed:
            await connection.aclose()
            return
        stack = self._stacks[origin]
        stack.append(connection)
        if stack[0].has_expired():
            await stack.popleft().aclose()

    async def close_with_loop(self, owner: LoopLocal[_IdleConnections]) -> None:
        # A loop closes the async generators that are alive when it ends: the one moment at
        # which sockets that `asyncio.run` leaves behind can still be closed in order.
        self.hooked = True

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
    """An answer's bytes; closing it gives the connection back, or closes that too."""

    def __init__(self, answer: httpcore.Response, give_back: Callable[[], Awaitable[None]]) -> None:
        self._answer = answer
        self._give_back = give_back
        self._chunks: Any = None
        self._closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._chunks = chunks = aiter(cast("AsyncIterable[bytes]", self._answer.stream))
        return chunks

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        with anyio.CancelScope(shield=True):
            if hasattr(self._chunks, "aclose"):
                await self._chunks.aclose()
            await self._answer.aclose()
            await self._give_back()
