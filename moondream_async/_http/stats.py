"""Count what a session does."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from ..types import Metrics

if TYPE_CHECKING:
    from ..hooks import Stats


@attrs.define(eq=False)
class StatsCounters:
    """What `Stats` shows, as it changes."""

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
        """Count the tokens of one answer."""
        if metrics is not None:
            self.input_tokens += _count(metrics.input_tokens)
            self.output_tokens += _count(metrics.output_tokens)

    def snapshot(self) -> Stats:
        """The values now."""
        from ..hooks import Stats

        return Stats(**{field.name: getattr(self, field.name) for field in attrs.fields(StatsCounters)})


def _count(tokens: object) -> int:
    return tokens if isinstance(tokens, int) else 0  # a server may send anything
