"""The text of progress, the same for the command and for Python (pure)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .durations import duration
from .money import dollars

if TYPE_CHECKING:
    from .figures import Progress

_SEPARATOR = " - "


def line(done: float, total: float | None, details: str, *, unit: str = "") -> str:
    """Return the whole text: percent and total if it is known, the number done, and details.

    Args:
        done: How much is done.
        total: How much there is; None if not known.
        details: The text after the count; may be empty.
        unit: What is counted, such as `"MB"`.
    """
    percent = f"{done / total:.0%} " if total else ""
    of = "" if total is None else f"/{_number(total)}"
    return _SEPARATOR.join(part for part in (f"{percent}{_number(done)}{of} {unit}".rstrip(), details) if part)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def details(progress: Progress, *, narrow: bool = False) -> str:
    """Describe the progress of a run besides the number of items.

    Args:
        progress: The figures so far.
        narrow: Whether to leave out what limits the rate.
    """
    limit = f" ({progress.limited_by})" if progress.limited_by and not narrow else ""
    left = progress.seconds_left
    parts = [
        f"{progress.rate:.1f}/s{limit}" if progress.rate else "",
        _spent(progress),
        f"{progress.failed:,} failed" if progress.failed else "",
        f"{duration(left)} left" if left is not None and left >= 1 else "",
    ]
    return _SEPARATOR.join(part for part in parts if part)


def _spent(progress: Progress) -> str:
    """Return the cost so far, and of the whole run if that can be estimated; without prices, the tokens."""
    tokens = progress.input_tokens + progress.output_tokens
    if progress.cost is None or not tokens:
        return f"{tokens:,} tokens" if tokens else ""
    expected = progress.expected_cost
    return dollars(progress.cost) + ("" if expected is None else f" of ~{dollars(expected)}")
