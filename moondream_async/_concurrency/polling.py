"""Decide how often to poll a server."""

from __future__ import annotations

import random
from collections.abc import Iterator

import attrs


@attrs.frozen
class PollSchedule:
    """Delays between polls, each longer than the one before, up to a maximum.

    Attributes:
        first: Seconds between the first poll and the second.
        maximum: Maximum number of seconds between two polls.
        factor: Factor by which the delay grows.
    """

    first: float
    maximum: float
    factor: float = 1.5

    def delays(self) -> Iterator[float]:
        """Yield the seconds to wait before each further poll, without end, with a jitter of 20 %."""
        delay = self.first
        while True:
            yield delay * random.uniform(0.8, 1.2)  # noqa: S311 - spreads the polls of many jobs
            delay = min(self.maximum, delay * self.factor)
