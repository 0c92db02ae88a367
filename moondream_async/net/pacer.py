"""Waiting for one's turn: `wire.pace` says when, this sleeps until then."""

from __future__ import annotations

import time

import anyio

from ..wire.pace import Pace
from .loops import LoopLocal


class Pacer:
    """Starts the requests of one client, in all its loops, at the rate its `Pace` allows."""

    def __init__(self, limit: float | None) -> None:
        self.pace = Pace(limit)
        self._queues = LoopLocal(anyio.Lock)

    async def turn(self) -> float:
        """Wait until a request may start; return the time (`time.monotonic()`) at which it did.

        Only the head of the queue sleeps, so a cancelled waiter loses nobody a turn.
        """
        if self.pace.free:
            now = time.monotonic()
            self.pace.start(now)
            return now
        async with self._queues.get():
            while (delay := self.pace.wait(now := time.monotonic())) > 0:  # noqa: ASYNC110 - a time, not a state, is waited for
                await anyio.sleep(delay)
            self.pace.start(now)
            return now
