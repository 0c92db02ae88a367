"""Progress of long work: a bar on a terminal, otherwise a plain line every few seconds."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from .._bulk.run import RunSummary
from . import console
from .durations import duration

_LINE_INTERVAL = 5.0  # seconds
_SEPARATOR = " - "


def meter() -> Lines | Bar:
    """Return a bar if stderr is a terminal, otherwise plain lines; nothing is shown with `--quiet`."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty()  # pyright: ignore[reportUnnecessaryComparison] - None if it was closed
    return Bar() if is_terminal and not console.quiet else Lines()


class Lines:
    """A line of progress every few seconds."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _LINE_INTERVAL

    def shown(self) -> AbstractContextManager[Any]:
        """Show the display while the context is open."""
        return nullcontext()

    def update(
        self, done: float, total: float | None, details: str, *, unit: str = "", narrow: str | None = None
    ) -> None:
        """Update the progress."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINE_INTERVAL
            self.say(_line(done, total, unit, details))

    def say(self, text: str) -> None:
        """Print a message above the progress."""
        console.show_note(text)


class Bar:
    """A progress bar, in place."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (TextColumn("{task.fields[line]}", markup=False), BarColumn(bar_width=None))
        self._progress = Progress(*columns, console=Console(stderr=True), refresh_per_second=8, expand=True)
        self._task = self._progress.add_task("", total=None, line="")

    def shown(self) -> AbstractContextManager[Any]:
        """Show the display while the context is open."""
        return self._progress

    def update(
        self, done: float, total: float | None, details: str, *, unit: str = "", narrow: str | None = None
    ) -> None:
        """Update the progress; `narrow` replaces `details` if they do not fit the terminal."""
        line = console.one_line(_line(done, total, unit, details))
        if narrow is not None and len(line) >= self._progress.console.width:
            line = console.one_line(_line(done, total, unit, narrow))
        self._progress.update(self._task, completed=done, total=total, line=line)

    def say(self, text: str) -> None:
        """Print a message above the progress."""
        self._progress.console.print(console.printable(text), markup=False, highlight=False)


def _line(done: float, total: float | None, unit: str, details: str) -> str:
    percent = f"{done / total:.0%} " if total else ""
    count = f"{percent}{_number(done)}/{'?' if total is None else _number(total)}"
    return _SEPARATOR.join(part for part in (f"{count} {unit}".rstrip(), details) if part)


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def details(summary: RunSummary, *, limited_by: str = "") -> str:
    """Describe the progress of a run besides the number of items.

    Args:
        summary: The counts so far.
        limited_by: What limits the rate, such as `"server limit"`; empty if nothing is known to.
    """
    limit = f" ({limited_by})" if limited_by else ""
    left = summary.seconds_left
    parts = [
        f"{summary.rate:.1f}/s{limit}" if summary.rate else "",
        _spent(summary),
        f"{summary.failed:,} failed" if summary.failed else "",
        f"{duration(left)} left" if left is not None and left >= 1 else "",
    ]
    return _SEPARATOR.join(part for part in parts if part)


def _spent(summary: RunSummary) -> str:
    """Return the cost so far, and of the whole run if that can be estimated; without prices, the tokens."""
    tokens = summary.input_tokens + summary.output_tokens
    if summary.cost is None or not tokens:
        return f"{tokens:,} tokens" if tokens else ""
    done = summary.succeeded + summary.failed
    if summary.remaining is None or not done:
        return f"${summary.cost:.2f}"
    return f"${summary.cost:.2f} of ~${summary.cost * (done + summary.remaining) / done:.2f}"
