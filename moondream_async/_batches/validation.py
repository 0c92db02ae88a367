"""A ready file of batch lines, looked through before anything is sent; blocking."""

from __future__ import annotations

from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from .._bulk import records
from ..errors import BatchInputError, ConfigurationError
from . import wire
from .job.manifest import BatchFile, Entry

_SHOWN = 10  # problems
_CHUNK = 1024 * 1024

Note = Callable[[int, Entry], None]


def read_ready(path: Path, note: Note) -> list[BatchFile]:
    """The portions of a file, split where one batch would be too large.

    Args:
        path: The file.
        note: Is given the portion's number and the entry of each line.

    Raises:
        BatchInputError: Lines would be refused, or there are none; the message has their numbers.
    """
    problem = _not_utf8(path)
    if problem is not None:
        raise _unusable(path, problem, [])
    ready = _Ready(str(path), note)
    for number, line in enumerate(_lines(path), 1):
        ready.add(number, line)
    if ready.wrong:
        raise _unusable(path, _shown(ready.problems, ready.wrong), ready.problems)
    if not ready.portions:
        raise _unusable(path, "there are no lines.", [])
    return ready.portions


class _Ready:
    """The lines of a file, one after the other. Blank lines before and after all others are left out."""

    def __init__(self, file: str, note: Note) -> None:
        self.portions: list[BatchFile] = []
        self.problems: list[tuple[int, str]] = []
        self.wrong = 0
        self._file = file
        self._note = note
        self._place = self._end = 0
        self._blank: list[int] = []  # the lines since the last one that is not blank; the first few

    def add(self, number: int, line: bytes) -> None:
        """Check a line; it may be the beginning of one that is too long."""
        start = len(BOM_UTF8) if number == 1 and line.startswith(BOM_UTF8) else 0
        start, self._end = self._end + start, self._end + len(line)
        text = line[len(line) - (self._end - start) :]
        if not text.strip() and len(text) <= wire.LARGEST_LINE:
            self._blank += [number] if self._place and len(self._blank) < _SHOWN else []
            return
        for blank in self._blank:
            self._is_wrong(blank, "is blank; remove it.")
        self._blank.clear()
        try:
            entry = _entry(self._place, text)
        except ConfigurationError as exc:
            self._is_wrong(number, exc.message)
        else:
            _put(self.portions, self._file, start, len(text))
            self._note(len(self.portions) - 1, entry)
        self._place += 1

    def _is_wrong(self, number: int, problem: str) -> None:
        self.wrong += 1
        self.problems += [(number, problem)] if self.wrong <= _SHOWN else []


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines, of those that are too long only the beginning.

    Raises:
        BatchInputError: The file cannot be read.
    """
    try:
        file = path.open("rb")
    except OSError as exc:
        raise _unusable(path, exc.strerror or str(exc), []) from None
    with file:
        while True:
            try:
                line = file.readline(wire.LARGEST_LINE + 1)
                _skip_rest(file, line)
            except OSError as exc:
                raise _unusable(path, exc.strerror or str(exc), []) from None
            if not line:
                return
            yield line


def _not_utf8(path: Path) -> str | None:
    """Say what a file is that is text in another encoding, or packed."""
    with suppress(OSError), path.open("rb") as file:
        head = file.read(4)
        if head[:2] == b"\x1f\x8b":
            return "it is packed with gzip; unpack it."
        if head[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) or b"\0" in head:
            return "it is UTF-16 or UTF-32; save it as UTF-8."
    return None


def _unusable(path: Path, problem: str, problems: list[tuple[int, str]]) -> BatchInputError:
    return BatchInputError(f"{str(path)!r} cannot be sent: {problem}", problems=problems)


def _entry(place: int, line: bytes) -> Entry:
    asked = wire.check_line(line)
    entry = Entry(place, place if asked["id"] is None else asked["id"], asked["skill"], asked["arguments"])
    try:
        _ = entry.key
    except records.UNWRITABLE as exc:
        raise ConfigurationError(f"has an id or arguments that cannot be used: {exc}.") from None
    return entry


def _put(portions: list[BatchFile], file: str, start: int, length: int) -> None:
    """Count a line in; all lines before it are good, or nothing will come of the portions."""
    last = portions[-1] if portions else None
    if last is None or last.lines >= wire.MOST_LINES or last.length + length > wire.LARGEST_BATCH:
        last = BatchFile(file, start=start, closed=True)
        portions.append(last)
    last.length, last.lines = last.length + length, last.lines + 1


def _skip_rest(file: BinaryIO, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = file.readline(_CHUNK)


def _shown(problems: list[tuple[int, str]], wrong: int) -> str:
    told = " ".join(f"Line {number} {text}" for number, text in problems)
    return told if wrong == len(problems) else f"{told} ... and {wrong - len(problems):,} more lines."
