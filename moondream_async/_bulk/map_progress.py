"""The progress of `map`, and the figures that it shares with `run`."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import attrs

from .._api import ApiClient
from .._progress.figures import Progress, RunSummary
from .._progress.reporter import ProgressOption, Reporter
from ..prices import Prices
from .outcomes import Outcome
from .records import metrics_of


def progress_of(summary: RunSummary, api: ApiClient) -> Progress:
    """Return the progress of a run: its counts so far, and what limits the client's rate."""
    limit, limited_by = api.rate_limit
    return Progress(**attrs.asdict(summary, recurse=False), limit=limit, limited_by=limited_by)


class MapProgress:
    """Counts the outcomes of a `map`, and reports them.

    Args:
        progress: The user's argument.
        api: Sends the requests.
        total: The number of items; None if not known.
        prices: Token prices for the cost estimate; None if not known.

    Raises:
        ConfigurationError: As in `check_progress`.

    Attributes:
        cost_limit_reached: Whether `max_cost` prevented further items from starting.
    """

    def __init__(self, progress: ProgressOption, api: ApiClient, total: int | None, prices: Prices | None) -> None:
        self._reporter = Reporter(progress, self._current)
        self._api = api
        self._prices = prices
        self._summary = RunSummary(total=total)
        self._started = time.monotonic()
        self.cost_limit_reached = False

    def count(self, outcome: Outcome[Any]) -> None:
        """Count an outcome."""
        now, metrics = self._summary, metrics_of(outcome.result)
        self._summary = attrs.evolve(
            now,
            succeeded=now.succeeded + int(outcome.ok),
            failed=now.failed + int(not outcome.ok),
            input_tokens=now.input_tokens + sum(each.input_tokens or 0 for each in metrics),
            output_tokens=now.output_tokens + sum(each.output_tokens or 0 for each in metrics),
        )

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Report as long as the context is open."""
        self._started = time.monotonic()
        async with self._reporter.running():
            yield

    def _current(self) -> Progress:
        elapsed = time.monotonic() - self._started
        cost = None if self._prices is None else self._prices.cost(self._summary)
        summary = attrs.evolve(self._summary, cost=cost, elapsed=elapsed, cost_limit_reached=self.cost_limit_reached)
        return progress_of(summary, self._api)
