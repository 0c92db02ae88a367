"""Limits for each visitor: requests per second, and requests at a time."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Generator
from contextlib import contextmanager

import attrs

from .refusals import Refusal

_MAX_VISITORS = 10_000  # remembered; those who have been idle for longest are forgotten


@attrs.define(eq=False)
class _Visitor:
    tokens: float
    updated: float
    active: int = 0


class Visitors:
    """The visitors and what they may still do.

    Args:
        rate_limit: Calls per second that may cost something; twice as many may come at once. None for no limit.
        max_concurrent: Requests at a time; None for no limit.
        clock: Seconds on a monotonic clock.
    """

    def __init__(
        self,
        rate_limit: float | None,
        max_concurrent: int | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._rate = rate_limit
        self._burst = max(1.0, 2 * rate_limit) if rate_limit is not None else math.inf
        self._max_concurrent = max_concurrent
        self._clock = clock
        self._visitors: OrderedDict[str, _Visitor] = OrderedDict()

    @contextmanager
    def admit(self, name: str) -> Generator[None]:
        """Count a visitor's request as long as the context is open.

        Raises:
            Refusal: The visitor has too many requests open.
        """
        visitor = self._find(name)
        if self._max_concurrent is not None and visitor.active >= self._max_concurrent:
            raise Refusal(429, f"More than {self._max_concurrent} requests at a time.", {"Retry-After": "1"})
        visitor.active += 1
        try:
            yield
        finally:
            visitor.active -= 1

    def spend(self, name: str) -> None:
        """Count a call that may cost something.

        Raises:
            Refusal: The visitor has called too often; with the seconds to wait.
        """
        if self._rate is None:
            return
        visitor, now = self._find(name), self._clock()
        visitor.tokens = min(self._burst, visitor.tokens + (now - visitor.updated) * self._rate)
        visitor.updated = now
        if visitor.tokens < 1:
            wait = math.ceil((1 - visitor.tokens) / self._rate)
            raise Refusal(429, f"More than {self._rate:g} calls per second.", {"Retry-After": str(wait)})
        visitor.tokens -= 1

    def _find(self, name: str) -> _Visitor:
        visitor = self._visitors.get(name)
        if visitor is None:
            visitor = self._visitors[name] = _Visitor(self._burst, self._clock())
            self._forget_idle()
        self._visitors.move_to_end(name)
        return visitor

    def _forget_idle(self) -> None:
        """Forget the longest idle visitor beyond the limit, unless it has a request open."""
        if len(self._visitors) > _MAX_VISITORS:
            oldest = next((name for name, visitor in self._visitors.items() if not visitor.active), None)
            if oldest is not None:
                del self._visitors[oldest]
