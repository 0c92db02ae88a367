"""Blocking work off the event loop, in few threads."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, TypeVar

import anyio
import anyio.to_thread

T = TypeVar("T")
R = TypeVar("R")

_THREADS = min(4, os.cpu_count() or 1)
_lock = threading.Lock()
_pool: ThreadPoolExecutor | None = None


def _forget_parent() -> None:
    # Threads do not survive a fork: the child starts its own.
    global _pool, _lock
    _pool, _lock = None, threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)


async def offload(work: Callable[[object], T], value: object) -> T:
    """Run `work(value)` in a worker thread; at most four at once in the process, so that memory stays bounded.

    A cancelled caller does not wait for a thread that is at work; but the thread counts until it has ended.
    """
    try:
        future = _executor().submit(work, value)
    except RuntimeError:  # at interpreter exit, where `atexit` hooks may still call, no thread can be started
        return work(value)
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


async def beside(work: Callable[[T], R], value: T) -> R:
    """Run a user's own blocking code beside the loop; who is cancelled does not wait for it."""
    return await anyio.to_thread.run_sync(work, value, abandon_on_cancel=True)


def _executor() -> ThreadPoolExecutor:
    global _pool
    with _lock:
        if _pool is None:
            _pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="moondream-async-images")
        return _pool


def _into_this_loop() -> Callable[[Callable[[], Any]], Any]:
    try:
        return asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        import trio

        return trio.lowlevel.current_trio_token().run_sync_soon
