"""Decide how fast to start requests: at an explicit rate, or at one learned from the server's 429s.

Pure arithmetic on times; `_http.rate_limiter` does the waiting.
"""

from __future__ import annotations

import math

_MIN_RATE = 0.2  # requests per second; below this a run would seem to hang
_PROBE_RATE = 2.0  # requests per second while the server refuses everything: Moondream's lowest tier
_MAX_RATE = 1000.0  # requests per second; no server limits at this rate, so above it the limit is dropped
_DECREASE_FACTOR = 0.9  # applied to the rate at a 429 that arrives before there was time to measure
_MIN_MEASUREMENT = 10.0  # seconds of an epoch, after which the accepted requests show what the server allows
_SAFETY_FACTOR = 0.97  # applied to what the server allows
_SLOW_GROWTH = 0.0005  # of the rate, per second: reaches the allowed rate in about a minute
_FAST_GROWTH_AFTER = 200.0  # seconds without a 429, after which growth is exponential: the server may allow more by now
_APPROACH_GROWTH = 0.2  # of the rate, per second, while it is well below the last refused rate
_DOUBLING_TIME = 0.5  # seconds' worth of successes in which the rate doubles if the server's rate is unknown
_STORM_EPOCHS = 3  # consecutive epochs with only 429s: a storm, which shows nothing about the server's rate
_MAX_HOLD = 2.0  # seconds between probes in a storm, unless the server asks for more


class AdaptiveRate:
    """Decides when the next request may start, among all requests that share a limit.

    With an explicit limit, starts are spread evenly and never faster. Without one, there is no limit until the first
    429. After a 429 no request starts until the time that the server asked for has passed. Then:

    - If the server accepted some requests, the rate is a little below what it accepted, and grows with every success:
      by a fifth per second after the very first burst, which shows little; later slowly at first, then exponentially.
    - If the server refused everything (a storm), single requests probe it. At the first success the rate doubles every
      half second, up to the rate that worked before the storm, or until the next 429 if none is known. Then it is
      halved, and grows by a fifth per second.

    An epoch is the time between two changes of the rate. A 429 of a request that started in an earlier epoch shows
    nothing about the current rate.

    Args:
        limit: Requests per second, or None to adapt.

    Attributes:
        limit: The explicit limit, if any.
        rate: The current rate in requests per second, or None if it is unlimited.
    """

    def __init__(self, limit: float | None = None) -> None:
        self.limit = limit
        self.rate = limit
        self._hold_until = 0.0  # no request starts before
        self._next_start = 0.0
        self._epoch_start = 0.0
        self._refused_rate = limit  # the rate at the first 429 of the epoch
        self._base_rate = 0.0  # the rate after the last decrease
        self._growth_seconds = 0.0  # seconds' worth of successes since then
        self._started = 0
        self._refused = 0
        self._refused_epochs = 0  # consecutive ones, without a success in between
        self._rate_before_storm: float | None = None  # the rate at the first 429 after a success
        self._approach_limit = 0.0  # a rate that was too high; the right one is below it
        self._is_doubling = False

    @property
    def free(self) -> bool:
        """Whether requests may start without waiting, now and later."""
        return self.rate is None and not self._refused

    def wait(self, now: float) -> float:
        """Return the seconds until a request may start; 0 means now."""
        return max(0.0, self._hold_until - now, self._next_start - now)

    def start(self, now: float) -> None:
        """Record that a request starts; call it when `wait` returns 0."""
        if self._refused or not self._started:
            self._epoch_start, self._started, self._refused = now, 0, 0
        self._started += 1
        if self.rate is not None:
            # Late wake-ups do not shift the schedule; after a pause, a new schedule begins.
            interval = 1 / self.rate
            is_on_schedule = now - self._next_start < interval
            self._next_start = (self._next_start if is_on_schedule else now) + interval

    def refused(self, now: float, *, started: float, delay: float) -> None:
        """Record a 429 of a request that started at `started`; no request starts for `delay` seconds."""
        if started < self._epoch_start:
            self._hold_until = max(self._hold_until, now + delay)
            return
        if not self._refused:
            self._refused_rate = self.rate
            self._refused_epochs += 1
            if self._refused_epochs == 1:
                self._rate_before_storm = self.rate
        self._refused += 1
        self._hold_until = max(self._hold_until, now + self._hold(delay))
        if self.limit is None:
            self._decrease(now)

    def succeeded(self) -> None:
        """Record a response that is not a 429."""
        self._refused_epochs = 0
        if self.limit is not None or self.rate is None or self._refused:
            return
        if self._is_doubling:
            self._grow_doubling()
        elif self.rate < self._approach_limit:
            self.rate = self._base_rate = self.rate + _APPROACH_GROWTH  # of the rate, times 1 / rate seconds
        else:
            self._growth_seconds += 1 / self.rate
            slow, fast = _SLOW_GROWTH * self._growth_seconds, (self._growth_seconds / _FAST_GROWTH_AFTER) ** 3
            self.rate = self._base_rate * (slow + math.exp(fast))
        if self.rate > _MAX_RATE:
            self.rate, self._is_doubling = None, False

    def _hold(self, delay: float) -> float:
        """Return the seconds until the next probe: longer in a storm."""
        longer = delay * 2.0 ** min(self._refused_epochs - 1, 16)
        return max(delay, min(longer, _MAX_HOLD))

    def _decrease(self, now: float) -> None:
        if self._is_storm():
            self._is_doubling = True
            self.rate = _PROBE_RATE
        elif self._is_doubling and self._refused_rate is not None and self._started > self._refused:
            self._set_base_rate(max(_MIN_RATE, self._refused_rate / 2))
            self._approach_limit = self._refused_rate * _DECREASE_FACTOR
        elif not self._is_doubling:
            self._set_base_rate(max(_MIN_RATE, self._sustainable_rate(now)))
            if self._refused_rate is None:
                self._approach_limit = math.inf  # a burst shows little: the server may accept more than it did then
        self._next_start = max(self._next_start, self._hold_until)

    def _is_storm(self) -> bool:
        """Return whether the server refused the whole first burst, or only sent 429s for a while."""
        if self._refused_rate is None:
            return self._started == self._refused
        return self._refused_epochs > _STORM_EPOCHS

    def _set_base_rate(self, rate: float) -> None:
        self.rate = self._base_rate = rate
        self._growth_seconds = self._approach_limit = 0.0
        self._is_doubling = False

    def _grow_doubling(self) -> None:
        rate = self.rate or _PROBE_RATE
        faster = rate * 2 ** (1 / (rate * _DOUBLING_TIME))
        if self._rate_before_storm is not None and faster >= self._rate_before_storm * _DECREASE_FACTOR:
            self._set_base_rate(max(rate, self._rate_before_storm * _DECREASE_FACTOR))
            self._rate_before_storm = None
        else:
            self.rate = faster

    def _sustainable_rate(self, now: float) -> float:
        """Return the rate that the server seems to allow, from the requests it accepted in this epoch."""
        seconds = now - self._epoch_start
        accepted = (self._started - self._refused) / max(1.0, seconds)
        if self._refused_rate is None:
            return max(accepted, _PROBE_RATE)
        is_far_too_high = self._started >= 4 and self._refused * 2 > self._started
        if is_far_too_high:
            return min(accepted, self._refused_rate / 2)
        lowest = self._refused_rate * _DECREASE_FACTOR
        if seconds < _MIN_MEASUREMENT:
            return lowest
        # If the rate grew a lot in the epoch, the mean is too low; hence the lower bound.
        return max(lowest, min(accepted, self._refused_rate) * _SAFETY_FACTOR)
