"""Read the entries of a batch's lines from a job's folder; blocking."""

from __future__ import annotations

import json
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from .manifest import Entry, Manifest, entry_of, file_errors


class Index:
    """The entries of one batch, by line. Only their offsets are in memory.

    Args:
        path: The job's folder.
        manifest: The job's manifest.
        number: The batch's number in the job.

    Raises:
        BatchError: The index cannot be read.
    """

    def __init__(self, path: Path, manifest: Manifest, number: int) -> None:
        self._path = index_of(path, number)
        self._manifest = manifest
        self._starts = array("Q")
        with file_errors(self._path):
            self._file = self._path.open("rb")
            offset = 0
            for line in self._file:
                self._starts.append(offset)
                offset += len(line)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, line_index: int) -> Entry:
        """Read an entry.

        Raises:
            BatchError: The entry cannot be read.
        """
        with file_errors(self._path):
            self._file.seek(self._starts[line_index])
            return entry_of(json.loads(self._file.readline()), self._manifest)

    def by_id(self) -> dict[str, int | None]:
        """Return the line of each id, or None for an id of several lines.

        This holds all ids in memory, so it is only for results without line numbers.
        """
        lines: dict[str, int | None] = {}
        for line_index in range(len(self)):
            name = json.dumps(self[line_index].id)
            lines[name] = None if name in lines else line_index
        return lines

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def index_of(path: Path, number: int) -> Path:
    """Return the path of a batch's index."""
    return path / f"{number:03}.index"


def read_entries(path: Path, manifest: Manifest) -> Iterator[tuple[Entry, dict[str, Any]]]:
    """Yield the entry of each complete line of a file, and the line's data. A missing file has no lines.

    Raises:
        BatchError: The file cannot be read.
    """
    for data in _json_lines(path):
        with file_errors(path):
            entry = entry_of(data, manifest)
        yield entry, data


def _json_lines(path: Path) -> Iterator[dict[str, Any]]:
    with file_errors(path):
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return
    with file:
        while True:
            with file_errors(path):
                line = file.readline()
                if not line.endswith(b"\n"):  # the end, or a line cut by a kill or still being written
                    return
                data = json.loads(line)
            yield data
