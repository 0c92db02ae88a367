"""Items that could not be made lines, and why: each time the job is gone on with they are tried again; blocking."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from ..._bulk import records
from ..._bulk.atomic_files import sync, write_all
from ...errors import MoondreamError
from .line_index import read_entries, readable, writable
from .manifest import Entry, Manifest, data_of

_FILE = "refused.jsonl"


class RejectedItems:
    """The refusals of one pass over the items; those of the last one stand until it is finished.

    Args:
        path: The job's folder.
        manifest: What it says.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self._path = path
        self._manifest = manifest
        self._old: defaultdict[bytes, list[int]] = defaultdict(list)  # their places
        for entry, _ in read_refused(path, manifest):
            self._old[entry.key].append(entry.item)
        self._aside = (path / f"{_FILE}.new").open("wb", buffering=0)
        self.count = 0
        self.first: tuple[Entry, MoondreamError] | None = None

    @property
    def places(self) -> list[int]:
        """Those of the items that were refused before."""
        return [place for places in self._old.values() for place in places]

    def came_round(self, key: bytes) -> int | None:
        """An item has come; the place that it had, if it was refused before."""
        places = self._old.get(key)
        return places.pop(0) if places else None

    def add(self, entry: Entry, error: MoondreamError) -> None:
        """It cannot be sent."""
        data = {**data_of(entry, self._manifest), "error": records.error_fields(error)}
        with writable(self._path):
            write_all(self._aside, records.as_json(data) + b"\n")
        self.count += 1
        self.first = self.first or (entry, error)

    def finish(self) -> None:
        """All items have come: what did not come round is as it was."""
        for entry, error in list(read_refused(self._path, self._manifest)):
            if entry.item in self._old.get(entry.key, ()):
                self.add(entry, error)
        with writable(self._path):
            sync(self._aside.fileno())
            self.close()
            aside = self._path / f"{_FILE}.new"
            aside.replace(self._path / _FILE)
            if not self.count:
                (self._path / _FILE).unlink()

    def close(self) -> None:
        """Leave it unfinished."""
        self._aside.close()


def read_refused(path: Path, manifest: Manifest) -> Iterator[tuple[Entry, MoondreamError]]:
    """Yield the items that could not be made lines, and why.

    Raises:
        BatchError: The file cannot be read.
    """
    file = path / _FILE
    for entry, data in read_entries(file, manifest):
        with readable(file):
            error = records.error_of(data["error"], 0)
        yield entry, error
