"""Progress of the command: a bar on a terminal, otherwise a plain line every few seconds."""

from __future__ import annotations

import time
from typing import Self

from .._progress.displays import Bar, Display, is_terminal
from .._progress.text import line
from . import console

_LINE_INTERVAL = 5.0  # seconds


def meter() -> Display:
    """Return a bar if stderr is a terminal, otherwise plain lines; nothing is shown with `--quiet`."""
    return Bar() if is_terminal() and not console.quiet else Lines()


class Lines:
    """A line of progress every few seconds."""

    def __init__(self) -> None:
        self._next = time.monotonic() + _LINE_INTERVAL

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None: ...

    def update(
        self, done: float, total: float | None, details: str, *, unit: str = "", narrow: str | None = None
    ) -> None:
        """Update the progress."""
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINE_INTERVAL
            self.say(line(done, total, details, unit=unit))

    def say(self, text: str) -> None:
        """Print a message above the progress."""
        console.show_note(text)
