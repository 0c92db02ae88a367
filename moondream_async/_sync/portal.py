"""The portal: one event loop in a background thread, shared by all sync clients, runs their async clients.

Ctrl-C in the main thread can break a `threading.Condition`, and with it an `Event` or a `concurrent.futures.Future`: at
the wrong moment it leaves the lock held, and the loop's thread waits for it forever. `_Flag` has no such moment.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import os
import sys
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager, suppress
from typing import Any, Generic, ParamSpec, TypeVar, cast

import anyio

from .._concurrency.forks import no_fork
from .._tracebacks import shorten
from ..errors import ConfigurationError, MoondreamError

P = ParamSpec("P")
T = TypeVar("T")
R = TypeVar("R")

_FORK_CHECK_INTERVAL = 1.0  # seconds between checks for a fork; in a forked child, no result arrives
_MAX_TURNS = 1000  # of the event loop, in which tasks that were left may begin
_CANCEL_TIMEOUT = 1.0  # seconds that an interrupted call may take to end


class _Flag:
    """An event that an interrupted wait cannot break. It cannot be cleared.

    Attributes:
        is_set: Whether it is set.
    """

    def __init__(self) -> None:
        self.is_set = False
        self._lock = threading.Lock()
        self._lock.acquire()

    def set(self) -> None:
        """Set it and wake those who wait."""
        if not self.is_set:
            self.is_set = True
            with suppress(RuntimeError):  # two threads set it at once
                self._lock.release()

    def wait(self, seconds: float) -> bool:
        """Wait for a limited time; return whether it is set."""
        if not self.is_set and self._lock.acquire(timeout=seconds):
            self._lock.release()
        return self.is_set


class _BackgroundLoop:
    """The thread and its event loop: started by the first lease, stopped when the last one is released."""

    def __init__(self) -> None:
        self.thread: int | None = None
        self._thread: threading.Thread | None = None
        self._runner: _LoopRunner | None = None
        self._leases: set[object] = set()

    def acquire(self, lease: object) -> _LoopRunner:
        """Register a lease; start the thread if it does not run."""
        with no_fork():
            if self._runner is None:
                self._start()
            runner = cast("_LoopRunner", self._runner)
            _wait(runner.ready)
            self._leases.add(lease)
            return runner

    def discard(self, lease: object) -> None:
        """Release a lease without waiting; the thread keeps running."""
        self._leases.discard(lease)

    def release(self, lease: object) -> None:
        """Release a lease; stop the thread if it was the last one."""
        with no_fork():
            self._leases.discard(lease)
            if self._leases or self._runner is None or self._thread is None:
                return
            runner, thread = self._runner, self._thread
            self._runner = self._thread = self.thread = None
        runner.stop()
        while thread.is_alive():  # false in a child that a signal handler forked here
            thread.join(_FORK_CHECK_INTERVAL)

    def _start(self) -> None:
        runner = _LoopRunner()
        thread = threading.Thread(target=anyio.run, args=(runner.run,), name="moondream-async", daemon=True)
        try:
            thread.start()
        except RuntimeError as exc:  # Python 3.12 and later start no threads at exit
            raise ConfigurationError(f"The background loop cannot be started: {exc}.") from None
        self._runner, self._thread, self.thread = runner, thread, thread.ident


class _LoopRunner:
    """The event loop of the thread, and its tasks."""

    def __init__(self) -> None:
        self.ready = _Flag()
        self.has_ended = False
        self.waiting: set[Call[Any]] = set()  # calls that have not begun
        self._tasks: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Run until `stop`, and until the last task has ended."""
        self._loop = asyncio.get_running_loop()
        self._context = contextvars.copy_context()
        self._stopped = asyncio.Event()
        self.ready.set()
        try:
            await self._stopped.wait()
            while self._tasks:
                await asyncio.wait(self._tasks)
            await _cancel_remaining_tasks()
        finally:
            self.has_ended = True
            for call in list(self.waiting):
                call.end()

    def start_soon(self, func: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Start a task, from any thread.

        Raises:
            RuntimeError: The loop has stopped.
        """
        self.call_soon(self._start, func)

    def call_soon(self, func: Callable[..., Any], *args: Any) -> None:
        """Call a function in the loop, from any thread.

        Raises:
            RuntimeError: The loop has stopped.
        """
        self._loop.call_soon_threadsafe(func, *args, context=self._caller_context())

    def stop(self) -> None:
        """Stop the loop once its tasks have ended."""
        self.call_soon(self._stopped.set)

    def _caller_context(self) -> contextvars.Context:
        """Return the caller's context variables, except for those in which anyio keeps the loop's library."""
        context = self._context.copy()
        for variable, value in contextvars.copy_context().items():
            if variable not in self._context:
                context.run(variable.set, value)
        return context

    def _start(self, func: Callable[[], Coroutine[Any, Any, None]]) -> None:
        task = self._loop.create_task(func())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _cancel_remaining_tasks() -> None:
    """Cancel tasks that abandoned iterators have left, once each has begun.

    asyncio would also cancel those that have not begun, and Python warns of a coroutine in them that was never awaited.
    """
    cancelled: set[asyncio.Task[Any]] = {cast("asyncio.Task[Any]", asyncio.current_task())}
    for _ in range(_MAX_TURNS):
        remaining = asyncio.all_tasks() - cancelled
        if not remaining:
            return
        for task in remaining:
            coroutine = task.get_coro()
            if inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) != inspect.CORO_CREATED:
                task.cancel()
                cancelled.add(task)
        await asyncio.sleep(0)


_background_loop = _BackgroundLoop()


def _reset_after_fork() -> None:
    # Threads do not survive a fork. The child starts its own, and does not touch the parent's sockets.
    global _background_loop
    _background_loop = _BackgroundLoop()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_reset_after_fork)


class Portal:
    """A client's access to the background loop."""

    def __init__(self) -> None:
        self._pid = os.getpid()
        self._closed = False
        self._active: set[Call[Any]] = set()
        self._runner: _LoopRunner | None = None
        self._token: object = None
        self._finalizer: weakref.finalize[..., Any] | None = None

    def call(self, func: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """Run a coroutine function in the background loop and wait for its result.

        An exception that interrupts the wait, such as Ctrl-C, also cancels the coroutine.

        Raises:
            ConfigurationError: The client is closed, or the call comes from the background loop and would deadlock.
        """
        __tracebackhide__ = True
        return self.call_and_wrap(_identity, func, *args, **kwargs)

    def call_and_wrap(
        self, wrap: Callable[[T], R], func: Callable[P, Awaitable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> R:
        """Run a coroutine function as `call` does, and return its wrapped result.

        The result is closed if an interrupt comes before it is wrapped.

        Args:
            wrap: Makes the sync object out of the async one.
            func: The coroutine function.
            args: Its arguments.
            kwargs: Its keyword arguments.
        """
        __tracebackhide__ = True
        call = Call(functools.partial(func, *args, **kwargs))
        try:
            return wrap(self._start(call).result())
        except MoondreamError as exc:
            error: BaseException = shorten(exc)
        except KeyboardInterrupt as exc:
            call.abandon()
            error = shorten(exc)
        except BaseException:
            call.abandon()
            raise
        raise error

    def start(self, func: Callable[[], Awaitable[T]]) -> Call[T]:
        """Start a coroutine function in the background loop, without waiting for it."""
        return self._start(Call(func))

    def call_soon(self, func: Callable[[], Any]) -> None:
        """Call a sync function in the background loop, without waiting for it."""
        with _stopped_loop_is_closed():
            self._checked_runner().call_soon(func)

    def close(self, aclose: Callable[[], Awaitable[None]]) -> None:
        """Run the client's `aclose`, cancel calls in progress, and release the lease. Safe to call more than once.

        The background thread stops when the last lease is released.
        """
        if not self._closed:
            self.call(aclose)
            self._closed = True
            for call in list(self._active):  # calls from other threads, which would keep the loop running
                call.cancel()
        with no_fork():
            finalizer, self._finalizer, self._runner = self._finalizer, None, None
        if finalizer is not None and finalizer.detach() and self._pid == os.getpid():
            _background_loop.release(self._token)

    def _start(self, call: Call[T]) -> Call[T]:
        with _stopped_loop_is_closed():
            call.start(self._checked_runner(), self._active)
        return call

    def _checked_runner(self) -> _LoopRunner:
        """Return the background loop's runner, if this thread may wait for it."""
        if self._closed:
            raise ConfigurationError("This client is closed; make a new one.")
        if sys.is_finalizing():  # the background thread does not run any more
            raise ConfigurationError("The interpreter is exiting; no more calls can be made.")
        runner = self._lease()
        if threading.get_ident() == _background_loop.thread:
            raise ConfigurationError(
                "Client was called from its own event loop, which would deadlock; use AsyncClient there."
            )
        return runner

    def _lease(self) -> _LoopRunner:
        runner = self._runner
        if runner is not None and self._pid == os.getpid():
            return runner
        with no_fork():
            if self._runner is None or self._pid != os.getpid():
                self._active = set()  # the parent's calls must not be canceled here
                self._token = object()
                self._runner = _background_loop.acquire(self._token)
                # Called by the garbage collector in any thread, even the portal's own, so it must not wait.
                self._finalizer = weakref.finalize(self, _background_loop.discard, self._token)
                self._finalizer.atexit = False
                self._pid = os.getpid()
            return self._runner


@contextmanager
def _stopped_loop_is_closed() -> Generator[None]:
    """Raise `ConfigurationError` where the background loop has stopped, also at interpreter shutdown."""
    try:
        yield
    except RuntimeError:
        raise ConfigurationError("The background loop has stopped: the client was closed.") from None


class Call(Generic[T]):
    """A coroutine function that runs in the background loop; it can be canceled from any thread at any moment."""

    def __init__(self, func: Callable[[], Awaitable[T]]) -> None:
        self._func = func
        self._runner: _LoopRunner | None = None
        self._ended = _Flag()
        self._scope: anyio.CancelScope | None = None
        self._is_cancelled = False
        self._is_abandoned = False
        self._results: list[T] = []
        self._error: BaseException = ConfigurationError("The client was closed while the call was running.")

    def start(self, runner: _LoopRunner, active: set[Call[Any]]) -> None:
        """Start the call; it is in `active` until it has ended."""
        self._runner = runner
        self._active = active
        active.add(self)
        runner.waiting.add(self)
        try:
            runner.start_soon(self._run)
        except RuntimeError:
            self.end()
            raise
        if runner.has_ended:  # between its last task and its end, the loop still accepts calls
            self.end()

    def result(self) -> T:
        """Wait for the result.

        Raises:
            ConfigurationError: The call was canceled, or the process was forked.
        """
        _wait(self._ended)
        if self._results:
            return self._results[0]
        try:
            raise self._error
        finally:
            del self  # which the traceback would keep alive, with the images in its arguments

    def wait(self, seconds: float) -> bool:
        """Wait for a limited time; return whether the call has ended, with or without a result."""
        return self._ended.wait(seconds)

    def cancel(self) -> None:
        """Cancel the call without waiting for its end."""
        self._is_cancelled = True
        if self._runner is not None:
            with suppress(RuntimeError):  # the loop has stopped and closed everything
                self._runner.call_soon(self._cancel_scope)

    def abandon(self) -> None:
        """Cancel the call whose caller was interrupted, wait briefly until it has ended, and close its result."""
        self._is_abandoned = True
        self.cancel()
        if self._runner is not None:
            self.wait(_CANCEL_TIMEOUT)
            if self._results:
                with suppress(RuntimeError):  # the loop has stopped and closed everything
                    self._runner.start_soon(self._close_result)

    def end(self) -> None:
        """Mark the call as ended."""
        self._active.discard(self)
        if self._runner is not None:
            self._runner.waiting.discard(self)
        self._ended.set()

    async def _run(self) -> None:
        if self._runner is not None:
            self._runner.waiting.discard(self)
        try:
            with anyio.CancelScope() as self._scope:
                if self._is_cancelled:  # before it began: what it owns is still closed at its first await
                    self._scope.cancel()
                self._results.append(await self._func())
        except asyncio.CancelledError:  # the whole loop ends
            raise
        except BaseException as exc:
            self._error = exc
            if not isinstance(exc, Exception):
                raise
        finally:
            self.end()
        if self._is_abandoned:
            await self._close_result()

    def _cancel_scope(self) -> None:
        if self._scope is not None:
            self._scope.cancel()

    async def _close_result(self) -> None:
        aclose = getattr(self._results[0], "aclose", None) if self._results else None
        if aclose is not None:
            await aclose()


def _wait(flag: _Flag) -> None:
    """Wait until a flag is set."""
    pid = os.getpid()
    while not flag.wait(_FORK_CHECK_INTERVAL):
        if os.getpid() != pid:
            raise ConfigurationError(
                "The process was forked during this call, which continues in the parent process only."
            )


def _identity(value: T) -> T:
    return value
