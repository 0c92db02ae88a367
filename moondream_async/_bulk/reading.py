"""Reading a results file: every result that it holds, once, whatever else is in it."""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, cast

import attrs

from .._log import log
from .._public import public
from ..errors import ConfigurationError, ResultsFileError
from .items import Outcome
from .lines import Line, NotAResultsFile, read_lines
from .records import Entry, Record, key_of_record

_FAILED = re.compile(rb'"ok"\s*:\s*false')
_CHUNK = 1024 * 1024
_OVERLAP = 64

PathLike = str | os.PathLike[str]


@public("bulk")
class ResultsReader(Iterator[Outcome[Any]]):
    """Iterates over the outcomes in a results file; `read_results` makes it.

    Attributes:
        damaged_lines: How many lines, of those read so far, could not be read as a whole: they are blank, zeros,
            torn, edited or of something else. The results in all other lines are read.
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
    """Read the outcomes in a results file, one by one.

    Lines that cannot be read are passed over, with a warning in the log; `.damaged_lines` counts them. A torn last
    line, as a run that is writing leaves it, is left out. Of an item that was tried again, the last outcome counts.

    Args:
        path: The file, as `run` wrote it.

    Returns:
        An iterator over each item's `Outcome`, its results typed as from the call itself; `.index` counts them.

    Raises:
        ResultsFileError: It cannot be read, or is not a results file. Raised when the first outcome is asked for.
    """
    return ResultsReader(path)


@public("bulk")
def read_records(path: PathLike, *, size: int | None = None) -> Iterator[Record]:
    """Read the same as plain dicts, as they are written.

    Args:
        path: As in `read_results`.
        size: Bytes to read; None reads all.

    Raises:
        ResultsFileError: As in `read_results`.
    """
    with ResultsFile(path, size=size) as file:
        for entry in file.entries():
            yield entry.record


class ResultsFile:
    """A results file as it is now: what a run appends later is not seen. It can be read several times.

    Args:
        path: The file.
        size: Bytes to read; None reads all.

    Raises:
        ResultsFileError: It cannot be opened.
    """

    def __init__(self, path: PathLike, *, size: int | None = None) -> None:
        self._path = check_path(path)
        try:
            self._file: BinaryIO = Path(self._path).open("rb")  # noqa: SIM115 - closed by `with`
        except (OSError, ValueError) as exc:  # ValueError: a NUL in the name
            problem = describe(exc)
        else:
            there = os.fstat(self._file.fileno()).st_size
            self._size = there if size is None else min(size, there)
            self._replaced: set[int] | None = None
            return
        raise self._error(f"cannot be read: {problem}")

    def __enter__(self) -> ResultsFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def is_same(self, path: Path) -> bool:
        """Return whether a path leads to this very file."""
        try:
            return os.path.samestat(os.fstat(self._file.fileno()), path.stat())
        except OSError:
            return False

    def entries(self, counter: ResultsReader | None = None) -> Iterator[Entry]:
        """Iterate over what it holds, without lines whose place others have taken.

        Args:
            counter: Its `damaged_lines` are counted up. Without one, damaged lines are only logged.

        Raises:
            ResultsFileError: It cannot be read, or is not a results file.
        """
        damage = Damage(self._path)
        try:
            if self._replaced is None:
                self._replaced = self._find_replaced()
            place = 0
            for line in self._lines():
                if damage.add(line) and counter is not None:
                    counter.damaged_lines += 1
                for entry in line.entries:
                    if place not in self._replaced:
                        yield entry
                    place += 1
        except NotAResultsFile as exc:
            problem = f"is not a results file: {exc}"
        except OSError as exc:
            problem = f"cannot be read: {describe(exc)}"
        else:
            damage.warn()
            return
        raise self._error(problem)

    def _lines(self) -> Iterator[Line]:
        self._file.seek(0)
        return read_lines(self._file, self._size)

    def _find_replaced(self) -> set[int]:
        """The places of the entries that others have replaced; needs a pass of its own if anything failed."""
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
    """Finds the entries that later ones replace: each that is marked so replaces the first that failed.

    Attributes:
        replaced: Their places among all entries, from 0.
    """

    def __init__(self) -> None:
        self.replaced: set[int] = set()
        self._failed: dict[bytes, deque[int]] = {}
        self._count = 0

    def add(self, entry: Entry) -> None:
        """Take the next entry of the file."""
        place, self._count = self._count, self._count + 1
        failed = not entry.record["ok"]
        if not failed and not (self._failed and entry.retries):
            return
        key = key_of_record(entry.record)
        before = self._failed.get(key)
        if before and entry.retries:
            self.replaced.add(before.popleft())
        if failed:
            self._failed.setdefault(key, deque()).append(place)


class Damage:
    """Counts the lines that cannot be read as a whole.

    Args:
        path: The file, for the warning.
    """

    def __init__(self, path: str) -> None:
        self.count = 0
        self._path = path
        self._first = ""

    def add(self, line: Line, problem: str | None = None) -> bool:
        """Count a line, if something is wrong with it; returns whether it is.

        Args:
            line: The line.
            problem: What is wrong with it besides.
        """
        if line.is_blank:
            problem = "it is blank or zeros"
        elif problem is None and not line.is_torn:  # as the last line is while it is written
            problem = line.problem
        if problem is None:
            return False
        self.count += 1
        self._first = self._first or f"line {line.number}: {problem}"
        return True

    def warn(self) -> None:
        """Log how many there are, and the first."""
        if self.count:
            log.warning("%r: %d damaged lines were passed over (%s).", self._path, self.count, self._first)


def check_path(path: object) -> str:
    """The path as text.

    Raises:
        ConfigurationError: It is not a path.
    """
    if not isinstance(path, (str, bytes, os.PathLike)):
        raise ConfigurationError(f"A results file must be given as a path, not {type(path).__name__}.")
    return os.fsdecode(cast("str | bytes | os.PathLike[str]", path))


def describe(exc: Exception) -> str:
    """What an error of the operating system says."""
    return (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
