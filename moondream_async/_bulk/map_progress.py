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
        self._total = total
        self._succeeded = self._failed = 0
        self._input_tokens = self._output_tokens = 0
        self._started = time.monotonic()
        self.cost_limit_reached = False

    def count(self, outcome: Outcome[Any]) -> None:
        """Count an outcome."""
        if outcome.ok:
            self._succeeded += 1
        else:
            self._failed += 1
        for metrics in metrics_of(outcome.result):
            self._input_tokens += metrics.input_tokens or 0
            self._output_tokens += metrics.output_tokens or 0

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Report as long as the context is open."""
        self._started = time.monotonic()
        async with self._reporter.running():
            yield

    def _current(self) -> Progress:
        summary = RunSummary(
            total=self._total,
            succeeded=self._succeeded,
            failed=self._failed,
            input_tokens=self._input_tokens,
            output_tokens=self._output_tokens,
            elapsed=time.monotonic() - self._started,
            cost_limit_reached=self.cost_limit_reached,
        )
        cost = None if self._prices is None else self._prices.cost(summary)
        return progress_of(attrs.evolve(summary, cost=cost), self._api)
