"""Idle connections: an O(1) stack per origin and event loop, and connections that are opened ahead of their calls."""

from __future__ import annotations

import asyncio
import contextlib
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, TypeAlias, cast

import httpx

from .._concurrency.loop_local import LoopLocal
from .http1 import Http1Connection
from .proxies import EnvironmentProxies, Proxy

if TYPE_CHECKING:
    from .httpcore_connection import HttpcoreConnection

Origin: TypeAlias = tuple[bytes, bytes, int | None]
Connection: TypeAlias = "Http1Connection | HttpcoreConnection"


class ConnectionPool:
    """The idle connections of one event loop, and those that are being opened for calls that still prepare their image.

    Idle connections are used last in, first out, so that surplus ones expire.

    Attributes:
        closes_with_loop: Whether `close_with_loop` was called.
    """

    def __init__(self) -> None:
        self.closes_with_loop = False
        self._stacks: defaultdict[Origin, deque[Connection]] = defaultdict(deque)
        self._opening: defaultdict[Origin, deque[asyncio.Task[None]]] = defaultdict(deque)
        self._proxies = EnvironmentProxies()
        self._at_loop_end: AsyncGenerator[None, None] | None = None
        self._closed = False

    def proxy_for(self, url: httpx.URL) -> Proxy | None:
        """Return the proxy for new connections to a URL's origin, if any."""
        return self._proxies.find(url.scheme, url.host, url.port)

    def open_ahead(self, origin: Origin, make: Callable[[], Http1Connection], timeout: float | None) -> None:
        """Begin to open a connection, unless there is an idle one.

        Args:
            origin: Its origin.
            make: Returns the connection, not yet opened.
            timeout: Seconds that connecting may take.
        """
        if not self._stacks[origin]:
            task = asyncio.create_task(self._open(origin, make, timeout))
            task.add_done_callback(_retrieve_exception)
            self._opening[origin].append(task)

    async def take(self, origin: Origin) -> Connection | None:
        """Return an idle connection, or one that is being opened; None if there is neither.

        Raises:
            httpx.ConnectError, httpx.ConnectTimeout: A connection that was being opened could not be.
        """
        stack = self._stacks[origin]
        if stack and stack[0].has_expired():
            await stack.popleft().aclose()  # one surplus connection per request
        while True:
            while stack:
                connection = stack.pop()
                if await connection.prepare_reuse():
                    return connection
                await connection.aclose()
            opening = self._opening.get(origin)
            if not opening:
                return None
            await asyncio.shield(opening.popleft())

    def give_back(self, origin: Origin, connection: Connection) -> None:
        """Keep the connection if its response was read to the end and nothing follows it; close it otherwise."""
        if not self._closed and connection.is_reusable():
            self._stacks[origin].append(connection)
        else:
            connection.abort()

    async def _open(self, origin: Origin, make: Callable[[], Http1Connection], timeout: float | None) -> None:
        try:
            connection = make()
            await connection.open(timeout)
        finally:
            task = asyncio.current_task()
            with contextlib.suppress(ValueError):  # a call waits for it
                self._opening[origin].remove(cast("asyncio.Task[None]", task))
        if self._closed:
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
        for tasks in self._opening.values():
            for task in list(tasks):
                task.cancel()
        stacks, self._stacks = self._stacks, defaultdict(deque)
        for stack in stacks.values():
            while stack:  # a call may take one meanwhile
                await stack.pop().aclose()


def _retrieve_exception(task: asyncio.Task[None]) -> None:
    """Keep asyncio from logging the error of a connection that no call waits for; the next call will try again."""
    if not task.cancelled():
        task.exception()
