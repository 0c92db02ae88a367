"""A ready file of batch lines, looked through before anything is sent; blocking."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from ..errors import BatchInputError, ConfigurationError
from . import wire
from .manifest import Entry, Portion

_SHOWN = 10  # problems
_CHUNK = 1024 * 1024

Note = Callable[[int, Entry], None]


def read_ready(path: Path, note: Note) -> list[Portion]:
    """The portions of a file, split where one batch would be too large.

    Args:
        path: The file.
        note: Is given the portion's number and the entry of each line.

    Raises:
        BatchInputError: Lines would be refused, or there are none; the message has their numbers.
    """
    portions: list[Portion] = []
    problems: list[tuple[int, str]] = []
    wrong = number = 0
    try:
        with path.open("rb") as file:
            while line := file.readline(wire.LARGEST_LINE + 1):
                try:
                    entry = _entry(number, line)
                except ConfigurationError as exc:
                    wrong += 1
                    problems += [(number + 1, exc.message)] if wrong <= _SHOWN else []
                    _skip_rest(file, line)
                else:
                    _put(portions, str(path), len(line))
                    note(len(portions) - 1, entry)
                number += 1
    except OSError as exc:
        problem = exc.strerror or str(exc)
    else:
        if not wrong and portions:
            return portions
        problem = _shown(problems, wrong) if wrong else "there are no lines."
    raise BatchInputError(f"{str(path)!r} cannot be sent: {problem}", problems=problems)


def _entry(place: int, line: bytes) -> Entry:
    asked = wire.check_line(line)
    return Entry(place, place if asked["id"] is None else asked["id"], asked["skill"], asked["arguments"])


def _put(portions: list[Portion], file: str, length: int) -> None:
    """Count a line in; all lines before it are good, or nothing will come of the portions."""
    last = portions[-1] if portions else None
    if last is None or last.lines >= wire.MOST_LINES or last.length + length > wire.LARGEST_BATCH:
        start = 0 if last is None else last.start + last.length
        last = Portion(file, start=start, closed=True)
        portions.append(last)
    last.length, last.lines = last.length + length, last.lines + 1


def _skip_rest(file: BinaryIO, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = file.readline(_CHUNK)


def _shown(problems: list[tuple[int, str]], wrong: int) -> str:
    told = " ".join(f"Line {number} {text}" for number, text in problems)
    return told if wrong == len(problems) else f"{told} ... and {wrong - len(problems):,} more lines."
