"""Read results files: return every readable result once, whatever else the file holds."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import attrs

from .._concurrency.closing import Closing
from .._log import log
from .._public import public
from ..errors import ConfigurationError, ResultsFileError
from .lines import Line, NotAResultsFile, read_lines
from .outcomes import Outcome
from .records import Entry, Record, key_of_record

_FAILED = re.compile(rb'"ok"\s*:\s*false')
_CHUNK = 1024 * 1024
_OVERLAP = 64

PathLike = str | os.PathLike[str]


@public("bulk")
class ResultsReader(Iterator[Outcome[Any]]):
    """An iterator over the outcomes in a results file, returned by `read_results`.

    Attributes:
        damaged_lines: The number of lines so far that could not be fully parsed: blank, zeros, truncated, edited or
            foreign. All other lines are read.
    """

    def __init__(self, path: PathLike) -> None:
        self.damaged_lines = 0
        self._outcomes = self._read(path)

    def __iter__(self) -> ResultsReader:
        return self

    def __next__(self) -> Outcome[Any]:
        return next(self._outcomes)

    def _read(self, path: PathLike) -> Iterator[Outcome[Any]]:
        with ResultsFile(path) as file:
            for index, entry in enumerate(file.entries(counter=self)):
                yield attrs.evolve(entry.outcome, index=index)


@public("bulk")
def read_results(path: PathLike) -> ResultsReader:
    """Read the outcomes in a results file one by one.

    Lines that cannot be parsed are skipped with a log warning and counted in `.damaged_lines`. An incomplete last
    line, as in a file that a run is still writing, is ignored. For a retried item, the last outcome is returned.

    ```python
    for outcome in read_results("results.jsonl"):
        print(outcome.id, outcome.result if outcome.ok else outcome.error)
    ```

    Args:
        path: A file written by `run`.

    Returns:
        An iterator over the items' outcomes. Results have the same types as those of the skills; `.index` counts
        the outcomes from 0.

    Raises:
        ResultsFileError: The file cannot be read, or is not a results file. Raised by the first iteration.
    """
    return ResultsReader(path)


@public("bulk")
def read_records(path: PathLike, *, size: int | None = None) -> Iterator[Record]:
    """Read a results file as plain dicts, one per item, in their stored form.

    ```python
    for record in read_records("results.jsonl"):
        print(record["id"], record["arguments"])
    ```

    Args:
        path: As in `read_results`.
        size: The number of bytes to read. Default: the whole file.

    Raises:
        ResultsFileError: As in `read_results`.
    """
    with ResultsFile(path, size=size) as file:
        for entry in file.entries():
            yield entry.record


class ResultsFile(Closing):
    """A snapshot of a results file: lines appended after opening are not read. It can be iterated several times.

    Args:
        path: The file.
        size: The number of bytes to read. Default: the whole file.

    Raises:
        ResultsFileError: The file cannot be opened.
    """

    def __init__(self, path: PathLike, *, size: int | None = None) -> None:
        self._path = check_path(path)
        try:
            self._file: BinaryIO = Path(self._path).open("rb")  # noqa: SIM115 - closed by `with`
        except (OSError, ValueError) as exc:  # ValueError: a NUL in the name
            raise self._error(f"cannot be read: {describe(exc)}") from None
        actual_size = os.fstat(self._file.fileno()).st_size
        self._size = actual_size if size is None else min(size, actual_size)
        self._replaced: set[int] | None = None

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def is_same(self, path: Path) -> bool:
        """Return whether a path refers to this file."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), path.stat())
        except OSError:
            return False

    def entries(self, counter: ResultsReader | None = None) -> Iterator[Entry]:
        """Iterate over the entries, without those that a retry replaced.

        Args:
            counter: A reader that counts damaged lines. Without it, they are only logged.

        Raises:
            ResultsFileError: The file cannot be read, or is not a results file.
        """
        damage = Damage(self._path)
        try:
            if self._replaced is None:
                self._replaced = self._find_replaced()
            position = 0
            for line in self._lines():
                if damage.add(line) and counter is not None:
                    counter.damaged_lines += 1
                for entry in line.entries:
                    if position not in self._replaced:
                        yield entry
                    position += 1
        except NotAResultsFile as exc:
            raise self._error(f"is not a results file: {exc}") from None
        except OSError as exc:
            raise self._error(f"cannot be read: {describe(exc)}") from None
        damage.warn()

    def _lines(self) -> Iterator[Line]:
        self._file.seek(0)
        return read_lines(self._file, self._size)

    def _find_replaced(self) -> set[int]:
        """Return the positions of replaced entries; this takes a separate pass if any item failed."""
        if not self._has_failed():
            return set()
        replacements = Replacements()
        for line in self._lines():
            for entry in line.entries:
                replacements.add(entry)
        return replacements.replaced

    def _has_failed(self) -> bool:
        self._file.seek(0)
        before, left = b"", self._size
        while left > 0 and (chunk := self._file.read(min(_CHUNK, left))):
            left -= len(chunk)
            if _FAILED.search(before + chunk):
                return True
            before = chunk[-_OVERLAP:]
        return False

    def _error(self, problem: str) -> ResultsFileError:
        return ResultsFileError(f"{self._path!r} {problem}.")


class Replacements:
    """Finds replaced entries: an entry marked as a retry replaces the first failed entry of the same item.

    Attributes:
        replaced: The positions of replaced entries, from 0.
    """

    def __init__(self) -> None:
        self.replaced: set[int] = set()
        self._failed: dict[bytes, deque[int]] = {}
        self._count = 0

    def add(self, entry: Entry) -> None:
        """Add the next entry of the file."""
        position, self._count = self._count, self._count + 1
        failed = not entry.record["ok"]
        if not failed and not (self._failed and entry.retries):
            return
        key = key_of_record(entry.record)
        before = self._failed.get(key)
        if before and entry.retries:
            self.replaced.add(before.popleft())
        if failed:
            self._failed.setdefault(key, deque()).append(position)


class Damage:
    """Counts damaged lines.

    Args:
        path: The file, for the warning.
    """

    def __init__(self, path: str) -> None:
        self.count = 0
        self._path = path
        self._first = ""

    def add(self, line: Line, problem: str | None = None) -> bool:
        """Count the line if it is damaged, and return whether it is.

        Args:
            line: The line.
            problem: Another problem with it, if any.
        """
        if line.is_blank:
            problem = "it is blank or zeros"
        elif problem is None and not line.is_torn:  # torn: the last line of a file that is still being written
            problem = line.problem
        if problem is None:
            return False
        self.count += 1
        self._first = self._first or f"line {line.number}: {problem}"
        return True

    def warn(self) -> None:
        """Log the number of damaged lines, and the first of them."""
        if self.count:
            log.warning("%r: %d damaged lines were skipped (%s).", self._path, self.count, self._first)


def check_path(path: object) -> str:
    """Return the path as a string.

    Raises:
        ConfigurationError: The value is not a path.
    """
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise ConfigurationError(f"The results file must be a path, not {type(path).__name__}.")
    return os.fsdecode(cast("str | bytes | os.PathLike[str]", path))


def describe(exc: Exception) -> str:
    """Return an OS error's message."""
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
