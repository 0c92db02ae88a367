"""Wait until a request may start: `AdaptiveRate` says when, this sleeps until then."""

from __future__ import annotations

import time

import anyio

from .._concurrency.loop_local import LoopLocal
from .._wire.progress import Progress
from .._wire.rate import AdaptiveRate
from ..errors import APIError


class RateLimiter:
    """Starts the requests of one session, in all event loops, at the rate that its `AdaptiveRate` allows.

    Attributes:
        rate: When the next request may start.
        progress: Whether calls succeed while the server refuses others.
    """

    def __init__(self, limit: float | None) -> None:
        self.rate = AdaptiveRate(limit)
        self.progress = Progress()
        self._queues = LoopLocal(anyio.Lock)

    async def acquire(self, call_started: float) -> float | APIError:
        """Wait until a request may start; return the time (`time.monotonic()`) at which it did.

        Only the head of the queue sleeps, so cancelling a waiter does not delay the others.

        Returns:
            The time; or an error, if all calls were refused for so long that this one gives up.
        """
        if self.rate.free:
            now = time.monotonic()
            self.rate.start(now)
            return now
        queue = self._queues.get()
        async with queue:
            contended = queue.statistics().tasks_waiting > 0
            while (delay := self.rate.wait(now := time.monotonic())) > 0:
                if contended and (error := self.progress.give_up(now, started=call_started)) is not None:
                    return error
                await anyio.sleep(delay)
            self.rate.start(now)
            return now
