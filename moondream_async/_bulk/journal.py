"""Write results files: one complete line per item, even if the process is killed."""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import attrs

from .._log import log
from ..errors import OutputFileError, ResultsFileError
from .atomic_files import lock, replace_file, write_all
from .lines import Line, NotAResultsFile, parse_line, read_lines
from .reading import Damage, Replacements, check_path, describe
from .records import RETRIED, Entry, Record, as_json, key_of_record, marked

HOW_TO_RESUME = "resume it (resume=True)"
_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EROFS)  # the file system does not support fsync
_CHUNK = 1024 * 1024


@attrs.frozen(eq=False)
class _Position:
    """Position of a line in the file, in bytes."""

    start: int
    length: int


class Journal:
    """Appends lines to a results file, locked for this run (on POSIX, where files can be locked).

    A line is removed only after the line that replaces it is in the file. A line that a full disk left incomplete is
    cut off at once; one that a kill left incomplete, when the file is next opened.

    Args:
        path: The file; created if it does not exist.
        run: Fingerprint of the run; a file of another run is rejected.
        resume: Whether to continue a file that holds results.
        retry_failed: Whether to retry failed items.

    Raises:
        OutputFileError: The file is not a results file, belongs to another run, is in use, or cannot be written.

    Attributes:
        finished: Keys of the items that are skipped.
        failed: Keys of the skipped items that failed.
        damaged_lines: Number of lines that cannot be parsed; they stay in the file.
        is_lost: Whether another program removed, replaced or truncated the file.
    """

    def __init__(self, path: str | os.PathLike[str], run: str, *, resume: bool, retry_failed: bool) -> None:
        self.path = check_path(path)
        self._is_open = False
        self.finished: set[bytes] = set()
        self.failed: set[bytes] = set()
        self.damaged_lines = 0
        self.is_lost = False
        self._failed: dict[bytes, list[_Position]] = {}  # failed lines that no other line replaced
        self._retried: dict[bytes, list[_Position]] = {}  # failed lines of items that are retried
        self._also_ok: set[bytes] = set()  # items with both a failed and an `ok` line
        self._has_replaced = False  # whether the file has replaced lines
        self._is_torn = False  # whether an incomplete line could not be cut off
        self._run = run
        self._target = self._resolve(self.path)
        self._file = self._open(self._target)
        with ExitStack() as stack:
            stack.callback(self._file.close)
            try:
                self._begin(resume=resume, retry_failed=retry_failed)
            except OSError as exc:
                raise self._error(f"cannot be used: {describe(exc)}") from None
            except NotAResultsFile as exc:
                raise self._error(f"is not a results file: {exc}") from None
            stack.pop_all()
        self._is_open = True

    def add(self, key: bytes, line: bytes) -> None:
        """Append the line of an item. When this returns, the operating system has the line.

        Raises:
            ResultsFileError: The line cannot be written, and the file is unchanged. Or another program removed,
                replaced or truncated the file.
        """
        self._check_unchanged()
        retried = self._retried.get(key)
        data = marked(line) if retried else line
        try:
            if self._is_torn:
                self._cut_off()
            write_all(self._file, data)
        except OSError as exc:
            self._is_torn = True
            with suppress(OSError):  # tried again before the next line, and when the file is next opened
                self._cut_off()
            raise self._error(f"cannot be written: {describe(exc)}") from None
        self._size += len(data)
        if retried:
            retried.pop(0)
            self._has_replaced = True

    def previous_record(self, key: bytes) -> Record | None:
        """Return the failed record of an item that is retried; None if there is none."""
        positions = self._retried.get(key)
        if not positions:
            return None
        try:
            with self._target.open("rb") as file:
                file.seek(positions[0].start)
                data = file.read(positions[0].length)
        except OSError as exc:
            raise self._error(f"cannot be read: {describe(exc)}") from None
        records = [entry.record for entry in parse_line(data).entries]
        return next((each for each in records if not each["ok"] and key_of_record(each) == key), None)

    def count_written(self) -> Counter[bool]:
        """Count the lines that this run wrote and that are still in the file, by whether they are `ok`."""
        if not _is_same_file(self._identity, self._target):
            return Counter()
        try:
            with self._target.open("rb") as file:
                file.seek(self._begun)
                left = os.fstat(file.fileno()).st_size - self._begun
                return Counter(entry.record["ok"] for line in read_lines(file, left) for entry in line.entries)
        except (OSError, NotAResultsFile):
            return Counter()

    def close(self) -> None:
        """Flush the file to disk, remove replaced lines, and release the lock.

        Raises:
            ResultsFileError: The file cannot be flushed, or another program removed, replaced or truncated it.
        """
        try:
            if self._is_torn:
                with suppress(OSError):
                    self._cut_off()
            self._sync()
            self._check_unchanged()
            if self._has_replaced:
                self._compact()
        finally:
            with suppress(OSError):
                self._file.close()

    def _resolve(self, path: str) -> Path:
        """Resolve links, so that the target of a link is written."""
        try:
            return Path(os.path.realpath(path))
        except (OSError, ValueError) as exc:  # a cycle of links; a NUL in the name
            raise self._error(f"cannot be used: {exc}") from None

    def _open(self, path: Path) -> FileIO:
        try:
            file = path.open("a+b", buffering=0)
        except OSError as exc:
            raise self._error(f"cannot be used: {exc.strerror or exc}") from None
        if not path.is_file():
            problem = "it is not a regular file"
        elif not lock(file) or not _is_same_file(os.fstat(file.fileno()), path):
            problem = "another run is writing it"
        else:
            return file
        file.close()
        raise self._error(f"cannot be used: {problem}")

    def _begin(self, *, resume: bool, retry_failed: bool) -> None:
        self._identity = os.fstat(self._file.fileno())
        self._size = self._identity.st_size
        if self._size and not resume:
            raise self._error(f"already exists: {HOW_TO_RESUME} or choose another file")
        self._repair(self._index_lines())
        self._begun = self._size
        if retry_failed:
            self._retried, self._failed = self._failed, {}
            self.finished -= self._retried.keys() - self._also_ok
        self.failed = self._failed.keys() - self._also_ok

    def _index_lines(self) -> Line | None:
        """Index the finished items; return the last line that is not blank."""
        damage, last = Damage(self.path), None
        is_first = True
        with self._target.open("rb") as file:
            for line in read_lines(file, self._size):
                last, problem = last if line.is_blank else line, None
                for entry in line.entries:
                    if entry.record["run"] == self._run:
                        self._index_entry(entry, line)
                    elif is_first:
                        raise self._error(
                            f"holds results of another run (skill, arguments or model differ in line {line.number})"
                        )
                    else:
                        problem = "it belongs to another run"
                    is_first = False
                damage.add(line, problem)
        damage.warn()
        self.damaged_lines = damage.count
        return last

    def _index_entry(self, entry: Entry, line: Line) -> None:
        key = key_of_record(entry.record)
        failed = self._failed.get(key, [])
        if entry.retries and failed:
            self._has_replaced = True
            failed.pop(0)
        if not entry.record["ok"]:
            if key in self.finished and key not in self._failed:
                self._also_ok.add(key)
            self._failed.setdefault(key, []).append(_Position(line.start, line.length))
        elif failed:
            self._also_ok.add(key)
        elif key in self._failed:
            del self._failed[key]
        self.finished.add(key)

    def _repair(self, last: Line | None) -> None:
        """Cut off blanks, zeros and a torn line at the end, or add a missing line feed."""
        end = 0 if last is None else last.start + last.length
        if last is not None and last.is_torn:
            log.warning("%r: a torn last line (%d bytes) was cut off.", self.path, last.length)
            end = last.start
        if end < self._size:
            self._size = end
            self._cut_off()
        elif last is not None and not last.is_ended:
            write_all(self._file, b"\n")
            self._size += 1

    def _cut_off(self) -> None:
        """Cut off an incomplete line."""
        os.ftruncate(self._file.fileno(), self._size)
        self._is_torn = False

    def _sync(self) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as exc:
            if exc.errno not in _NO_SYNC:
                raise self._error(f"cannot be written: {describe(exc)}") from None

    def _check_unchanged(self) -> None:
        """Raise if the lines that were written are no longer in the file."""
        self.is_lost = True
        if not _is_same_file(self._identity, self._target):
            raise self._error(
                "was removed or replaced by another program during the run; results written since then are lost"
            )
        size = os.fstat(self._file.fileno()).st_size
        if size < self._size:
            raise self._error(f"was truncated by another program during the run; {self._size - size:,} bytes are lost")
        self.is_lost = False
        if not self._is_torn:
            self._size = size  # keep what another program may have appended

    def _compact(self) -> None:
        """Replace the file with a copy without replaced lines; if that fails, it stays unchanged."""
        try:
            with replace_file(self._target) as path:
                shutil.copymode(self._target, path)
                with path.open("wb") as new:
                    for data in _without_replaced(self._target, self._size):
                        new.write(data)
                    new.flush()
                    os.fsync(new.fileno())
        except (OSError, _MixedLineError) as exc:
            log.info("%r: replaced lines stay in the file: %s", self.path, exc)

    def _error(self, problem: str) -> ResultsFileError:
        kind = ResultsFileError if self._is_open else OutputFileError
        return kind(f"{self.path!r} {problem}.")


class _MixedLineError(Exception):
    """A replaced entry shares its line with data that cannot be parsed."""


def _without_replaced(path: Path, size: int) -> Iterator[bytes]:
    """Yield the lines without replaced entries, and without the marks of retried entries."""
    replacements = Replacements()
    with path.open("rb") as file, path.open("rb") as copied:
        for line in read_lines(file, size):
            for entry in line.entries:
                replacements.add(entry)
        file.seek(0)
        position = 0
        for line in read_lines(file, size):
            kept = [each for number, each in enumerate(line.entries, position) if number not in replacements.replaced]
            position += len(line.entries)
            if len(kept) == len(line.entries) and not any(entry.retries for entry in kept):
                yield from _copy(copied, line)
            elif line.problem is not None:
                raise _MixedLineError(f"a part of line {line.number} cannot be parsed")
            else:
                yield from (as_json(_unmarked(entry)) + b"\n" for entry in kept)


def _unmarked(entry: Entry) -> Record:
    return {name: value for name, value in entry.record.items() if name != RETRIED}


def _copy(file: BinaryIO, line: Line) -> Iterator[bytes]:
    file.seek(line.start)
    left = line.length
    while left and (data := file.read(min(_CHUNK, left))):
        left -= len(data)
        yield data


def _is_same_file(file: os.stat_result, path: Path) -> bool:
    """Return whether the path still refers to the open file; another run may have replaced it."""
    try:
        return os.path.samestat(file, path.stat())
    except OSError:
        return False
