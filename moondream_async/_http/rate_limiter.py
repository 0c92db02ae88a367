"""Wait until a request may start: `wire.pace` says when, this sleeps until then."""

from __future__ import annotations

import time

import anyio

from .._concurrency.loop_local import LoopLocal
from .._wire.progress import Progress
from .._wire.rate import AdaptiveRate
from ..errors import APIError


class RateLimiter:
    """Starts the requests of one client, in all its loops, at the rate its `AdaptiveRate` allows.

    Attributes:
        pace: When the next request may start.
        progress: Whether the client's calls get through.
    """

    def __init__(self, limit: float | None) -> None:
        self.pace = AdaptiveRate(limit)
        self.progress = Progress()
        self._queues = LoopLocal(anyio.Lock)

    async def turn(self, call_started: float) -> float | APIError:
        """Wait until a request may start; return the time (`time.monotonic()`) at which it did.

        Only the head of the queue sleeps, so a cancelled waiter loses nobody a turn.

        Returns:
            The time; or an error, if all calls of the client were refused for so long that this one gives up.
        """
        if self.pace.free:
            now = time.monotonic()
            self.pace.start(now)
            return now
        queue = self._queues.get()
        async with queue:
            contended = queue.statistics().tasks_waiting > 0
            while (delay := self.pace.wait(now := time.monotonic())) > 0:
                if contended and (error := self.progress.give_up(now, started=call_started)) is not None:
                    return error
                await anyio.sleep(delay)
            self.pace.start(now)
            return now
