"""Count what a session does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ..types import Metrics

if TYPE_CHECKING:
    from ..hooks import Stats
    from .servers import Servers


@attrs.define(eq=False)
class StatsCounters:
    """The mutable counters behind `Stats`; the fields are the same."""

    in_flight: int = 0
    waiting: int = 0
    calls: int = 0
    requests: int = 0
    retries: int = 0
    rate_limited: int = 0
    bytes_sent: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def add_tokens(self, metrics: Metrics | None) -> None:
        """Count the tokens of one response."""
        if metrics is not None:
            self.input_tokens += metrics.input_tokens or 0
            self.output_tokens += metrics.output_tokens or 0

    def snapshot(self, servers: Servers | None = None) -> Stats:
        """Return the current values, with those of each of several servers."""
        from ..hooks import Stats

        return Stats(**attrs.asdict(self), servers=() if servers is None else servers.stats)
