"""Several servers behind one client: wait for one that may be called, and update its state from the result."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio

from .._concurrency.loop_local import LoopLocal
from .._log import log
from .._wire.balance import Balancer, ServerState
from .._wire.progress import Progress
from ..errors import APIError
from .retrying import FailedAttempt, is_refusal

if TYPE_CHECKING:
    from ..hooks import ServerStats

_MAX_SLEEP = 0.25  # seconds; calls of another event loop, which may make room, wake nobody here


class Lease:
    """A slot that a call holds on a server, until it is released.

    Attributes:
        index: The server's position.
        sent: When the call was sent, on the monotonic clock.
    """

    def __init__(self, servers: Servers, index: int, sent: float) -> None:
        self._servers = servers
        self._is_held = True
        self.index, self.sent = index, sent

    def record(self, failed: FailedAttempt | None) -> None:
        """Record the outcome of a call that is not repeated; None means that it succeeded."""
        if failed is None:
            self._servers.succeeded(self.index)
        else:
            self._servers.record(self, failed, hold=1.0)

    def release(self) -> None:
        """Release the slot. Safe to call more than once."""
        if self._is_held:
            self._is_held = False
            self._servers.states[self.index].ended()
            self._servers.wake()


class Servers:
    """The servers of one session.

    Args:
        base_urls: Their base URLs.
        limit: Requests per second for each, or None to adapt to each.
        progress: Whether calls succeed while servers refuse others.

    Attributes:
        states: The state of each server.
    """

    def __init__(self, base_urls: Sequence[str], limit: float | None, progress: Progress) -> None:
        self.states = [ServerState(limit) for _ in base_urls]
        self._base_urls = base_urls
        self._balancer = Balancer(self.states)
        self._progress = progress
        self._queues = LoopLocal(anyio.Lock)
        self._changes = LoopLocal(_Change)

    @property
    def stats(self) -> tuple[ServerStats, ...]:
        """A snapshot of each server's counters."""
        from ..hooks import ServerStats

        return tuple(
            ServerStats(
                base_url=url,
                is_healthy=state.is_healthy,
                in_flight=state.in_flight,
                requests=state.requests,
                failures=state.failures,
                rate_limited=state.rate_limited,
                rate=state.rate.rate,
            )
            for url, state in zip(self._base_urls, self.states, strict=True)
        )

    async def acquire(self, call_started: float) -> Lease | APIError:
        """Wait until a server may be called; calls are sent in the order in which they wait.

        Returns:
            A slot on the server; or an error, if all calls were refused for so long that this one gives up.
        """
        queue = self._queues.get()
        if not queue.statistics().locked and (lease := self._take(time.monotonic())[0]) is not None:
            return lease
        async with queue:
            while True:
                now = time.monotonic()
                lease, wait = self._take(now)
                if lease is not None:
                    return lease
                if (error := self._progress.give_up(now, started=call_started)) is not None:
                    return error
                await self._changes.get().wait(wait)

    def take_now(self) -> Lease:
        """Return a slot on the best server without waiting, for a call that is sent only once."""
        now = time.monotonic()
        lease, _ = self._take(now)
        return lease or self._lease(min(range(len(self.states)), key=lambda index: self.states[index].in_flight), now)

    def record(self, lease: Lease, failed: FailedAttempt, *, hold: float) -> bool:
        """Record a failed attempt, and return whether another server may be called instead at once.

        Args:
            lease: The call's slot.
            failed: What went wrong.
            hold: Seconds for which a server that refused is not called.
        """
        state, now = self.states[lease.index], time.monotonic()
        if is_refusal(failed):
            if isinstance(failed.error, APIError) and failed.error.status != 429:  # Station's full queue
                state.queue_was_full(now, delay=hold)
            else:
                state.refused(now, started=lease.sent, delay=hold)
        elif _is_server_failure(failed):
            if state.is_healthy:
                log.warning("%s failed (%s): other servers get its calls", self._base_urls[lease.index], failed.error)
            state.failed(now, started=lease.sent)
        else:
            self.succeeded(lease.index)
            return False
        return self._balancer.has_other(lease.index, now)

    def succeeded(self, index: int) -> None:
        """Record an answer of a server that is not a failure."""
        if not self.states[index].is_healthy:
            log.info("%s answers again", self._base_urls[index])
        self.states[index].succeeded()

    def wake(self) -> None:
        """Wake the waiting calls."""
        self._changes.get().notify()

    def _take(self, now: float) -> tuple[Lease | None, float]:
        index, wait = self._balancer.choose(now)
        return (None, wait) if index is None else (self._lease(index, now), 0.0)

    def _lease(self, index: int, now: float) -> Lease:
        self.states[index].started(now)
        return Lease(self, index, now)


class _Change:
    """Wakes a task when something has changed."""

    def __init__(self) -> None:
        self._event = anyio.Event()

    async def wait(self, seconds: float) -> None:
        """Wait for a change, at most this long."""
        self._event = event = anyio.Event()
        with anyio.move_on_after(min(seconds, _MAX_SLEEP) if math.isfinite(seconds) else _MAX_SLEEP):
            await event.wait()

    def notify(self) -> None:
        """Wake the task that waits, if any."""
        self._event.set()


def _is_server_failure(failed: FailedAttempt) -> bool:
    """Return whether the server failed, rather than that the request is wrong."""
    cause = failed.cause
    if cause is not None and cause.cause != "status":
        return True
    status = cause.status if cause is not None else getattr(failed.error, "status", None)
    return status is not None and status >= 500
