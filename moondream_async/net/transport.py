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
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from typing import Any, cast

import anyio
import httpcore
import httpx

from .addresses import PublicOnly
from .asyncio_backend import AsyncioBackend
from .loops import LoopLocal

NEW_CONNECTION = "moondream_new_connection"
"""The request extension that asks for a connection that was never used."""

_KEEPALIVE = 60.0  # seconds a connection may idle; a server that closes it sooner is noticed on reuse
_STALE = (httpcore.RemoteProtocolError, httpcore.ReadError, httpcore.WriteError)

Origin = tuple[bytes, bytes, int | None]


@functools.cache
def shared_ssl_context() -> ssl.SSLContext:
    """The one TLS context of all clients: making one costs more than a hundred requests."""
    return httpx.create_ssl_context()


class PooledTransport(httpx.AsyncBaseTransport):
    """HTTP/1.1 over httpcore's connections, on asyncio and trio, in any number of loops.

    Args:
        public_only: Connect to public addresses only, whatever a name resolves to.
    """

    def __init__(self, *, public_only: bool = False) -> None:
        self._public_only = public_only
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
            line = None if request.extensions.get(NEW_CONNECTION) else await idle.take(origin)
            reused = line is not None
            if line is None:
                line = _Line(core.url.origin, public_only=self._public_only)
            try:
                answer = await line.connection.handle_async_request(core)
                break
            except _STALE:
                line.abort()
                # A kept connection that the server had closed; it never read this request.
                if not reused:
                    raise
            except BaseException:
                line.abort()
                raise
        return httpx.Response(
            answer.status,
            headers=answer.headers,
            stream=_Body(answer, functools.partial(idle.give_back, origin, line)),
            extensions=cast("Any", answer).extensions,
        )

    async def aclose(self) -> None:
        """Close this loop's idle connections; those of other loops close when their loop ends."""
        idle = self._idle.pop()
        if idle is not None:
            await idle.aclose()


class _Line:
    """One connection, and a way to close it that cannot be interrupted.

    `task.cancel()` reaches into anyio's shielded scopes, so that httpcore's own clean-up, which
    awaits locks, can be cut short. What asyncio opened is therefore closed without awaiting.
    """

    def __init__(self, origin: httpcore.Origin, *, public_only: bool) -> None:
        self._backend = _backend()
        network: httpcore.AsyncNetworkBackend | None = self._backend
        if public_only:
            network = PublicOnly(network if network is not None else cast("Any", httpcore.AnyIOBackend()))
        self.connection = httpcore.AsyncHTTPConnection(
            origin,
            ssl_context=shared_ssl_context() if origin.scheme == b"https" else None,
            keepalive_expiry=_KEEPALIVE,
            network_backend=network,
        )

    def abort(self) -> None:
        if self._backend is not None:
            self._backend.abort()


def _backend() -> AsyncioBackend | None:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return None  # trio: httpcore's own, whose clean-up trio's shields do protect
    return AsyncioBackend()


class _IdleConnections:
    """The idle connections of one event loop; last in, first out, so that the surplus ages."""

    def __init__(self) -> None:
        self.hooked = False
        self._stacks: defaultdict[Origin, deque[_Line]] = defaultdict(deque)
        self._at_loop_end: AsyncGenerator[None, None] | None = None
        self._closed = False

    async def take(self, origin: Origin) -> _Line | None:
        stack = self._stacks[origin]
        if stack and stack[0].connection.has_expired():
            await stack.popleft().connection.aclose()  # one of the surplus, as it goes
        while stack:
            line = stack.pop()
            if not line.connection.has_expired():
                return line
            await line.connection.aclose()
        return None

    def give_back(self, origin: Origin, line: _Line) -> None:
        """Keep the connection, if its answer was read to the end; close it otherwise."""
        if line.connection.is_available() and not self._closed:
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
                line.abort()
                await line.connection.aclose()


class _Body(httpx.AsyncByteStream):
    """An answer's bytes; closing it gives the connection back, or closes that too."""

    def __init__(self, answer: httpcore.Response, give_back: Callable[[], None]) -> None:
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
        try:
            with anyio.CancelScope(shield=True):
                if hasattr(self._chunks, "aclose"):
                    await self._chunks.aclose()
                await self._answer.aclose()
        finally:
            self._give_back()
