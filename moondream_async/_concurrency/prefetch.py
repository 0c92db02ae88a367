"""Run an async generator in a background task, so that its consumer can stop reading at any point.

An event loop closes all of its async generators at once when it ends, or in another task when they are dropped.
A generator that reads from a connection through other generators does not survive that.
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

_BUFFER_SIZE = 64  # items produced ahead of the consumer


class PrefetchIterator(AsyncClosing, Generic[T]):
    """The items of an async generator, produced ahead of the consumer.

    Production starts with the first `__anext__`; use `async with` to make sure that it stops.

    Args:
        make: Creates the generator.
    """

    def __init__(self, make: Callable[[], AsyncGenerator[T]]) -> None:
        # The producer holds no reference to the iterator, so a dropped iterator is collected and stops its producer.
        self._producer = _Producer(make)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        return await self._producer.next()

    async def aclose(self) -> None:
        """Stop producing; safe to call more than once."""
        await self._producer.stop()

    def abandon(self) -> None:
        """Request the end of production, without waiting; from any thread."""
        self._producer.abandon()

    def __del__(self) -> None:
        producer: _Producer[T] | None = getattr(self, "_producer", None)
        if producer is not None:
            producer.abandon()


class _Producer(Generic[T]):
    def __init__(self, make: Callable[[], AsyncGenerator[T]]) -> None:
        self._make = make
        self._ready: deque[T] = deque()
        self._error: BaseException | None = None
        self._finished = False
        self._background: BackgroundTask | None = None

    async def next(self) -> T:
        if self._background is None:
            self._item_ready, self._has_room = anyio.Event(), anyio.Event()
            self._background = BackgroundTask(self._produce)
            self._background.start()
        while not self._ready and not self._finished:
            if self._item_ready.is_set():  # several tasks may wait for the same event
                self._item_ready = anyio.Event()
            await self._item_ready.wait()
        if not self._ready:
            error, self._error = self._error, None
            raise StopAsyncIteration if error is None else error
        if len(self._ready) == _BUFFER_SIZE // 2:
            self._has_room.set()
        return self._ready.popleft()

    async def stop(self) -> None:
        self._finished = True
        self._ready.clear()
        if self._background is not None:
            await self._background.stop()

    def abandon(self) -> None:
        if self._background is not None and not self._finished:
            self._background.cancel_soon()

    async def _produce(self) -> None:
        try:
            async with aclosing(self._make()) as items:
                async for item in items:
                    self._ready.append(item)
                    self._item_ready.set()
                    if len(self._ready) >= _BUFFER_SIZE:
                        self._has_room = anyio.Event()
                        await self._has_room.wait()
                    elif len(self._ready) % 16 == 0:
                        await anyio.lowlevel.checkpoint()  # a generator that never waits for I/O would block the loop
        except Exception as exc:
            self._error = exc
        except BaseException:
            if not self._finished:  # not stopped by us: the loop is closing
                self._error = background_task.its_loop_has_ended()
            raise
        finally:
            self._finished = True
            self._item_ready.set()
