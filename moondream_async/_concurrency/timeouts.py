"""A time limit for a coroutine, cheaper on asyncio than anyio's cancel scopes and `asyncio.timeout`."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio
import attrs

from .loop_local import LoopLocal, is_asyncio

T = TypeVar("T")


async def run_within(seconds: float | None, coroutine: Coroutine[Any, Any, T]) -> T | None:
    """Return the result of a coroutine, or None if it took too long and was cancelled.

    Args:
        seconds: The limit; None for no limit.
        coroutine: Runs in the current task.
    """
    if seconds is None:
        return await coroutine
    if not is_asyncio():
        with anyio.move_on_after(seconds):
            return await coroutine
        return None
    deadlines = _deadlines.get()
    deadline = deadlines.add(seconds)
    try:
        return await coroutine
    except asyncio.CancelledError:
        if not deadline.withdraw():
            raise
        return None
    finally:
        deadlines.remove(deadline)


@attrs.define(eq=False)
class _Deadline:
    """A task, and when to cancel it.

    Attributes:
        expiry: Time on the event loop's clock.
        has_expired: Whether the task was cancelled for this.
    """

    expiry: float
    _task: asyncio.Task[Any]
    _cancelling: int  # how often others had asked to cancel the task before
    has_expired: bool = False

    def expire(self) -> None:
        """Cancel the task."""
        self.has_expired = True
        self._task.cancel()

    def withdraw(self) -> bool:
        """Withdraw the cancellation, and return whether nobody else has cancelled the task."""
        if not self.has_expired:
            return False
        self.has_expired = False
        return self._task.uncancel() <= self._cancelling


class _Deadlines:
    """The deadlines of one event loop. One timer serves them all, as most calls end long before theirs."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._live: set[_Deadline] = set()
        self._timer: asyncio.TimerHandle | None = None

    def add(self, seconds: float) -> _Deadline:
        """Return a new deadline of the current task."""
        task = asyncio.current_task()
        assert task is not None
        deadline = _Deadline(self._loop.time() + seconds, task, task.cancelling())
        self._live.add(deadline)
        if self._timer is None or self._timer.when() > deadline.expiry:
            self._set_timer(deadline.expiry)
        return deadline

    def remove(self, deadline: _Deadline) -> None:
        """Remove a deadline, and withdraw its cancellation if that came too late."""
        self._live.discard(deadline)
        deadline.withdraw()

    def _set_timer(self, expiry: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(expiry, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        now = self._loop.time()
        for deadline in [each for each in self._live if each.expiry <= now]:
            self._live.discard(deadline)
            deadline.expire()
        if self._live:
            self._set_timer(min(each.expiry for each in self._live))


_deadlines = LoopLocal(_Deadlines)
