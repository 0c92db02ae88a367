"""The transport for load: an O(1) stack of idle connections per origin.

httpx's stock pool walks all its connections on every request, and loses slots for good when
tasks are cancelled while connecting. Here a connection is either in the hands of one request or
on top of a stack; how many there may be is the business of the limiter in front (`session`).
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
"""The request extension that asks for a connection that was never used."""

_STALE = (httpcore.RemoteProtocolError, httpcore.ReadError, httpcore.WriteError)
_YIELD_EVERY = 128  # chunks that are read without letting other tasks run

Origin = tuple[bytes, bytes, int | None]


class PooledTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 over httpcore's connections, on asyncio and trio, in any number of loops.

    Requests go through the environment's proxies, except to loopback.

    Args:
        public_only: Connect to public addresses only, whatever a name resolves to.
    """

    def __init__(self, *, public_only: bool = False) -> None:
        self._public_only = public_only
        self._idle = LoopLocal(_IdleConnections)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send on an idle connection, or on a new one; raises httpcore's or httpx's errors.

        Raises:
            ConfigurationError: The proxy, or the certificates, that the environment names cannot be used.
        """
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
            line = None if request.extensions.get(NEW_CONNECTION) else await idle.take(origin)
            reused = line is not None
            if line is None:
                line = self._connect(core.url.origin, idle.proxy_for(url))
            try:
                answer = await line.handle_async_request(core)
                break
            except BaseException as exc:
                line.abort()
                # A kept connection that the server had closed; it never read this request.
                if reused and isinstance(exc, _STALE):
                    continue
                if line.proxy is not None:
                    exc.add_note(f" (through {line.proxy})")
                raise
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(answer, functools.partial(idle.give_back, origin, line)),
            extensions=cast("Any", answer).extensions,
        )

    def _connect(self, origin: httpcore.Origin, proxy: Proxy | None) -> PooledConnection:
        if self._public_only:  # where a proxy leads cannot be checked
            proxy = None
        encrypted = origin.scheme == b"https" or (proxy is not None and proxy.url.scheme == "https")
        tls = shared_ssl_context() if encrypted else None
        return PooledConnection(origin, tls, public_only=self._public_only, proxy=proxy)

    async def aclose(self) -> None:
        """Close this loop's idle connections; those of other loops close when their loop ends."""
        idle = self._idle.pop()
        if idle is not None:
            await idle.aclose()


class _IdleConnections:
    """The idle connections of one event loop; last in, first out, so that the surplus ages."""

    def __init__(self) -> None:
        self.hooked = False
        self._stacks: defaultdict[Origin, deque[PooledConnection]] = defaultdict(deque)
        self._proxies = EnvironmentProxies()
        self._at_loop_end: AsyncGenerator[None, None] | None = None
        self._closed = False

    def proxy_for(self, url: httpx.URL) -> Proxy | None:
        """Find the proxy that new connections to an origin go through."""
        return self._proxies.find(url.scheme, url.host, url.port)

    async def take(self, origin: Origin) -> PooledConnection | None:
        stack = self._stacks[origin]
        if stack and stack[0].has_expired():
            await stack.popleft().aclose()  # one of the surplus, as it goes
        while stack:
            line = stack.pop()
            if await line.reuse():
                return line
            await line.aclose()
        return None

    def give_back(self, origin: Origin, line: PooledConnection) -> None:
        """Keep the connection, if its answer was read to the end and nothing came after it; close it otherwise."""
        if not self._closed and line.is_reusable():
            self._stacks[origin].append(line)
        else:
            line.abort()

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
            for line in stack:
                await line.aclose()


class _Body(httpx.AsyncByteStream):
    """An answer's bytes; closing it gives the connection back, or closes that too."""

    def __init__(self, answer: httpcore.Response, give_back: Callable[[], None]) -> None:
        self._answer = answer
        self._give_back = give_back
        self._chunks: Any = None
        self._closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        self._chunks = aiter(cast("AsyncIterable[bytes]", self._answer.stream))
        return _Chunks(self._chunks)

    async def aclose(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            with anyio.CancelScope(shield=True):
                if hasattr(self._chunks, "aclose"):
                    await self._chunks.aclose()
                await self._answer.aclose()
        finally:
            self._give_back()


class _Chunks:
    """A body's chunks; lets other tasks run now and then, as thousands of tiny ones can lie in one read."""

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
