"""Work that several tasks want at the same moment, done once for all of them."""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Hashable
from typing import Generic, TypeVar

import anyio

from .loop_local import LoopLocal

T = TypeVar("T")


class SingleFlight(Generic[T]):
    """Runs work under a key; who asks for the same key meanwhile, in the same loop, waits and gets the same.

    Nothing is kept: asked for again later, it is done again.
    """

    def __init__(self) -> None:
        self._running: LoopLocal[dict[Hashable, _Run[T]]] = LoopLocal(dict)

    async def do(self, key: Hashable, work: Callable[[], Awaitable[T]]) -> T:
        """The outcome of `work()`, or of the run of it that goes on already."""
        running = self._running.get()
        while (run := running.get(key)) is not None:
            await run.over.wait()
            if run.error is not None:
                raise copy.copy(run.error)  # one each, as every raise adds to its traceback
            if run.outcome:
                return run.outcome[0]
            # Who did the work was cancelled: the next of those who wait takes over.
        run = running[key] = _Run[T]()
        try:
            run.outcome.append(await work())
        except Exception as exc:
            run.error = exc
            raise
        else:
            return run.outcome[0]
        finally:
            del running[key]
            run.over.set()


class _Run(Generic[T]):
    def __init__(self) -> None:
        self.over = anyio.Event()
        self.outcome: list[T] = []
        self.error: Exception | None = None
