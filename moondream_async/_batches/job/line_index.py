"""What each line of a batch is of, read from a job's folder; blocking."""

from __future__ import annotations

import json
from array import array
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .manifest import NOT_OURS, Entry, Manifest, entry_of, unusable


class Index:
    """The entries of one batch, by line; only where they begin is in memory.

    Args:
        path: The job's folder.
        manifest: What it says.
        number: The portion's.
    """

    def __init__(self, path: Path, manifest: Manifest, number: int) -> None:
        self._path = index_of(path, number)
        self._manifest = manifest
        self._starts = array("Q")
        self._file = self._path.open("rb")
        at = 0
        for line in self._file:
            self._starts.append(at)
            at += len(line)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, line_index: int) -> Entry:
        """Read an entry.

        Raises:
            BatchError: It cannot be read.
        """
        with readable(self._path):
            self._file.seek(self._starts[line_index])
            return entry_of(json.loads(self._file.readline()), self._manifest)

    def by_id(self) -> dict[str, int | None]:
        """The line that has each id; None if several have it. In memory: for results that name no lines."""
        found: dict[str, int | None] = {}
        for line_index in range(len(self)):
            name = json.dumps(self[line_index].id)
            found[name] = None if name in found else line_index
        return found

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def open_index(path: Path, manifest: Manifest, number: int) -> Index:
    """Open the index of a batch.

    Raises:
        BatchError: It cannot be read.
    """
    with readable(index_of(path, number)):
        return Index(path, manifest, number)


def index_of(path: Path, number: int) -> Path:
    """Return the file of a portion's index."""
    return path / f"{number:03}.index"


def read_entries(path: Path, manifest: Manifest) -> Iterator[tuple[Entry, dict[str, Any]]]:
    """Yield the entry of each whole line of a file, and the line; none, if the file is not there.

    Raises:
        BatchError: It cannot be read.
    """
    for data in _json_lines(path):
        with readable(path):
            entry = entry_of(data, manifest)
        yield entry, data


@contextmanager
def readable(path: Path) -> Generator[None]:
    """Turn what reading a file of a job's folder raises into an error that names it.

    Raises:
        BatchError: It cannot be read.
    """
    try:
        yield
    except OSError as exc:
        problem = f"{path.name} cannot be read: {exc.strerror or exc}"
    except NOT_OURS as exc:
        problem = f"{path.name} is damaged: {exc}"
    else:
        return
    raise unusable(path.parent, problem)


@contextmanager
def writable(path: Path) -> Generator[None]:
    """Turn what writing to a job's folder raises into an error that names it.

    Raises:
        BatchError: It cannot be written.
    """
    try:
        yield
    except OSError as exc:
        problem = exc.strerror or str(exc)
    else:
        return
    raise unusable(path, problem)


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with readable(path):
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return
    with file:
        while True:
            with readable(path):
                line = file.readline()
                if not line.endswith(b"\n"):  # the end; or a kill, or a process at work, left it so
                    return
                data = json.loads(line)
            yield data
