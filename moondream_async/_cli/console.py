"""Terminal output, with control characters from servers, models and file names escaped."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import Any, TextIO

from .._printable import printable

_BOLD, _RED, _RESET = "\x1b[1m", "\x1b[31m", "\x1b[0m"

quiet = False
"""Whether notes are left out (`--quiet`)."""


def has_color(file: TextIO | None) -> bool:
    """Return whether the file is a terminal, and the environment does not refuse colors (`NO_COLOR`)."""
    return file is not None and file.isatty() and not os.getenv("NO_COLOR") and os.getenv("TERM") != "dumb"


def bold(text: str) -> str:
    """Return text for `stdout`, in bold if that is a terminal."""
    return f"{_BOLD}{text}{_RESET}" if has_color(sys.stdout) else text


def show(*parts: object, **options: Any) -> None:
    """Print with control characters escaped. All output of the command goes through this module."""
    print(*(printable(str(part)) for part in parts), **options)


def write_escapes(text: str) -> None:
    """Print text of our own that has escape sequences."""
    print(text, end="", flush=True)


def show_note(text: str) -> None:
    """Print a note on stderr, unless `--quiet`."""
    if not quiet:
        with suppress(OSError):  # the reader of stderr is gone; keep running
            show(text, file=sys.stderr, flush=True)


def show_error(problem: object) -> None:
    """Print an error on stderr, with the program's name in red if that is a terminal."""
    from .rewording import reword  # not needed by most commands

    name = "moondream-async:"
    name = f"{_BOLD}{_RED}{name}{_RESET}" if has_color(sys.stderr) else name
    print(name, printable(reword(problem)), file=sys.stderr)


def set_quiet(value: bool) -> None:
    """Set whether notes are left out."""
    global quiet
    quiet = value
