"""Run blocking work off the event loop, in few threads."""

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

_BATCH_SIZE = 64  # items read from a blocking iterator per batch
_BATCH_SECONDS = 0.005  # after which a batch ends early
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
    """Run `work(value)` in the worker pool: at most four threads per process, so that memory stays bounded.

    A cancelled caller does not wait for a busy thread, but the thread stays occupied until its work ends.
    """
    try:
        future = _executor().submit(work, value)
    except RuntimeError:  # no thread can be started at interpreter exit, when `atexit` hooks may still call this
        return work(value)
    return await result_of(future)


async def result_of(future: Future[T]) -> T:
    """Wait for the result of work in a thread.

    A cancelled caller does not wait: work that has started continues, queued work is canceled.
    """
    done, call_soon = anyio.Event(), _loop_scheduler()

    def wake(_: object) -> None:
        with suppress(RuntimeError):  # the loop has closed; nobody is waiting
            call_soon(done.set)

    future.add_done_callback(wake)
    try:
        await done.wait()
    except BaseException:
        future.cancel()
        raise
    error = future.exception()
    if error is None:
        return future.result()
    # Drop the thread's frames, which reference the image.
    raise error.with_traceback(None)


class ThreadIterator(Generic[T]):
    """An async iterator over a user's blocking iterable, which may read a disk, decode a video or wait for a pipe.

    A dedicated thread reads items on demand: in batches while the iterable is fast, each item available at once.
    Closing does not wait for a blocked thread; it ends when it can.
    """

    def __init__(self, items: Iterable[T]) -> None:
        self._items = items
        self._read: deque[T] = deque()
        self._requests = threading.Semaphore(0)
        self._lock = threading.Lock()
        self._reading = self._done = self._closed = False
        self._error: BaseException | None = None
        self._thread: threading.Thread | None = None
        self._item_ready: anyio.Event | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._read:
            if self._done:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            item_ready = self._request_items()
            if not self._read and not self._done:  # an item that arrived before the request has set no event
                await item_ready.wait()
        return self._read.popleft()

    def close(self) -> None:
        """Stop reading."""
        self._closed = True
        self._requests.release()

    def _request_items(self) -> anyio.Event:
        """Request more items; return the event that is set at the next item or at the end."""
        if self._thread is None:
            self._call_soon = _loop_scheduler()
            run = contextvars.copy_context().run
            self._thread = threading.Thread(
                target=run, args=(self._read_on_request,), name="moondream-async-items", daemon=True
            )
            self._thread.start()
        with self._lock:
            item_ready = self._item_ready = anyio.Event()
            if not self._reading:
                self._reading = True
                self._requests.release()
        return item_ready

    def _read_on_request(self) -> None:
        try:
            iterator = iter(self._items)
            while not self._done and self._requests.acquire() and not self._closed:
                self._read_batches(iterator)
        except BaseException as exc:
            self._error, self._done = exc, True
        self._notify()

    def _read_batches(self, iterator: Iterator[T]) -> None:
        while not self._closed:
            self._done = not self._read_batch(iterator)
            with self._lock:
                if self._done or self._item_ready is None:
                    self._reading = False
                    return

    def _read_batch(self, iterator: Iterator[T]) -> bool:
        """Read one batch; return False at the end of the iterable."""
        end = time.monotonic() + _BATCH_SECONDS
        for count, item in enumerate(iterator, 1):
            self._read.append(item)
            self._notify()
            if count == _BATCH_SIZE or time.monotonic() > end or self._closed:
                return True
        return False

    def _notify(self) -> None:
        with self._lock:
            item_ready, self._item_ready = self._item_ready, None
        if item_ready is not None:
            with suppress(RuntimeError):  # the loop has closed; nobody is waiting
                self._call_soon(item_ready.set)


async def run_in_thread(work: Callable[[T], R], value: T) -> R:
    """Run a user's blocking function in a thread; a cancelled caller does not wait for it."""
    return await anyio.to_thread.run_sync(work, value, abandon_on_cancel=True)


def _executor() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            from concurrent.futures import (
                ThreadPoolExecutor,
            )  # raises RuntimeError if first imported at interpreter exit

            _pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="moondream-async-images")
        return _pool


def _loop_scheduler() -> Callable[[Callable[[], Any]], Any]:
    try:
        return asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        import trio

        return trio.lowlevel.current_trio_token().run_sync_soon
