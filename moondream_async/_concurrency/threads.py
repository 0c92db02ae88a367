"""Blocking work off the event loop, in few threads."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

import anyio
import anyio.to_thread

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

T = TypeVar("T")
R = TypeVar("R")

_READ_AT_ONCE = 64  # items that are read of a blocking iterator in one go
_READ_FOR = 0.005  # seconds after which those at hand have to do
_THREADS = min(4, os.cpu_count() or 1)
_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def _forget_parent() -> None:
    # Threads do not survive a fork: the child starts its own.
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)


async def run_in_image_pool(work: Callable[[object], T], value: object) -> T:
    """Run `work(value)` in a worker thread; at most four at once in the process, so that memory stays bounded.

    A cancelled caller does not wait for a thread that is at work; but the thread counts until it has ended.
    """
    try:
        future = _executor().submit(work, value)
    except RuntimeError:  # at interpreter exit, where `atexit` hooks may still call, no thread can be started
        return work(value)
    return await result_of(future)


async def result_of(future: Future[T]) -> T:
    """Wait for work in a thread.

    A cancelled caller does not wait: work that has begun goes on, and other work is not done.
    """
    done, soon = anyio.Event(), _into_this_loop()

    def wake(_: object) -> None:
        with suppress(RuntimeError):  # the loop has ended, and nobody waits
            soon(done.set)

    future.add_done_callback(wake)
    try:
        await done.wait()
    except BaseException:
        future.cancel()
        raise
    error = future.exception()
    if error is None:
        return future.result()
    # Without the thread's frames, which hold the image.
    raise error.with_traceback(None)


class ThreadIterator(Generic[T]):
    """A user's own iterable, read in a thread of its own: it may read a disk, decode a film, wait for a pipe.

    It is read when something is asked for: many at a time where it is quick, each handed on as soon as it is there.
    A thread that waits for it is left behind, and ends when it can.
    """

    def __init__(self, items: Iterable[T]) -> None:
        self._items = items
        self._read: deque[T] = deque()
        self._wanted = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._reading = self._done = self._closed = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._news: anyio.Event | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._read:
            if self._done:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            news = self._ask()
            if not self._read and not self._done:  # what came before we asked has told nobody
                await news.wait()
        return self._read.popleft()

    def close(self) -> None:
        """Read no more."""
        self._closed = True
        self._wanted.release()

    def _ask(self) -> anyio.Event:
        """Have it read on; the event tells of the next item, or of the end."""
        if self._thread is None:
            self._soon = _into_this_loop()
            run = contextvars.copy_context().run
            self._thread = threading.Thread(target=run, args=(self._serve,), name="moondream-async-items", daemon=True)
            self._thread.start()
        with self._lock:
            news = self._news = anyio.Event()
            if not self._reading:
                self._reading = True
                self._wanted.release()
        return news

    def _serve(self) -> None:
        try:
            iterator = iter(self._items)
            while not self._done and self._wanted.acquire() and not self._closed:
                self._read_while_wanted(iterator)
        except BaseException as exc:
            self._error, self._done = exc, True
        self._tell()

    def _read_while_wanted(self, iterator: Iterator[T]) -> None:
        while not self._closed:
            self._done = not self._read_some(iterator)
            with self._lock:
                if self._done or self._news is None:
                    self._reading = False
                    return

    def _read_some(self, iterator: Iterator[T]) -> bool:
        """Read those at hand; False at the end."""
        end = time.monotonic() + _READ_FOR
        for count, item in enumerate(iterator, 1):
            self._read.append(item)
            self._tell()
            if count == _READ_AT_ONCE or time.monotonic() > end or self._closed:
                return True
        return False

    def _tell(self) -> None:
        with self._lock:
            news, self._news = self._news, None
        if news is not None:
            with suppress(RuntimeError):  # the loop has ended, and nobody waits
                self._soon(news.set)


async def run_in_thread(work: Callable[[T], R], value: T) -> R:
    """Run a user's own blocking code beside the loop; who is cancelled does not wait for it."""
    return await anyio.to_thread.run_sync(work, value, abandon_on_cancel=True)


def _executor() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            from concurrent.futures import ThreadPoolExecutor  # a RuntimeError if first imported at interpreter exit

            _pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="moondream-async-images")
        return _pool


def _into_this_loop() -> Callable[[Callable[[], Any]], Any]:
    try:
        return asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        import trio

        return trio.lowlevel.current_trio_token().run_sync_soon
