"""What an async generator gives, produced in a task of its own, so that it can be left half-way by anybody.

A loop closes all of its async generators at once when it ends, or in a task of its own when they are dropped; one that
reads from a connection, through others, does not bear that.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Generic, Self, TypeVar

import anyio
import anyio.lowlevel

from . import background_task
from .background_task import BackgroundTask
from .closing import AsyncClosing

T = TypeVar("T")

_AHEAD = 64  # pieces that are ready before they are asked for


class PrefetchIterator(AsyncClosing, Generic[T]):
    """The pieces, one by one. Nothing begins before the first is asked for; `async with` makes sure that it ends.

    Args:
        make: Makes the generator.
    """

    def __init__(self, make: Callable[[], AsyncGenerator[T]]) -> None:
        # The flow holds no reference to this: dropped half-way, this is collected, and the flow stopped.
        self._flow = _Flow(make)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        return await self._flow.next()

    async def aclose(self) -> None:
        """Stop; safe to call again."""
        await self._flow.stop()

    def __del__(self) -> None:
        flow: _Flow[T] | None = getattr(self, "_flow", None)
        if flow is not None:
            flow.abandon()


class _Flow(Generic[T]):
    def __init__(self, make: Callable[[], AsyncGenerator[T]]) -> None:
        self._make = make
        self._ready: deque[T] = deque()
        self._error: BaseException | None = None
        self._over = False
        self._background: BackgroundTask | None = None

    async def next(self) -> T:
        if self._background is None:
            self._news, self._room = anyio.Event(), anyio.Event()
            self._background = BackgroundTask(self._produce)
            self._background.start()
        while not self._ready and not self._over:
            if self._news.is_set():  # several tasks may wait for the same news
                self._news = anyio.Event()
            await self._news.wait()
        if not self._ready:
            error, self._error = self._error, None
            raise StopAsyncIteration if error is None else error
        if len(self._ready) == _AHEAD // 2:
            self._room.set()
        return self._ready.popleft()

    async def stop(self) -> None:
        self._over = True
        self._ready.clear()
        if self._background is not None:
            await self._background.stop()

    def abandon(self) -> None:
        if self._background is not None and not self._over:
            self._background.cancel_soon()

    async def _produce(self) -> None:
        try:
            async with aclosing(self._make()) as pieces:
                async for piece in pieces:
                    self._ready.append(piece)
                    self._news.set()
                    if len(self._ready) >= _AHEAD:
                        self._room = anyio.Event()
                        await self._room.wait()
                    elif len(self._ready) % 16 == 0:
                        await anyio.lowlevel.checkpoint()  # what is read from memory alone would keep the loop
        except Exception as exc:
            self._error = exc
        except BaseException:
            if not self._over:  # nobody has stopped it
                self._error = background_task.its_loop_has_ended()
            raise
        finally:
            self._over = True
            self._news.set()
