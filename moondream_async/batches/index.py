"""What each line of a batch is of, read from a job's folder; blocking."""

from __future__ import annotations

import contextlib
import json
from array import array
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .manifest import Entry, Manifest, entry_of, unusable


class Index:
    """The entries of one batch, by line; only where they begin is in memory.

    Args:
        path: The job's folder.
        manifest: What it says.
        number: The portion's.
    """

    def __init__(self, path: Path, manifest: Manifest, number: int) -> None:
        self._manifest = manifest
        self._starts = array("Q")
        self._file = index_of(path, number).open("rb")
        at = 0
        for line in self._file:
            self._starts.append(at)
            at += len(line)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, line_index: int) -> Entry:
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


@contextmanager
def opened_index(path: Path, manifest: Manifest, number: int) -> Generator[Index]:
    """An index, for as long as it is needed.

    Raises:
        BatchError: It cannot be read.
    """
    try:
        index = Index(path, manifest, number)
    except OSError as exc:
        problem = exc.strerror or str(exc)
    else:
        with contextlib.closing(index):
            yield index
        return
    raise unusable(path, problem)


def index_of(path: Path, number: int) -> Path:
    """The file of a portion's index."""
    return path / f"{number:03}.index"


def json_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a file; none, if it is not there."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if line.endswith(b"\n"):  # else a kill, or a process at work, left it so
                yield json.loads(line)
