"""The portal: one event loop in a background thread, shared by all sync clients, runs their async clients."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Awaitable, Callable
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from functools import partial
from typing import Any, Generic, ParamSpec, TypeVar

import anyio
from anyio.from_thread import BlockingPortal

from .._concurrency.forks import no_fork
from ..errors import ConfigurationError, MoondreamError

P = ParamSpec("P")
T = TypeVar("T")

_FORK_CHECK_INTERVAL = 1.0  # seconds between checks for a fork; in a forked child, no result arrives
_CANCEL_TIMEOUT = 1.0  # seconds that an interrupted call may take to end
_FULL_TRACEBACK = "MOONDREAM_FULL_TRACEBACK"


class _BackgroundLoop:
    """The thread and its event loop: started by the first lease, stopped when the last one is released."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._portal: BlockingPortal | None = None
        self._leases: set[object] = set()
        self.thread: int | None = None

    def acquire(self, lease: object) -> BlockingPortal:
        """Register a lease; start the thread if it does not run."""
        with no_fork():
            if self._portal is None:
                self._portal = self._start()
            self._leases.add(lease)
            return self._portal

    def discard(self, lease: object) -> None:
        """Release a lease without waiting; the thread keeps running."""
        self._leases.discard(lease)

    def release(self, lease: object) -> None:
        """Release a lease; stop the thread if it was the last one."""
        with no_fork():
            self._leases.discard(lease)
            if self._leases or self._portal is None or self._thread is None:
                return
            portal, thread = self._portal, self._thread
            self._portal = self._thread = self.thread = None
        portal.start_task_soon(portal.stop)
        while thread.is_alive():  # false in a child that a signal handler forked here
            thread.join(_FORK_CHECK_INTERVAL)

    def _start(self) -> BlockingPortal:
        # anyio's `start_blocking_portal` is a generator that joins its thread when it is finalized.
        # In a forked child, which has no such thread, that would block forever.
        ready: Future[BlockingPortal] = Future()

        async def serve() -> None:
            async with BlockingPortal() as portal:
                ready.set_result(portal)
                await portal.sleep_until_stopped()

        thread = threading.Thread(target=anyio.run, args=(serve,), name="moondream-async", daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:  # Python 3.12 and later start no threads at exit
            raise ConfigurationError(f"The background loop cannot be started: {exc}.") from None
        portal = _wait(ready)
        self._thread, self.thread = thread, thread.ident
        return portal


_background_loop = _BackgroundLoop()


def _reset_after_fork() -> None:
    # Threads do not survive a fork. The child starts its own, and does not touch the parent's sockets.
    global _background_loop
    _background_loop = _BackgroundLoop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)


def _discard(loop: _BackgroundLoop, lease: object) -> None:
    # Called by the garbage collector in any thread, even the portal's own, so it must not wait.
    loop.discard(lease)


class Portal:
    """A client's access to the background loop."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._closed = False
        self._active: set[Future[Any]] = set()
        self._portal: BlockingPortal | None = None
        self._token: object = None
        self._finalizer: weakref.finalize[..., Any] | None = None

    def call(self, func: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a coroutine function in the background loop and wait for its result.

        An exception that interrupts the wait, such as Ctrl-C, also cancels the coroutine.

        Raises:
            ConfigurationError: The client is closed, or the call comes from the background loop and would deadlock.
        """
        call = _Call(func, args, kwargs)
        try:
            return _wait(self.start(call.run, call))
        except MoondreamError as exc:
            if os.getenv(_FULL_TRACEBACK):
                raise
            error = exc.with_traceback(None)
        except CancelledError:
            error = ConfigurationError("The client was closed while the call was running.")
        except BaseException:
            call.abandon(self._portal)
            raise
        raise error

    def start(self, func: Callable[[], Awaitable[T]], call: _Call[Any] | None = None) -> Future[T]:
        """Start a task in the background loop; canceling the future cancels the task."""
        if self._closed:
            raise ConfigurationError("This client is closed; make a new one.")
        portal = self._lease()
        if threading.get_ident() == _background_loop.thread:
            raise ConfigurationError(
                "Client was called from its own event loop, which would deadlock; use AsyncClient there."
            )
        try:
            future = portal.start_task_soon(func)
        except RuntimeError:  # also at interpreter shutdown
            raise ConfigurationError("The background loop has stopped: the client was closed.") from None
        if call is not None:
            call.future = future
        self._active.add(future)
        future.add_done_callback(self._active.discard)
        return future

    def call_soon(self, func: Callable[[], Any]) -> None:
        """Call a sync function in the background loop without waiting for it."""
        self.start(partial(_run_sync, func))

    def close(self, aclose: Callable[[], Awaitable[None]]) -> None:
        """Run the client's `aclose`, cancel calls in progress, and release the lease. Safe to call more than once.

        The background thread stops when the last lease is released.
        """
        if not self._closed:
            self.call(aclose)
            self._closed = True
            for future in list(self._active):  # calls from other threads, which would keep the loop running
                future.cancel()
        with no_fork():
            finalizer, self._finalizer, self._portal = self._finalizer, None, None
        if finalizer is not None and finalizer.detach() and self._pid == os.getpid():
            _background_loop.release(self._token)

    def _lease(self) -> BlockingPortal:
        portal = self._portal
        if portal is not None and self._pid == os.getpid():
            return portal
        with no_fork():
            if self._portal is None or self._pid != os.getpid():
                self._active = set()  # the parent's calls must not be canceled here
                self._token = object()
                self._portal = _background_loop.acquire(self._token)
                self._finalizer = weakref.finalize(self, _discard, _background_loop, self._token)
                self._finalizer.atexit = False
                self._pid = os.getpid()
            return self._portal


class _Call(Generic[T]):
    """A call that can be interrupted at any moment; its task is canceled, and its result is closed."""

    def __init__(self, func: Callable[..., Awaitable[T]], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.future: Future[T] | None = None
        self._func = func
        self._args = args
        self._kwargs = kwargs
        self._ended = threading.Event()
        self._is_abandoned = False
        self._results: list[T] = []

    async def run(self) -> T:
        """Run the coroutine in the background loop."""
        try:
            result = await self._func(*self._args, **self._kwargs)
            self._results.append(result)
        finally:
            self._ended.set()
        if self._is_abandoned:
            await self._close_result()
        return result

    def abandon(self, portal: BlockingPortal | None) -> None:
        """Cancel the task, and wait briefly until it has ended."""
        self._is_abandoned = True
        if self.future is not None and not self.future.done():
            self.future.cancel()
            self._ended.wait(_CANCEL_TIMEOUT)
        if self._results and portal is not None:
            with suppress(RuntimeError):  # the loop has stopped and closed everything
                portal.start_task_soon(self._close_result)

    async def _close_result(self) -> None:
        aclose = getattr(self._results[0], "aclose", None)
        if aclose is not None:
            await aclose()


def _wait(future: Future[T]) -> T:
    """Wait for a future; return its result or raise its exception."""
    pid = os.getpid()
    while not future.done():
        with suppress(TimeoutError):
            future.exception(_FORK_CHECK_INTERVAL)
        if os.getpid() != pid:
            raise ConfigurationError(
                "The process was forked during this call, which continues in the parent process only."
            )
    return future.result()


async def _run_sync(func: Callable[[], Any]) -> None:
    func()
