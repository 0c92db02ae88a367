"""How fast to start requests: an explicit rate, or one learned from the server's 429s.

Pure arithmetic on the times it is given; `net.pacer` does the waiting.
"""

from __future__ import annotations

import math

_MIN_RATE = 0.2  # requests/s; below this a run would look dead
_PROBE_RATE = 2.0  # requests/s while the server refuses everything: Moondream's lowest tier
_UNLIMITED = 1000.0  # requests/s; no server limits there, so the limit is dropped
_DECREASE = 0.9  # of the rate, at a 429 that comes before there was time to measure
_MEASURED = 10.0  # seconds of an epoch, after which what was accepted in it says what the server allows
_MARGIN = 0.97  # of what the server allows
_STEADY = 0.0005  # of the rate, by which it grows in a second: reaches what is allowed in about a minute,
_BOLD = 200.0  # seconds after which, with no 429, it multiplies instead: the server may allow more by now
_APPROACH = 0.2  # of the rate, by which it grows in a second while it is well below the last one refused
_DOUBLING = 0.5  # seconds' worth of answers in which the rate doubles when the server's rate is unknown
_STORM = 3  # epochs in a row with no answer but 429: a storm, which says nothing about the server's rate
_MAX_HOLD = 2.0  # seconds between probes in a storm, unless the server asks for more


class AdaptiveRate:
    """When the next request may start, among all requests that share a limit.

    With an explicit limit, starts are spread evenly and never faster. Without one there is no
    limit until the first 429. After a 429 nobody starts until the time the server asked for has
    passed. What happens then depends on what is known:

    - The server accepted some requests: the rate is a little below what it accepted, and grows with
      every success: by a fifth a second after the first burst of all, which tells little; after that
      slowly, then ever faster.
    - The server refused everything (a storm): single requests probe it. At the first success the
      rate doubles every half second, up to the rate that worked before the storm, or until the next
      429 if none is known. From half of what was refused then, it grows by a fifth a second.

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
        self._fruitless = 0  # epochs in a row that were refused, with no success between
        self._known: float | None = None  # the rate at the first 429 after a success: it worked before the storm
        self._approach_to = 0.0  # a rate that was too high, with the right one somewhere below it
        self._doubling = False

    @property
    def free(self) -> bool:
        """Whether nothing holds requests back, now or later."""
        return self.rate is None and not self._refused

    def wait(self, now: float) -> float:
        """Return the seconds until a request may start; 0 means now."""
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
        if started < self._epoch:
            self._gate = max(self._gate, now + delay)
            return
        if not self._refused:
            self._cut_from = self.rate
            self._fruitless += 1
            if self._fruitless == 1:
                self._known = self.rate
        self._refused += 1
        self._gate = max(self._gate, now + self._hold(delay))
        if self.limit is None:
            self._slow_down(now)

    def succeeded(self) -> None:
        """Note an answer that was not a 429."""
        self._fruitless = 0
        if self.limit is not None or self.rate is None or self._refused:
            return
        if self._doubling:
            self._double()
        elif self.rate < self._approach_to:
            self.rate = self._base = self.rate + _APPROACH  # of the rate, times 1 / rate seconds
        else:
            self._busy += 1 / self.rate
            self.rate = self._base * (_STEADY * self._busy + math.exp((self._busy / _BOLD) ** 3))
        if self.rate > _UNLIMITED:
            self.rate, self._doubling = None, False

    def _hold(self, delay: float) -> float:
        """Return the seconds until the next probe: longer in a storm."""
        longer = delay * 2.0 ** min(self._fruitless - 1, 16)
        return max(delay, min(longer, _MAX_HOLD))

    def _slow_down(self, now: float) -> None:
        if self._everything_refused():
            self._doubling = True
            self.rate = _PROBE_RATE
        elif self._doubling and self._cut_from is not None and self._started > self._refused:
            self._settle(max(_MIN_RATE, self._cut_from / 2))
            self._approach_to = self._cut_from * _DECREASE
        elif not self._doubling:
            self._settle(max(_MIN_RATE, self._sustainable(now)))
            if self._cut_from is None:
                self._approach_to = math.inf  # a burst tells little: the server may take more than it did then
        self._next = max(self._next, self._gate)

    def _everything_refused(self) -> bool:
        """Whether there is a storm: a first burst of which nothing was accepted, or only 429s for a while."""
        if self._cut_from is None:
            return self._started == self._refused
        return self._fruitless > _STORM

    def _settle(self, rate: float) -> None:
        self.rate = self._base = rate
        self._busy = self._approach_to = 0.0
        self._doubling = False

    def _double(self) -> None:
        rate = self.rate or _PROBE_RATE
        faster = rate * 2 ** (1 / (rate * _DOUBLING))
        if self._known is not None and faster >= self._known * _DECREASE:
            self._settle(max(rate, self._known * _DECREASE))
            self._known = None
        else:
            self.rate = faster

    def _sustainable(self, now: float) -> float:
        lasted = now - self._epoch
        accepted = (self._started - self._refused) / max(1.0, lasted)
        if self._cut_from is None:
            return max(accepted, _PROBE_RATE)
        far_off = self._started >= 4 and self._refused * 2 > self._started
        if far_off:
            return min(accepted, self._cut_from / 2)
        at_least = self._cut_from * _DECREASE
        # Of an epoch in which the rate grew a lot, the mean says nothing.
        return at_least if lasted < _MEASURED else max(at_least, min(accepted, self._cut_from) * _MARGIN)
