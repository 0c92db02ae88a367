"""Validate a ready file of batch lines before anything is sent; blocking."""

from __future__ import annotations

from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

import attrs

from .._bulk import records
from ..errors import BatchInputError, ConfigurationError
from . import wire
from .job.folder import Folder
from .job.manifest import BatchFile, Entry

_MAX_PROBLEMS = 10  # listed in an error
_CHUNK = 1024 * 1024  # bytes

AddEntry = Callable[[int, Entry], None]


@attrs.frozen
class ReadyFile:
    """The lines of a ready file.

    Attributes:
        path: The file, in JSON Lines format.
    """

    path: Path

    def check(self, folder: Folder) -> None:
        """Validate the file, and write an index of its lines to the job's folder, unless that was done before.

        Raises:
            BatchInputError: The server would reject lines of the file.
        """
        if folder.manifest.closed:
            return
        with folder.index_writer() as add_entry:
            portions = split_into_batches(self.path, add_entry)
        folder.manifest.portions = portions
        folder.finish_lines(sum(portion.lines for portion in portions))


def split_into_batches(path: Path, add_entry: AddEntry) -> list[BatchFile]:
    """Validate a ready file and split it where one batch would be too large.

    Args:
        path: The file.
        add_entry: Called with the batch's number and the entry of each line.

    Raises:
        BatchInputError: The file has no lines, or invalid ones; the message has their numbers.
    """
    problem = _encoding_problem(path)
    if problem is not None:
        raise _invalid_file(path, problem, [])
    validator = _Validator(str(path), add_entry)
    for number, line in enumerate(_lines(path), 1):
        validator.add(number, line)
    if validator.invalid_lines:
        raise _invalid_file(path, _describe(validator.problems, validator.invalid_lines), validator.problems)
    if not validator.batches:
        raise _invalid_file(path, "there are no lines.", [])
    return validator.batches


class _Validator:
    """Validates lines one after the other. Leading and trailing blank lines are left out.

    Attributes:
        batches: The batches so far; meaningless if there are invalid lines.
        problems: The first invalid lines, as (number, problem).
        invalid_lines: The number of all invalid lines.
    """

    def __init__(self, file: str, add_entry: AddEntry) -> None:
        self.batches: list[BatchFile] = []
        self.problems: list[tuple[int, str]] = []
        self.invalid_lines = 0
        self._file = file
        self._add_entry = add_entry
        self._position = self._end = 0
        self._blank: list[int] = []  # the first blank lines since the last line that is not blank

    def add(self, number: int, line: bytes) -> None:
        """Validate a line; of a line that is too long, the beginning is enough."""
        start = len(BOM_UTF8) if number == 1 and line.startswith(BOM_UTF8) else 0
        start, self._end = self._end + start, self._end + len(line)
        text = line[len(line) - (self._end - start) :]
        if not text.strip() and len(text) <= wire.MAX_LINE_SIZE:
            self._blank += [number] if self._position and len(self._blank) < _MAX_PROBLEMS else []
            return
        for blank in self._blank:
            self._add_problem(blank, "is blank; remove it.")
        self._blank.clear()
        try:
            entry = _entry(self._position, text)
        except ConfigurationError as exc:
            self._add_problem(number, exc.message)
        else:
            _append(self.batches, self._file, start, len(text))
            self._add_entry(len(self.batches) - 1, entry)
        self._position += 1

    def _add_problem(self, number: int, problem: str) -> None:
        self.invalid_lines += 1
        self.problems += [(number, problem)] if self.invalid_lines <= _MAX_PROBLEMS else []


def _lines(path: Path) -> Iterator[bytes]:
    """Yield the lines of a file, but only the beginning of those that are too long.

    Raises:
        BatchInputError: The file cannot be read.
    """
    try:
        file = path.open("rb")
    except OSError as exc:
        raise _invalid_file(path, exc.strerror or str(exc), []) from None
    with file:
        while True:
            try:
                line = file.readline(wire.MAX_LINE_SIZE + 1)
                _skip_rest(file, line)
            except OSError as exc:
                raise _invalid_file(path, exc.strerror or str(exc), []) from None
            if not line:
                return
            yield line


def _encoding_problem(path: Path) -> str | None:
    """Return a hint if the file is compressed, or text in another encoding than UTF-8."""
    with suppress(OSError), path.open("rb") as file:
        head = file.read(4)
        if head[:2] == b"\x1f\x8b":
            return "it is compressed with gzip; decompress it first."
        if head[:2] in (BOM_UTF16_LE, BOM_UTF16_BE) or b"\0" in head:
            return "it is UTF-16 or UTF-32; save it as UTF-8."
    return None


def _invalid_file(path: Path, problem: str, problems: list[tuple[int, str]]) -> BatchInputError:
    return BatchInputError(f"{str(path)!r} cannot be sent: {problem}", problems=problems)


def _entry(position: int, line: bytes) -> Entry:
    data = wire.check_line(line)
    entry = Entry(position, position if data["id"] is None else data["id"], data["skill"], data["arguments"])
    try:
        _ = entry.key
    except records.UNWRITABLE as exc:
        raise ConfigurationError(f"has an id or arguments that cannot be used: {exc}.") from None
    return entry


def _append(batches: list[BatchFile], file: str, start: int, length: int) -> None:
    """Add a line to the last batch, or to a new one if that is full.

    The lines of a batch are contiguous: if an invalid line were among them, the batches would not be used.
    """
    last = batches[-1] if batches else None
    if last is None or last.lines >= wire.MAX_LINES or last.length + length > wire.MAX_BATCH_SIZE:
        last = BatchFile(file, start=start, closed=True)
        batches.append(last)
    last.length, last.lines = last.length + length, last.lines + 1


def _skip_rest(file: BinaryIO, line: bytes) -> None:
    while line and not line.endswith(b"\n"):
        line = file.readline(_CHUNK)


def _describe(problems: list[tuple[int, str]], invalid_lines: int) -> str:
    text = " ".join(f"Line {number} {problem}" for number, problem in problems)
    more = invalid_lines - len(problems)
    return f"{text} ... and {more:,} more lines." if more else text
