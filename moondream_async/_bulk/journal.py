"""The results file as a run writes it: one whole line for each item, whatever happens to the process."""

from __future__ import annotations

import errno
import os
import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path
from typing import BinaryIO

import attrs

from .._log import log
from ..errors import OutputFileError, ResultsFileError
from .atomic_files import lock, replace_file, write_all
from .lines import Line, NotAResultsFile, parse_line, read_lines
from .reading import Damage, Replacements, check_path, describe, read_records, read_results
from .records import RETRIED, Entry, Record, as_json, key_of_record, marked

__all__ = ["Journal", "read_records", "read_results"]


_NO_SYNC = (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EROFS)  # a file system that knows no such thing
_CHUNK = 1024 * 1024


@attrs.frozen(eq=False)
class _Position:
    """Where a line is in the file."""

    start: int
    length: int


class Journal:
    """Appends lines to a file that no other run may use meanwhile (on POSIX, where files can be locked).

    Nothing that was written is taken out, or changed, before what takes its place is in the file. A line that was torn
    by a kill, or by a full disk, is cut off when the file is opened, or at once.

    Args:
        path: The file; made if there is none.
        run: Names the run; a file of another run is refused.
        resume: Whether to add to a file that holds results.
        retry_failed: Whether failed items are to be tried again.

    Raises:
        OutputFileError: The file is something else, of another run, in use, or cannot be written.

    Attributes:
        finished: Keys of the items that need not be done.
        failed: Keys of those among them that failed.
        damaged_lines: How many lines could not be read; they stay as they are.
        is_lost: Whether the file was removed, replaced or truncated by another program.
    """

    def __init__(self, path: str | os.PathLike[str], run: str, *, resume: bool, retry_failed: bool) -> None:
        self.path = check_path(path)
        self._is_open = False
        self.finished: set[bytes] = set()
        self.failed: set[bytes] = set()
        self.damaged_lines = 0
        self.is_lost = False
        self._failed: dict[bytes, list[_Position]] = {}  # failed lines whose place no other has taken
        self._retried: dict[bytes, list[_Position]] = {}  # those of them that are to be tried again
        self._also_ok: set[bytes] = set()  # failed, but there is a line of the same item that did not
        self._has_replaced = False  # whether there are lines whose place others have taken
        self._is_torn = False  # whether a part of a line could not be cut off
        self._run = run
        self._target = self._real(self.path)
        self._file = self._open(self._target)
        try:
            self._begin(resume=resume, retry_failed=retry_failed)
        except OSError as exc:
            self._file.close()
            problem = f"cannot be used: {describe(exc)}"
        except NotAResultsFile as exc:
            self._file.close()
            problem = f"is not a results file: {exc}"
        except BaseException:
            self._file.close()
            raise
        else:
            self._is_open = True
            return
        raise self._error(problem)

    def add(self, key: bytes, line: bytes) -> None:
        """Write the line of an item; it has reached the operating system when this returns.

        Raises:
            ResultsFileError: It cannot be written; the file is as it was before. Or the file was removed, replaced or
                truncated by another program.
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
            with suppress(OSError):  # it is tried again before the next line, and when the file is next opened
                self._cut_off()
            problem = describe(exc)
        else:
            self._size += len(data)
            if retried:
                retried.pop(0)
                self._has_replaced = True
            return
        raise self._error(f"cannot be written: {problem}")

    def before(self, key: bytes) -> Record | None:
        """Return what the file says of an item that failed, and is tried again."""
        positions = self._retried.get(key)
        if not positions:
            return None
        try:
            with self._target.open("rb") as file:
                file.seek(positions[0].start)
                data = file.read(positions[0].length)
        except OSError as exc:
            problem = describe(exc)
        else:
            records = [entry.record for entry in parse_line(data).entries]
            return next((each for each in records if not each["ok"] and key_of_record(each) == key), None)
        raise self._error(f"cannot be read: {problem}")

    def count_written(self) -> Counter[bool]:
        """Count the lines of this run that are in the file now, by whether they are `ok`."""
        if not _is_still(self._identity, self._target):
            return Counter()
        try:
            with self._target.open("rb") as file:
                file.seek(self._begun)
                left = os.fstat(file.fileno()).st_size - self._begun
                return Counter(entry.record["ok"] for line in read_lines(file, left) for entry in line.entries)
        except (OSError, NotAResultsFile):
            return Counter()

    def close(self) -> None:
        """Have all of it on the disk, take out replaced lines, and let others use the file.

        Raises:
            ResultsFileError: It was removed, replaced or truncated meanwhile.
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

    def _real(self, path: str) -> Path:
        """What a link points to: that is written, not the link."""
        try:
            return Path(os.path.realpath(path))
        except (OSError, ValueError) as exc:  # links in a circle; a NUL in the name
            problem = str(exc)
        raise self._error(f"cannot be used: {problem}")

    def _open(self, path: Path) -> FileIO:
        try:
            file = path.open("a+b", buffering=0)
        except OSError as exc:
            problem = exc.strerror or str(exc)
        else:
            if not path.is_file():
                problem = "it is not a regular file"
            elif not lock(file) or not _is_still(os.fstat(file.fileno()), path):
                problem = "another run is writing it"
            else:
                return file
            file.close()
        raise self._error(f"cannot be used: {problem}")

    def _begin(self, *, resume: bool, retry_failed: bool) -> None:
        self._identity = os.fstat(self._file.fileno())
        self._size = self._identity.st_size
        if self._size and not resume:
            raise self._error("is there already: resume it (resume=True, --resume), or give another file")
        self._repair(self._take_in())
        self._begun = self._size
        if retry_failed:
            self._retried, self._failed = self._failed, {}
            self.finished -= self._retried.keys() - self._also_ok
        self.failed = self._failed.keys() - self._also_ok

    def _take_in(self) -> Line | None:
        """Note what is finished; returns the last line that is not blank."""
        damage, last = Damage(self.path), None
        is_first = True
        with self._target.open("rb") as file:
            for line in read_lines(file, self._size):
                last, problem = last if line.is_blank else line, None
                for entry in line.entries:
                    if entry.record["run"] == self._run:
                        self._note(entry, line)
                    elif is_first:
                        raise self._error(
                            f"holds results of another run (skill, arguments or model differ in line {line.number})"
                        )
                    else:
                        problem = "it is of another run"
                    is_first = False
                damage.add(line, problem)
        damage.warn()
        self.damaged_lines = damage.count
        return last

    def _note(self, entry: Entry, line: Line) -> None:
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
        """Cut off blanks, zeros and a torn line at the end; end a line of which only the end is missing."""
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
        """Cut off what was written of a line."""
        os.ftruncate(self._file.fileno(), self._size)
        self._is_torn = False

    def _sync(self) -> None:
        try:
            os.fsync(self._file.fileno())
        except OSError as exc:
            if exc.errno in _NO_SYNC:
                return
            problem = describe(exc)
        else:
            return
        raise self._error(f"cannot be written: {problem}")

    def _check_unchanged(self) -> None:
        """Raise if what was written is not there any more."""
        self.is_lost = True
        if not _is_still(self._identity, self._target):
            raise self._error(
                "was removed or replaced by another program while the run wrote it; what came since is lost"
            )
        size = os.fstat(self._file.fileno()).st_size
        if size < self._size:
            raise self._error(
                f"was truncated by another program while the run wrote it; {self._size - size:,} bytes of it are lost"
            )
        self.is_lost = False
        if not self._is_torn:
            self._size = size  # another program may have appended something; it stays

    def _compact(self) -> None:
        """Put a copy without the replaced lines in the file's place; it stays as it is if that cannot be done."""
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
    """A replaced entry is in a line with something that cannot be read."""


def _without_replaced(path: Path, size: int) -> Iterator[bytes]:
    """The lines of the file without replaced entries, and without the marks of those that replaced them."""
    replacements = Replacements()
    with path.open("rb") as file, path.open("rb") as copied:
        for line in read_lines(file, size):
            for entry in line.entries:
                replacements.add(entry)
        file.seek(0)
        place = 0
        for line in read_lines(file, size):
            kept = [each for number, each in enumerate(line.entries, place) if number not in replacements.replaced]
            place += len(line.entries)
            if len(kept) == len(line.entries) and not any(entry.retries for entry in kept):
                yield from _copy(copied, line)
            elif line.problem is not None:
                raise _MixedLineError(f"a part of line {line.number} cannot be read")
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


def _is_still(file: os.stat_result, path: Path) -> bool:
    """Whether the path leads to the file that is open; another run may have put a new one there."""
    try:
        return os.path.samestat(file, path.stat())
    except OSError:
        return False
