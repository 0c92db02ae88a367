"""How fast to start requests: an explicit rate, or one learnt from the server's 429s.

Pure arithmetic on the times it is given; `net.pacer` does the waiting.
"""

from __future__ import annotations

import math

_LOWEST_RATE = 0.2  # requests/s; below this a run would look dead
_FIRST_GUESS = 2.0  # requests/s after the first 429 of all, at the least: Moondream's lowest tier
_FREE_ABOVE = 1000.0  # requests/s; no server limits there, so the limit is dropped
_DECREASE = 0.9  # of the rate, at a 429 that comes before there was time to measure
_MEASURED = 10.0  # seconds of an epoch, after which what was accepted in it says what the server allows
_BELOW = 0.97  # of what the server allows
_STEADY = 0.0005  # of the rate, by which it grows in a second: reaches what is allowed in about a minute,
_BOLD = 200.0  # seconds after which, with no 429, it multiplies instead: the server may allow more by now


class Pace:
    """When the next request may start, among all requests that share a limit.

    With an explicit limit, starts are spread evenly and never faster. Without one there is no
    limit until the first 429; from then on the rate is a little below what the server was seen
    to accept, and grows with every success: slowly near that, then ever faster. After a 429
    nobody starts until the time the server asked for has passed.

    An epoch is the time between two changes of rate; a 429 of a request that started in an
    earlier epoch says nothing about the present rate.

    Args:
        limit: Requests per second, or None to adapt.
    """

    def __init__(self, limit: float | None = None) -> None:
        self.limit = limit
        self.rate = limit
        self._gate = 0.0
        self._next = 0.0
        self._epoch = 0.0
        self._cut_from = limit
        self._base = 0.0  # the rate after the last cut
        self._busy = 0.0  # seconds' worth of successes since then
        self._started = 0
        self._refused = 0

    @property
    def free(self) -> bool:
        """Whether nothing holds requests back, now or later."""
        return self.rate is None and not self._refused

    def wait(self, now: float) -> float:
        """Seconds until a request may start; 0 means now."""
        return max(0.0, self._gate - now, self._next - now)

    def start(self, now: float) -> None:
        """Note that a request starts; to be called when `wait` says 0."""
        if self._refused or not self._started:
            self._epoch, self._started, self._refused = now, 0, 0
        self._started += 1
        if self.rate is not None:
            # Starts keep their rhythm when a wake-up is late; after a pause a new rhythm begins.
            step = 1 / self.rate
            late = now - self._next < step
            self._next = (self._next if late else now) + step

    def refused(self, now: float, *, started: float, delay: float) -> None:
        """Note a 429 of a request that started at `started`; nobody starts for `delay` seconds."""
        self._gate = max(self._gate, now + delay)
        if self.limit is not None or started < self._epoch:
            return
        if not self._refused:
            self._cut_from = self.rate
        self._refused += 1
        self.rate = self._base = max(_LOWEST_RATE, self._sustainable(now))
        self._busy = 0.0
        self._next = max(self._next, self._gate)

    def succeeded(self) -> None:
        """Note an answer that was not a 429."""
        if self.limit is None and self.rate is not None and not self._refused:
            self._busy += 1 / self.rate
            self.rate = self._base * (_STEADY * self._busy + math.exp((self._busy / _BOLD) ** 3))
            if self.rate > _FREE_ABOVE:
                self.rate = None

    def _sustainable(self, now: float) -> float:
        lasted = now - self._epoch
        accepted = (self._started - self._refused) / max(1.0, lasted)
        if self._cut_from is None:
            return max(accepted, _FIRST_GUESS)
        far_off = self._started >= 4 and self._refused * 2 > self._started
        if far_off:
            return min(accepted, self._cut_from / 2)
        at_least = self._cut_from * _DECREASE
        # Of an epoch in which the rate grew a lot, the mean says nothing.
        return at_least if lasted < _MEASURED else max(at_least, min(accepted, self._cut_from) * _BELOW)
