"""The portal: one event loop in a background thread, in which every `Client` runs its `AsyncClient`."""

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

_LOOK_AGAIN = 1.0  # seconds after which a call looks whether it is in a forked child, where nothing will come
_SETTLE = 1.0  # seconds that an interrupted call may take to wind up
_KEEP_TRACEBACKS = "MOONDREAM_FULL_TRACEBACK"


class _Background:
    """The thread and its loop: started by the first lease, stopped when the last is given back."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._portal: BlockingPortal | None = None
        self._leases: set[object] = set()
        self.thread: int | None = None

    def lease(self, lease: object) -> BlockingPortal:
        with no_fork():
            if self._portal is None:
                self._portal = self._start()
            self._leases.add(lease)
            return self._portal

    def drop(self, lease: object) -> None:
        """Give a lease back, without waiting for anything; the thread goes on."""
        self._leases.discard(lease)

    def give_back(self, lease: object) -> None:
        """Give a lease back; the thread ends with the last."""
        with no_fork():
            self._leases.discard(lease)
            if self._leases or self._portal is None or self._thread is None:
                return
            portal, thread = self._portal, self._thread
            self._portal = self._thread = self.thread = None
        portal.start_task_soon(portal.stop)
        while thread.is_alive():  # in a child that was forked here by a signal handler, it is not
            thread.join(_LOOK_AGAIN)

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
        portal = _result(ready)
        self._thread, self.thread = thread, thread.ident
        return portal


_background = _Background()


def _forget_parent() -> None:
    # Threads do not survive a fork: the child starts its own, and leaves the parent's sockets alone.
    global _background
    _background = _Background()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)


def _drop(background: _Background, lease: object) -> None:
    # Called by the garbage collector, in any thread, even the portal's own: it must not wait.
    background.drop(lease)


class Portal:
    """One client's way into the background loop."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._closed = False
        self._active: set[Future[Any]] = set()
        self._portal: BlockingPortal | None = None
        self._token: object = None
        self._finalizer: weakref.finalize[..., Any] | None = None

    def call(self, func: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a coroutine function in the background loop and wait for its result.

        Whatever interrupts the wait, Ctrl-C above all, also cancels the work.

        Raises:
            ConfigurationError: Called from the background loop itself, where waiting would never end.
        """
        call = _Call(func, args, kwargs)
        try:
            return _result(self.start(call.run, call))
        except MoondreamError as exc:
            if os.getenv(_KEEP_TRACEBACKS):
                raise
            error = exc.with_traceback(None)
        except CancelledError:
            error = ConfigurationError("The client was closed while the call was running.")
        except BaseException:
            call.abandon(self._portal)
            raise
        raise error

    def start(self, func: Callable[[], Awaitable[T]], call: _Call[Any] | None = None) -> Future[T]:
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
        except RuntimeError:  # also at the end of the interpreter
            raise ConfigurationError("The background loop has stopped: the client was closed.") from None
        if call is not None:
            call.future = future
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
        with no_fork():
            finalizer, self._finalizer, self._portal = self._finalizer, None, None
        if finalizer is not None and finalizer.detach() and self._pid == os.getpid():
            _background.give_back(self._token)

    def _lease(self) -> BlockingPortal:
        portal = self._portal
        if portal is not None and self._pid == os.getpid():
            return portal
        with no_fork():
            if self._portal is None or self._pid != os.getpid():
                self._active = set()  # those of a parent process are not ours to end
                self._token = object()
                self._portal = _background.lease(self._token)
                self._finalizer = weakref.finalize(self, _drop, _background, self._token)
                self._finalizer.atexit = False
                self._pid = os.getpid()
            return self._portal


class _Call(Generic[T]):
    """One call, which can be interrupted at any moment: its work is cancelled, and what it opened is closed."""

    def __init__(self, func: Callable[..., Awaitable[T]], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.future: Future[T] | None = None
        self._func = func
        self._args = args
        self._kwargs = kwargs
        self._settled = threading.Event()
        self._is_abandoned = False
        self._results: list[T] = []

    async def run(self) -> T:
        """Do the work, in the background loop."""
        try:
            result = await self._func(*self._args, **self._kwargs)
            self._results.append(result)
        finally:
            self._settled.set()
        if self._is_abandoned:
            await self._close_result()
        return result

    def abandon(self, portal: BlockingPortal | None) -> None:
        """Cancel the work, and wait until it has ended; not for long."""
        self._is_abandoned = True
        if self.future is not None and not self.future.done():
            self.future.cancel()
            self._settled.wait(_SETTLE)
        if self._results and portal is not None:
            with suppress(RuntimeError):  # the loop has ended, and closed everything
                portal.start_task_soon(self._close_result)

    async def _close_result(self) -> None:
        aclose = getattr(self._results[0], "aclose", None)
        if aclose is not None:
            await aclose()


def _result(future: Future[T]) -> T:
    """Wait for a future; its result, or what it raised."""
    pid = os.getpid()
    while not future.done():
        with suppress(TimeoutError):
            future.exception(_LOOK_AGAIN)
        if os.getpid() != pid:
            raise ConfigurationError("The process was forked in the middle of this call, which goes on in the parent.")
    return future.result()


async def _as_coroutine(func: Callable[[], Any]) -> None:
    func()
