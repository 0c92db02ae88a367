"""Balance calls over several servers (pure arithmetic on times).

A call goes to the healthy server with the fewest calls in flight. A server that fails is not used for a while, and is
then tried with a single call. One that says that its queue is full gets fewer calls at a time from then on.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from .rate import AdaptiveRate

_FIRST_COOLDOWN = 0.25  # seconds after a failure; doubled with each further one
_MAX_COOLDOWN = 5.0  # seconds; a server that is back must not idle for long
_CALLS_BEFORE_GROWTH = 200  # with a full queue's worth in flight, after which one more is tried


class ServerState:
    """The state of one server.

    Args:
        limit: Requests per second, or None to adapt to its 429s.

    Attributes:
        rate: When the next request may start.
        in_flight: Calls that it has.
        requests: Requests that were sent to it.
        failures: Requests that failed with a connection error, a timeout or a 5xx response.
        rate_limited: Requests that it refused with 429, or because its queue was full.
    """

    def __init__(self, limit: float | None = None) -> None:
        self.rate = AdaptiveRate(limit)
        self.in_flight = self.requests = self.failures = self.rate_limited = 0
        self._failures_in_a_row = 0
        self._last_failure = -math.inf
        self._cools_until = 0.0
        self._is_probed = False
        self._max_in_flight = math.inf  # learned from full queues
        self._calls_at_maximum = 0

    @property
    def is_healthy(self) -> bool:
        """False after a failure, until a call succeeds."""
        return not self._failures_in_a_row

    def wait(self, now: float) -> float:
        """Return the seconds until a call may start; 0 means now, and infinity not before another call ends."""
        if self.in_flight >= self._max_in_flight or (self._is_probed and not self.is_healthy):
            return math.inf
        return max(0.0, self._cools_until - now, self.rate.wait(now))

    def started(self, now: float) -> None:
        """Record that a call is sent to it."""
        self.rate.start(now)
        self.requests += 1
        self.in_flight += 1
        self._is_probed = not self.is_healthy

    def ended(self) -> None:
        """Record that a call ended, whatever its result."""
        self.in_flight -= 1
        self._is_probed = False

    def succeeded(self) -> None:
        """Record an answer that is not a failure."""
        self._failures_in_a_row = 0
        self._cools_until = 0.0
        self.rate.succeeded()
        if self.in_flight >= self._max_in_flight:
            self._calls_at_maximum += 1
            if self._calls_at_maximum >= _CALLS_BEFORE_GROWTH:
                self._max_in_flight += 1
                self._calls_at_maximum = 0

    def failed(self, now: float, *, started: float) -> None:
        """Record a connection error, a timeout or a 5xx response for a call that began at `started`."""
        self.failures += 1
        if started < self._last_failure:  # one of many calls that failed together
            return
        self._last_failure = now
        self._failures_in_a_row += 1
        cooldown = _FIRST_COOLDOWN * 2.0 ** min(self._failures_in_a_row - 1, 16)
        self._cools_until = now + min(cooldown, _MAX_COOLDOWN)

    def refused(self, now: float, *, started: float, delay: float) -> None:
        """Record a 429; no call starts for `delay` seconds."""
        self.rate_limited += 1
        self.rate.refused(now, started=started, delay=delay)

    def queue_was_full(self, now: float, *, delay: float) -> None:
        """Record that it refused a call, which has ended, because its queue was full.

        Args:
            now: The current time.
            delay: Seconds for which no call starts, if no call of this client ends there and makes room.
        """
        self.rate_limited += 1
        if not self.in_flight:
            self._cools_until = now + delay
        self._max_in_flight = max(1, min(self._max_in_flight, self.in_flight))
        self._calls_at_maximum = 0


class Balancer:
    """Chooses among servers.

    Args:
        servers: The servers.
        rng: Chooses between equal ones.
    """

    def __init__(self, servers: Sequence[ServerState], rng: random.Random | None = None) -> None:
        self.servers = servers
        self._rng = rng or random.Random()  # noqa: S311

    def choose(self, now: float) -> tuple[int | None, float]:
        """Return the server for the next call; or None, and the seconds until there may be one.

        If no server is healthy, all may be called: the call's own retries decide then when to give up.
        """
        none_is_healthy = not any(server.is_healthy for server in self.servers)
        waits = [server.rate.wait(now) if none_is_healthy else server.wait(now) for server in self.servers]
        shortest = min(waits)
        if shortest > 0:
            return None, shortest
        ready = [index for index, wait in enumerate(waits) if wait <= 0]
        fewest = min(self.servers[index].in_flight for index in ready)
        return self._rng.choice([index for index in ready if self.servers[index].in_flight == fewest]), 0.0

    def has_other(self, index: int, now: float) -> bool:
        """Return whether another server is healthy and may be called now."""
        return any(
            server.is_healthy and server.wait(now) <= 0 for other, server in enumerate(self.servers) if other != index
        )
