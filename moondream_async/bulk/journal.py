"""The file of results: one whole line for each item, whatever happens to the process."""

from __future__ import annotations

import math
import os
import secrets
import shutil
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

from ..errors import ResultsFileError
from .files import lock, sync, write_all
from .items import Outcome
from .records import NotARecord, Record, TornLine, from_line, key_of_record, to_outcome

_LONGEST_LINE = 64 * 1024 * 1024


class Journal:
    """Appends lines to a file that no other run may use meanwhile (on POSIX, where files can be locked).

    A line that was torn by a kill, or by a full disk, is cut off when the file is opened, or at once.

    Args:
        path: The file; made if there is none.
        run: Names the run; a file of another run is refused.
        resume: Whether to go on with a file that holds results.
        retry_failed: Whether to forget those that failed, so that they are done again.

    Raises:
        ResultsFileError: The file is something else, of another run, in use, or cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], run: str, *, resume: bool, retry_failed: bool) -> None:
        self.path = os.fspath(path)
        self.finished: set[bytes] = set()
        self.failed: set[bytes] = set()  # those of the finished that failed
        self._retried: dict[bytes, bytes] = {}  # the lines of those that are to be done again
        self._run = run
        self._target = self._real(path)
        self._file = self._open(self._target)
        try:
            self._begin(resume=resume, retry_failed=retry_failed)
        except OSError as exc:
            self._file.close()
            problem = exc.strerror or str(exc)
        except NotARecord as exc:
            self._file.close()
            problem = f"it is no file of results: {exc}"
        except BaseException:
            self._file.close()
            raise
        else:
            return
        raise self._error(f"cannot be used: {problem}")

    def add(self, key: bytes, line: bytes) -> None:
        """Write the line of an item; it has reached the operating system when this returns.

        Raises:
            ResultsFileError: It cannot be written; the file is as it was before.
        """
        if not _is_still(self._file, self._target):
            raise self._error("was removed or replaced while the run wrote it; what came since is lost")
        try:
            write_all(self._file, line)
        except OSError as exc:
            with suppress(OSError):
                os.ftruncate(self._file.fileno(), self._size)
            problem = exc.strerror or str(exc)
        else:
            self._size += len(line)
            self._retried.pop(key, None)
            return
        raise self._error(f"cannot be written: {problem}")

    def before(self, key: bytes) -> Record | None:
        """What the file said of an item that failed, and is done again."""
        line = self._retried.get(key)
        return None if line is None else from_line(line)

    def close(self) -> None:
        """Have all of it on the disk, and let others use the file.

        Raises:
            ResultsFileError: It was removed or replaced meanwhile.
        """
        try:
            for key, line in list(self._retried.items()):  # those whose turn did not come have failed as before
                self.add(key, line)
            sync(self._file.fileno())
            if not _is_still(self._file, self._target):
                raise self._error("was removed or replaced while the run wrote it")
        finally:
            self._file.close()

    def _real(self, path: str | os.PathLike[str]) -> Path:
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
            elif not lock(file) or not _is_still(file, path):
                problem = "another run is writing it"
            else:
                return file
            file.close()
        raise self._error(f"cannot be used: {problem}")

    def _begin(self, *, resume: bool, retry_failed: bool) -> None:
        size = os.fstat(self._file.fileno()).st_size
        if size and not resume:
            raise self._error("is there already: resume it (resume=True, --resume), or give another file")
        self._repair()
        if self.failed and retry_failed:
            self._forget_failed()
        self._size = os.fstat(self._file.fileno()).st_size

    def _repair(self) -> None:
        """Note what is finished, and cut off a torn last line."""
        end = 0
        for number, line in enumerate(_lines(self._target), 1):
            try:
                record = from_line(line, is_first=number == 1)
            except TornLine:
                os.ftruncate(self._file.fileno(), end)
                return
            except NotARecord as exc:
                raise self._error(f"is no file of results: in line {number}, {exc}") from None
            if record["run"] != self._run:
                raise self._error(f"holds results of another run (skill, arguments or model differ in line {number})")
            key = key_of_record(record)
            self.finished.add(key)
            if not record["ok"]:
                self.failed.add(key)
            end += len(line)
            if not line.endswith(b"\n"):  # all of the line but its end was written
                self._file.write(b"\n")
                return

    def _forget_failed(self) -> None:
        """Write the file anew without the failed items; a kill meanwhile leaves the old one."""
        with aside_of(self._target) as path:
            file = self._open(path)
            try:
                shutil.copymode(self._target, path)
                for line in _lines(self._target):
                    record = from_line(line)
                    if record["ok"]:
                        write_all(file, line)
                    else:
                        self._retried[key_of_record(record)] = line
                os.fsync(file.fileno())
                path.replace(self._target)
            except BaseException:
                file.close()
                raise
        self.finished -= self.failed
        self.failed.clear()
        self._file.close()
        self._file = file

    def _error(self, problem: str) -> ResultsFileError:
        return ResultsFileError(f"{self.path!r} {problem}.")


@contextmanager
def aside_of(path: Path) -> Generator[Path]:
    """A new file beside another, to be put in its place; taken away if it is not.

    Raises:
        OSError: None can be made there.
    """
    aside = path.with_name(f".{path.name}.{secrets.token_hex(4)}.tmp")
    aside.touch(exist_ok=False)
    try:
        yield aside
    finally:
        aside.unlink(missing_ok=True)


def read_results(path: str | os.PathLike[str]) -> Iterator[Outcome[Any]]:
    """The outcomes in a file of results, one by one; a torn last line is left out.

    Args:
        path: The file, as `run` wrote it.

    Yields:
        Each item's `Outcome`, its results typed as from the call itself; `.index` counts the lines.

    Raises:
        ResultsFileError: It cannot be read, or is no file of results.
    """
    for index, record in enumerate(read_records(path)):
        try:
            outcome = to_outcome(index, record)
        except NotARecord as exc:
            problem = f"is no file of results: in line {index + 1}, {exc}"
        else:
            yield outcome
            continue
        raise ResultsFileError(f"{os.fspath(path)!r} {problem}.")


def read_records(path: str | os.PathLike[str], *, size: int | None = None) -> Iterator[Record]:
    """The same as plain dicts, as they are written.

    Args:
        path: As in `read_results`.
        size: Bytes to read, where a run may be writing on; None reads all.

    Raises:
        ResultsFileError: As in `read_results`.
    """
    number = 1
    try:
        for line in _lines(Path(path), size):
            yield from_line(line, is_first=number == 1)
            number += 1
    except TornLine:
        return
    except OSError as exc:
        problem = f"cannot be read: {exc.strerror or exc}"
    except NotARecord as exc:
        problem = f"is no file of results: in line {number}, {exc}"
    else:
        return
    raise ResultsFileError(f"{os.fspath(path)!r} {problem}.")


def _lines(path: Path, size: int | None = None) -> Iterator[bytes]:
    """The lines.

    Raises:
        NotARecord: One is longer than any of ours.
    """
    left = math.inf if size is None else size
    with path.open("rb") as file:
        while left > 0 and (line := file.readline(int(min(_LONGEST_LINE, left)))):
            if len(line) == _LONGEST_LINE and not line.endswith(b"\n"):
                raise NotARecord("it is too long")
            left -= len(line)
            yield line


def _is_still(file: FileIO, path: Path) -> bool:
    """Whether the path leads to the file that is open; another run may have put a new one there."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False
