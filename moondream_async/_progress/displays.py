"""Displays of progress: a bar or a plain line in a terminal, a line in a notebook. None of them starts a thread."""

from __future__ import annotations

import atexit
import html
import importlib
import os
import sys
from contextlib import suppress
from typing import Any, Protocol, Self

from .._printable import one_line, printable
from . import text

_WIDTH = 80  # columns, if the terminal does not say
_CLOSED = (OSError, ValueError)  # stderr was closed; the work continues


class Display(Protocol):
    """Shows progress while its context is open."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *exc: object) -> None: ...

    def update(
        self, done: float, total: float | None, details: str, *, unit: str = "", narrow: str | None = None
    ) -> None:
        """Update the progress; `narrow` replaces `details` if they do not fit the terminal."""
        ...

    def say(self, text: str) -> None:
        """Print a message above the progress."""
        ...


def find_display() -> Display | None:
    """Return the display that fits the place where the program runs; None if there is neither terminal nor notebook."""
    if _is_notebook():
        return NotebookLine()
    if not is_terminal():
        return None
    try:
        return Bar()
    except ImportError:  # rich is in the extra `cli`
        return PlainLine()


def is_terminal() -> bool:
    """Return whether stderr is a terminal."""
    try:
        return sys.stderr is not None and sys.stderr.isatty()  # pyright: ignore[reportUnnecessaryComparison] - None if it was closed
    except ValueError:  # it was closed
        return False


def _is_notebook() -> bool:
    ipython: Any = sys.modules.get("IPython")
    get_shell = getattr(ipython, "get_ipython", None)
    return get_shell is not None and getattr(get_shell(), "kernel", None) is not None


def _first_that_fits(
    width: int, done: float, total: float | None, details: tuple[str, str | None], *, unit: str
) -> str:
    """Return the line with the first details that fit the width, or with the last if none do."""
    lines = [one_line(text.line(done, total, each, unit=unit)) for each in details if each is not None]
    return next((line for line in lines if len(line) <= width), lines[-1])


class Bar:
    """A bar on stderr, drawn by rich."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = (TextColumn("{task.fields[line]}", markup=False), BarColumn(bar_width=None))
        self._progress = Progress(
            *columns,
            console=Console(stderr=True),
            auto_refresh=False,  # rich would do that in a thread
            expand=True,
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),  # pyright: ignore[reportUnnecessaryComparison] - else output for a file would go to the terminal
        )
        self._task = self._progress.add_task("", total=None, line="")

    def __enter__(self) -> Self:
        atexit.register(self._progress.stop)  # it shows the cursor again
        with suppress(*_CLOSED):
            self._progress.start()
        return self

    def __exit__(self, *exc: object) -> None:
        with suppress(*_CLOSED):
            self._progress.stop()
        atexit.unregister(self._progress.stop)

    def update(
        self, done: float, total: float | None, details: str, *, unit: str = "", narrow: str | None = None
    ) -> None:
        """Update the progress; `narrow` replaces `details` if they do not fit the terminal."""
        width = self._progress.console.width - 1
        line = _first_that_fits(width, done, total, (details, narrow), unit=unit)
        with suppress(*_CLOSED):
            self._progress.update(self._task, completed=done, total=total, line=line, refresh=True)

    def say(self, text: str) -> None:
        """Print a message above the progress."""
        self._progress.console.print(printable(text), markup=False, highlight=False)


class PlainLine:
    """A line on stderr that is rewritten in place, for terminals if rich is not installed."""

    def __init__(self) -> None:
        self._file = sys.stderr
        self._shown = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._shown:
            self._write("\n")

    def update(
        self, done: float, total: float | None, details: str, *, unit: str = "", narrow: str | None = None
    ) -> None:
        """Update the progress; `narrow` replaces `details` if they do not fit the terminal."""
        width = self._width() - 1  # a full line would wrap
        line = _first_that_fits(width, done, total, (details, narrow), unit=unit)
        self._rewrite(line[:width])

    def say(self, text: str) -> None:
        """Print a message above the progress."""
        line = self._shown
        self._rewrite(printable(text))
        self._write("\n")
        self._shown = ""
        self._rewrite(line)

    def _rewrite(self, line: str) -> None:
        self._write(f"\r{line:<{len(self._shown)}}")
        self._shown = line

    def _write(self, text: str) -> None:
        with suppress(*_CLOSED):
            self._file.write(text)
            self._file.flush()

    def _width(self) -> int:
        with suppress(*_CLOSED):
            return os.get_terminal_size(self._file.fileno()).columns or _WIDTH
        return _WIDTH


class NotebookLine:
    """A line in a notebook's output that is updated in place, with a bar of plain HTML; it needs no widgets."""

    def __init__(self) -> None:
        self._handle: Any = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self._handle = None

    def update(
        self, done: float, total: float | None, details: str, *, unit: str = "", narrow: str | None = None
    ) -> None:
        """Update the progress."""
        line = one_line(text.line(done, total, details, unit=unit))
        bar = f'<progress value="{done:g}" max="{total:g}"></progress> ' if total else ""
        self._show({"text/plain": line, "text/html": f"{bar}<code>{html.escape(line)}</code>"})

    def say(self, text: str) -> None:
        """Print a message below the progress."""
        print(printable(text), file=sys.stderr)  # noqa: T201

    def _show(self, data: dict[str, str]) -> None:
        if self._handle is not None:
            self._handle.update(data, raw=True)
            return
        ipython = importlib.import_module("IPython.display")  # it runs this code, but is not a dependency
        self._handle = ipython.display(data, raw=True, display_id=True)
