"""The figures of a run: `RunSummary`, and `Progress` while it runs (pure)."""

from __future__ import annotations

import attrs

from .._html import table
from .._public import public
from . import text


@public()
@attrs.frozen(kw_only=True)
class RunSummary:
    """The progress of a run, and its final counts once it has ended.

    Attributes:
        total: The number of items; None if not known.
        succeeded: Items that succeeded in this run.
        failed: Items that failed in this run.
        skipped: Items that the results file already had.
        failed_before: Skipped items that had failed in an earlier run.
        repeated: Duplicates: items with the same ID and arguments as another item of this run. Each is run once.
        input_tokens: Input tokens of this run.
        output_tokens: Output tokens of this run.
        cost: Estimated cost of those tokens in US dollars; None if the prices are not known.
        elapsed: Seconds since the run started.
        cost_limit_reached: Whether `max_cost` prevented further items from starting.
        damaged_lines: Lines in the file that cannot be parsed (blank, truncated, edited or foreign). They stay in the
            file, and their items are run again.
    """

    total: int | None = None
    succeeded: int = 0
    failed: int = 0
    skipped: int = 0
    failed_before: int = 0
    repeated: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    elapsed: float = 0.0
    damaged_lines: int = 0
    cost_limit_reached: bool = False

    @property
    def remaining(self) -> int | None:
        """The number of items not processed yet; None if the total is not known."""
        return None if self.total is None else max(0, self.total - self.seen)

    @property
    def seen(self) -> int:
        """The number of items processed so far, skipped ones and duplicates included."""
        return self.succeeded + self.failed + self.skipped + self.repeated

    @property
    def rate(self) -> float:
        """The throughput in items per second, failed ones included."""
        return (self.succeeded + self.failed) / self.elapsed if self.elapsed else 0.0

    @property
    def seconds_left(self) -> float | None:
        """The estimated time left in seconds; None if the total or the rate is not known."""
        if self.total is None or not self.rate:
            return None
        return max(0, self.total - self.seen) / self.rate

    def __str__(self) -> str:
        return ", ".join(f"{value} {name}" for name, value in self._counts()) + f", {self._costs()}"

    def _repr_html_(self) -> str:
        header, values = zip(*self._counts(), strict=True)
        return table((*header, "time and cost"), [(*values, self._costs())])

    def _counts(self) -> list[tuple[str, str]]:
        """Return the counts by name; of those besides the first two, only the ones that are not 0."""
        others = {
            "skipped": self.skipped,
            "of them failed before": self.failed_before,
            "repeated": self.repeated,
            "left": self.remaining or 0,
            "damaged lines": self.damaged_lines,
        }
        counts = {"done": self.succeeded, "failed": self.failed, **{name: n for name, n in others.items() if n}}
        return [(name, f"{count:,}") for name, count in counts.items()]

    def _costs(self) -> str:
        cost = "" if self.cost is None else f", about ${self.cost:,.4f}"
        limit = ", stopped at max_cost" if self.cost_limit_reached else ""
        return f"{self.elapsed:.1f} s{cost}{limit}"


@public("bulk")
@attrs.frozen(kw_only=True)
class Progress(RunSummary):
    """The progress of `map` or `run`, as `progress=` functions get it; `str(progress)` is the text of the bar.

    It has the figures of `RunSummary` so far, and what limits the rate.

    Attributes:
        limit: The requests per second that the client sends at most, set by `rate_limit=` or learned from the server;
            None if there is no limit now.
        limited_by: What limits the rate: `"server limit"` if the server has refused requests with status 429,
            `"rate_limit"` if that argument of the client is set, else None.
    """

    limit: float | None = None
    limited_by: str | None = None

    @property
    def done(self) -> int:
        """The number of items processed so far, skipped ones and duplicates included; the same as `seen`."""
        return self.seen

    @property
    def expected_cost(self) -> float | None:
        """The expected cost of the whole run in US dollars; None if the prices or the total are not known."""
        processed = self.succeeded + self.failed
        if self.cost is None or self.remaining is None or not processed:
            return None
        return self.cost * (processed + self.remaining) / processed

    def __str__(self) -> str:
        return text.line(self.done, self.total, text.details(self))
