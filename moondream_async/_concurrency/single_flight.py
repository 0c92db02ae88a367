"""Share one run of some work among the tasks that need it at the same time."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import anyio

from .loop_local import LoopLocal

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Concurrent calls with the same key, in the same event loop, share one run.

    Results are not cached: a later call runs the work again.
    """

    def __init__(self) -> None:
        self._running: LoopLocal[dict[Hashable, _Run[T]]] = LoopLocal(dict)

    async def run(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """Return the result of `work()`, or of the run with this key that is already in progress."""
        running = self._running.get()
        while (run := running.get(key)) is not None:
            await run.finished.wait()
            if run.error is not None:
                raise copy.copy(run.error)  # a copy for each waiter, as every raise extends the traceback
            if run.results:
                return run.results[0]
            # The task that did the work was cancelled: the next waiter takes finished.
        run = running[key] = _Run[T]()
        try:
            run.results.append(await work())
        except Exception as exc:
            run.error = exc
            raise
        else:
            return run.results[0]
        finally:
            del running[key]
            run.finished.set()


class _Run(Generic[T]):
    def __init__(self) -> None:
        self.finished = anyio.Event()
        self.results: list[T] = []
        self.error: Exception | None = None
