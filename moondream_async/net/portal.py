"""The portal: one event loop in a background thread, in which every `Client` runs its `AsyncClient`."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

from ..errors import ConfigurationError, MoondreamError

P = ParamSpec("P")
T = TypeVar("T")

_SETTLE = 1.0  # seconds that an interrupted call may take to wind up
_KEEP_TRACEBACKS = "MOONDREAM_FULL_TRACEBACK"


class _Background:
    """The thread and its loop: started by the first lease, stopped when the last is given back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._portal: BlockingPortal | None = None
        self._leases = 0
        self.thread: int | None = None

    def lease(self) -> BlockingPortal:
        with self._lock:
            if self._portal is None:
                self._portal = self._start()
            self._leases += 1
            return self._portal

    def give_back(self, *, stop: bool) -> None:
        with self._lock:
            self._leases -= 1
            if self._leases or not stop or self._portal is None or self._thread is None:
                return
            portal, thread = self._portal, self._thread
            self._portal = self._thread = self.thread = None
        portal.start_task_soon(portal.stop)
        thread.join()

    def _start(self) -> BlockingPortal:
        # anyio's `start_blocking_portal` is a generator that waits for its thread when it is finalised:
        # in a forked child, which has no such thread, that would never end.
        ready: Future[BlockingPortal] = Future()

        async def serve() -> None:
            async with BlockingPortal() as portal:
                ready.set_result(portal)
                await portal.sleep_until_stopped()

        thread = threading.Thread(target=anyio.run, args=(serve,), name="moondream-async", daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:  # Python 3.12 and later start no thread at exit
            raise ConfigurationError(f"The background loop cannot be started: {exc}.") from None
        portal = ready.result()
        self._thread, self.thread = thread, thread.ident
        return portal


_background = _Background()


def _forget_parent() -> None:
    # Threads do not survive a fork: the child starts its own, and leaves the parent's sockets alone.
    global _background
    _background = _Background()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)


def _drop(background: _Background) -> None:
    # Called by the garbage collector, in any thread, even the portal's own: it must not wait.
    background.give_back(stop=False)


class Portal:
    """One client's way into the background loop."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._closed = False
        self._active: set[Future[Any]] = set()
        self._portal: BlockingPortal | None = None
        self._finalizer: weakref.finalize[..., Any] | None = None

    def call(self, func: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a coroutine function in the background loop and wait for its result.

        Whatever interrupts the wait, Ctrl-C above all, also cancels the work.

        Raises:
            ConfigurationError: Called from the background loop itself, where waiting would never end.
        """
        settled = threading.Event()

        async def run() -> T:
            try:
                return await func(*args, **kwargs)
            finally:
                settled.set()

        future = self.start(run)
        try:
            return future.result()
        except MoondreamError as exc:
            if os.getenv(_KEEP_TRACEBACKS):
                raise
            error = exc.with_traceback(None)
        except CancelledError:
            error = ConfigurationError("The client was closed while the call was running.")
        except BaseException:
            if not future.done():
                future.cancel()
                settled.wait(_SETTLE)
            raise
        raise error

    def start(self, func: Callable[[], Awaitable[T]]) -> Future[T]:
        """Start a task in the background loop; cancelling the future cancels the task."""
        if self._closed:
            raise ConfigurationError("This client is closed; make a new one.")
        portal = self._lease()
        if threading.get_ident() == _background.thread:
            raise ConfigurationError(
                "Client was called from its own event loop, which would wait for itself; use AsyncClient there."
            )
        try:
            future = portal.start_task_soon(func)
        except RuntimeError:
            raise ConfigurationError("The background loop has stopped: the client was closed.") from None
        self._active.add(future)
        future.add_done_callback(self._active.discard)
        return future

    def soon(self, func: Callable[[], Any]) -> None:
        """Call a plain function in the background loop, without waiting for it."""
        self.start(partial(_as_coroutine, func))

    def close(self, aclose: Callable[[], Awaitable[None]]) -> None:
        """Run the client's `aclose`, end the calls under way, and give the lease back.

        The thread ends with the last lease.

        Safe to call again.
        """
        if not self._closed:
            self.call(aclose)
            self._closed = True
            for future in list(self._active):  # calls of other threads, which would hold the loop open
                future.cancel()
        with self._lock:
            finalizer, self._finalizer, self._portal = self._finalizer, None, None
        if finalizer is not None and finalizer.detach() and self._pid == os.getpid():
            _background.give_back(stop=True)

    def _lease(self) -> BlockingPortal:
        with self._lock:
            if self._portal is None or self._pid != os.getpid():
                self._pid = os.getpid()
                self._portal = _background.lease()
                self._finalizer = weakref.finalize(self, _drop, _background)
                self._finalizer.atexit = False
            return self._portal


async def _as_coroutine(func: Callable[[], Any]) -> None:
    func()
