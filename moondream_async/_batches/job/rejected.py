"""Record the items that cannot be sent, and why. They are tried again when the job is resumed; blocking."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from ..._bulk import records
from ..._bulk.atomic_files import commit, write_all
from ...errors import MoondreamError
from .line_index import read_entries
from .manifest import Entry, Manifest, data_of, file_errors, folder_errors

_FILE = "refused.jsonl"


class RejectedItems:
    """The items rejected in one pass over all items. They replace those of the previous pass once it is finished.

    Args:
        path: The job's folder.
        manifest: The job's manifest.

    Attributes:
        count: How many items were rejected in this pass.
        first: The first of them, and its error.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._path = path
        self._manifest = manifest
        self._previous: defaultdict[bytes, list[int]] = defaultdict(list)  # positions, by key
        for entry, _ in read_rejected(path, manifest):
            self._previous[entry.key].append(entry.item)
        self._new_file = (path / f"{_FILE}.new").open("wb", buffering=0)
        self.count = 0
        self.first: tuple[Entry, MoondreamError] | None = None

    @property
    def positions(self) -> list[int]:
        """Positions of the items that were rejected in the previous pass."""
        return [position for positions in self._previous.values() for position in positions]

    def previous_position(self, key: bytes) -> int | None:
        """Take an item out of the previous pass; return its position, or None if it was not rejected."""
        positions = self._previous.get(key)
        return positions.pop(0) if positions else None

    def add(self, entry: Entry, error: MoondreamError) -> None:
        """Record an item that cannot be sent."""
        data = {**data_of(entry, self._manifest), "error": records.error_fields(error)}
        with folder_errors(self._path):
            write_all(self._new_file, records.as_json(data) + b"\n")
        self.count += 1
        self.first = self.first or (entry, error)

    def finish(self) -> None:
        """Finish the pass. Previously rejected items that did not occur in it stay rejected."""
        for entry, error in list(read_rejected(self._path, self._manifest)):
            if entry.item in self._previous.get(entry.key, ()):
                self.add(entry, error)
        with folder_errors(self._path):
            commit(self._new_file, self._path / _FILE)
            if not self.count:
                (self._path / _FILE).unlink()

    def close(self) -> None:
        """Close the file without finishing the pass."""
        self._new_file.close()


def read_rejected(path: Path, manifest: Manifest) -> Iterator[tuple[Entry, MoondreamError]]:
    """Yield the rejected items and their errors.

    Raises:
        BatchError: The file cannot be read.
    """
    file = path / _FILE
    for entry, data in read_entries(file, manifest):
        with file_errors(file):
            error = records.error_of(data["error"], 0)
        yield entry, error
