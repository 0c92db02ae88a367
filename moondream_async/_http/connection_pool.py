"""Idle connections: an O(1) stack per origin and event loop, and connections that are opened ahead of their calls."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncGenerator
from typing import TYPE_CHECKING, Any, TypeAlias

import httpx

from .._concurrency.loop_local import LoopLocal
from .http1 import Http1Connection
from .proxies import EnvironmentProxies, Proxy

if TYPE_CHECKING:
    from .httpcore_connection import HttpcoreConnection

_PAUSE = 0.003  # seconds before a connection is opened ahead; what is no image fails sooner

Origin: TypeAlias = tuple[bytes, bytes, int | None]
Connection: TypeAlias = "Http1Connection | HttpcoreConnection"


class ConnectionPool:
    """The idle connections of one event loop, and tasks that open new ones.

    Idle connections are used last in, first out, so that surplus ones expire.

    Attributes:
        closes_with_loop: Whether `close_with_loop` was called.
    """

    def __init__(self) -> None:
        self.closes_with_loop = False
        self._stacks: defaultdict[Origin, deque[Connection]] = defaultdict(deque)
        self._opening: set[asyncio.Task[Any]] = set()
        self._proxies = EnvironmentProxies()
        self._at_loop_end: AsyncGenerator[None, None] | None = None
        self._closed = False

    def proxy_for(self, url: httpx.URL) -> Proxy | None:
        """Return the proxy for new connections to a URL's origin, if any."""
        return self._proxies.find(url.scheme, url.host, url.port)

    def open_ahead(self, origin: Origin, connection: Http1Connection, timeout: float | None) -> Opening | None:
        """Begin to open a connection, unless there is an idle one.

        Args:
            origin: Its origin.
            connection: The connection, not yet opened.
            timeout: Seconds that connecting may take.
        """
        if self._stacks[origin]:
            return None
        task = asyncio.create_task(_open_soon(connection, timeout))
        self._opening.add(task)
        task.add_done_callback(self._opening.discard)
        return Opening(self, origin, connection, task)

    async def take(self, origin: Origin) -> Connection | None:
        """Return an idle connection, or None."""
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

    def keep(self, origin: Origin, connection: Connection) -> None:
        """Keep an open connection that no request was sent on, unless there is an idle one."""
        if self._closed or self._stacks[origin]:
            connection.abort()
        else:
            self._stacks[origin].append(connection)

    async def close_with_loop(self, owner: LoopLocal[ConnectionPool]) -> None:
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
        for task in self._opening:
            task.cancel()
        stacks, self._stacks = self._stacks, defaultdict(deque)
        for stack in stacks.values():
            while stack:  # a call may take one meanwhile
                await stack.pop().aclose()


async def _open_soon(connection: Http1Connection, timeout: float | None) -> None:
    await asyncio.sleep(_PAUSE)
    await connection.open(timeout)


class Opening:
    """A connection that is being opened for one call, while the call's image is prepared.

    Args:
        pool: Keeps the connection if the call does not need it.
        origin: Its origin.
        connection: The connection.
        task: Opens it.

    Attributes:
        origin: Its origin; only requests to this may use it.
    """

    def __init__(
        self, pool: ConnectionPool, origin: Origin, connection: Http1Connection, task: asyncio.Task[Any]
    ) -> None:
        self._pool = pool
        self.origin = origin
        self._connection: Http1Connection | None = connection
        self._task = task

    async def take(self) -> Http1Connection | None:
        """Return the connection, once it is open; None if it was taken already, or cannot be used any more.

        Raises:
            httpx.ConnectError, httpx.ConnectTimeout: There is no connection.
        """
        connection, self._connection = self._connection, None
        if connection is None:
            return None
        try:
            await self._task
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                connection.abort()  # it may have opened in the same moment
                raise
            return None  # somebody else has cancelled the task
        if await connection.prepare_reuse():
            return connection
        connection.abort()
        return None

    def release(self) -> None:
        """Leave the connection, unless it was taken, to other calls; if it is not open yet, do not open it."""
        connection, self._connection = self._connection, None
        if connection is None:
            return
        if not self._task.done():
            self._task.cancel()
        elif not self._task.cancelled() and self._task.exception() is None:
            self._pool.keep(self.origin, connection)
