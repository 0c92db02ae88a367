"""Progress of a run: a bar on a terminal, otherwise a plain line every few seconds."""

from __future__ import annotations

import sys
import time
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

from .._bulk.run import RunSummary
from .console import printable, show

_LINE_INTERVAL = 5.0  # seconds


def meter() -> Lines | Bar:
    """Return a bar if stderr is a terminal, otherwise plain lines."""
    is_terminal = sys.stderr is not None and sys.stderr.isatty()  # pyright: ignore[reportUnnecessaryComparison] - None if it was closed
    return Bar() if is_terminal else Lines()


class Lines:
    """A line of progress every few seconds."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _LINE_INTERVAL

    def shown(self) -> AbstractContextManager[Any]:
        """Show the display while the context is open."""
        return nullcontext()

    def update(self, done: float, total: float | None, details: str, *, unit: str) -> None:
        """Update the progress."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINE_INTERVAL
            of = f" of {total:,.0f}" if total is not None else ""
            self.say(f"{done:,.0f}{of} {unit}, {details}")

    def say(self, text: str) -> None:
        """Print a message above the progress."""
        with suppress(OSError):  # the reader of stderr is gone; keep running
            show(text, file=sys.stderr, flush=True)


class Bar:
    """A progress bar, in place."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (BarColumn(), TextColumn("{task.fields[count]} {task.fields[unit]}  {task.fields[details]}"))
        self._progress = Progress(*columns, console=Console(stderr=True), refresh_per_second=8)
        self._task = self._progress.add_task("", total=None, count="", unit="", details="")

    def shown(self) -> AbstractContextManager[Any]:
        """Show the display while the context is open."""
        return self._progress

    def update(self, done: float, total: float | None, details: str, *, unit: str) -> None:
        """Update the progress."""
        count = f"{done:,.0f}/{'?' if total is None else f'{total:,.0f}'}"
        self._progress.update(self._task, completed=done, total=total, count=count, unit=unit, details=details)

    def say(self, text: str) -> None:
        """Print a message above the progress."""
        self._progress.console.print(printable(text), markup=False, highlight=False)


def details(summary: RunSummary) -> str:
    """Describe the progress of a run besides the number of items."""
    parts = [f"{summary.failed:,} failed"]
    if summary.rate:
        parts.append(f"{summary.rate:.1f}/s")
    tokens = summary.input_tokens + summary.output_tokens
    if tokens:
        parts.append(f"{tokens:,} tokens")
    if summary.seconds_left is not None and summary.seconds_left >= 1:
        parts.append(f"{duration(summary.seconds_left)} left")
    return ", ".join(parts)


def duration(seconds: float) -> str:
    """Format seconds for people: `42 s`, `3:05 min`, `2:10 h`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    return f"{minutes}:{rest:02} min" if minutes < 60 else f"{minutes // 60}:{minutes % 60:02} h"
