"""Keep a job on this machine's disk, so that any process can resume it; blocking.

```
captions.batch/
  manifest.json   the job and the state of each batch; replaced atomically
  000.jsonl       the lines of a batch, until the server accepts it
  000.index       the entry of each line: item, id, arguments, image size
  refused.jsonl   items that cannot be sent, and why
  lock            locked by the process that works on the job
```
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import secrets
import sys
import time
from collections import Counter
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any, TypeAlias

import attrs

from ..._bulk import records
from ..._bulk.atomic_files import commit, lock, sync, write_all
from ..._concurrency.closing import Closing
from ...errors import BatchFolderError, ConfigurationError
from .. import wire
from .line_index import index_of, read_entries
from .manifest import MANIFEST, BatchFile, Entry, Manifest, data_of, folder_errors, read_manifest, unusable
from .rejected import RejectedItems

Snapshot: TypeAlias = tuple[int, bytes]
"""A serialized manifest and its number; newer ones have higher numbers."""

_JOB_FILES = re.compile(r"\d{3,}\.(jsonl|index)|(manifest\.json|refused\.jsonl)(\.new)?|lock")


class SubmittedItems:
    """The items that have lines already, and their positions in the job.

    Attributes:
        keys: How many lines each key has that no item of this pass has taken yet.
    """

    def __init__(self) -> None:
        self.keys: Counter[bytes] = Counter()
        self._positions: set[int] = set()
        self._next = 0

    def add(self, entry: Entry) -> None:
        """Add an item that has a line."""
        self.keys[entry.key] += 1
        self._positions.add(entry.item)
        self._next = max(self._next, entry.item + 1)

    def reserve(self, positions: list[int]) -> None:
        """Reserve the positions of rejected items."""
        self._positions.update(positions)
        self._next = max([self._next, *(position + 1 for position in positions)])

    def take(self, key: bytes) -> bool:
        """Take one line for an item. Return False if none is left, that is, if the item is new."""
        if not self.keys[key]:
            return False
        self.keys[key] -= 1
        return True

    def assign(self, preferred: int) -> int:
        """Assign a position to a new item: the preferred one if it is free, else one after all others."""
        position = preferred if preferred not in self._positions else max(self._next, preferred + 1)
        self._positions.add(position)
        self._next = max(self._next, position + 1)
        return position


def default_folder() -> Path:
    """Return the path of a new folder in the user's state directory."""
    if sys.platform == "win32":
        base = os.getenv("LOCALAPPDATA") or _home() / "AppData" / "Local"
    else:
        base = os.getenv("XDG_STATE_HOME") or _home() / ".local" / "state"
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(3)}"
    return Path(base) / "moondream-async" / "batches" / name


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        raise ConfigurationError("There is no home directory for the job's folder; pass folder= (--job).") from None


class Folder(Closing):
    """The folder of a job that this process works on.

    Args:
        path: The folder; created if it does not exist.
        manifest: The expected job.

    Raises:
        BatchError: The folder holds another job, or another process works on it.
        BatchFolderError: The folder cannot be created or written.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self.manifest = manifest
        self._stack = contextlib.ExitStack()
        self._lines: FileIO | None = None
        self._index: FileIO | None = None
        self._order = itertools.count(1)  # of snapshots
        self._written = 0  # number of the latest snapshot on the disk
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Release the lock, so that other processes can work on the job."""
        self._stack.close()

    def save(self) -> None:
        """Write the manifest atomically."""
        self.write(self.snapshot())

    def snapshot(self) -> Snapshot:
        """Serialize the manifest in its current state; not blocking."""
        return next(self._order), json.dumps(attrs.asdict(self.manifest), indent=1).encode()

    def write(self, snapshot: Snapshot) -> None:
        """Write a snapshot, unless a newer one was written before."""
        with folder_errors(self.path):
            self._write(snapshot)

    def submitted_items(self) -> SubmittedItems:
        """Return the items that have lines."""
        submitted = SubmittedItems()
        for number in range(len(self.manifest.portions)):
            for entry, _ in read_entries(index_of(self.path, number), self.manifest):
                submitted.add(entry)
        return submitted

    def rejected_items(self) -> RejectedItems:
        """Start a new pass over all items, in which rejected ones are recorded."""
        with folder_errors(self.path):
            rejected = RejectedItems(self.path, self.manifest)
        self._stack.callback(rejected.close)
        return rejected

    def add(self, entry: Entry, line: bytes) -> bool:
        """Append a line. Return whether it started a new batch because the previous one was full."""
        with folder_errors(self.path):
            return self._add(entry, line)

    @contextmanager
    def index_writer(self) -> Generator[Callable[[int, Entry], None]]:
        """Yield a function that writes the entries of a ready file's lines to the index of their batch."""
        files: dict[int, FileIO] = {}

        def add_entry(number: int, entry: Entry) -> None:
            with folder_errors(self.path):
                if number not in files:
                    files[number] = stack.enter_context(index_of(self.path, number).open("wb", buffering=0))
                write_all(files[number], records.as_json(data_of(entry, self.manifest)) + b"\n")

        with contextlib.ExitStack() as stack:
            yield add_entry
            with folder_errors(self.path):
                for file in files.values():
                    sync(file.fileno())

    def discard(self) -> None:
        """Delete the job. Nothing of it may be on the server."""
        with folder_errors(self.path):
            self._clear()
        with suppress(OSError):
            self._remove()

    def _remove(self) -> None:
        self._clear()
        (self.path / "lock").unlink(missing_ok=True)
        self.path.rmdir()  # raises if it holds other files

    def _clear(self) -> None:
        files = [path for path in self.path.iterdir() if _JOB_FILES.fullmatch(path.name) and path.name != "lock"]
        for path in sorted(files, key=lambda path: path.name == MANIFEST):  # last: with it, the job exists
            path.unlink(missing_ok=True)

    def finish_lines(self, items: int) -> None:
        """Mark the job as having all of its lines.

        Args:
            items: The number of items, rejected ones included.
        """
        with folder_errors(self.path):
            self._close_batch_file()
            self.manifest.closed, self.manifest.items = True, items
            self._save()

    def accepted(self, number: int, batch_id: str) -> None:
        """Record that the server accepted a batch, and delete its lines, which are no longer needed."""
        batch_file = self.manifest.portions[number]
        batch_file.batch_id = batch_id
        self.save()
        if self.manifest.source is None:
            with suppress(OSError):
                (self.path / batch_file.file).unlink()

    def source_of(self, batch_file: BatchFile) -> Path:
        """Return the path of the file that holds a batch's lines.

        Raises:
            BatchError: The file is gone, or changed since the job was created.
        """
        path = self.path / batch_file.file  # a ready file's path is absolute
        with folder_errors(self.path):
            stamp = stamp_of(path)
        if self.manifest.source is not None and stamp != self.manifest.source:
            raise unusable(self.path, f"{str(path)!r} changed since the job was created")
        if stamp[1] < batch_file.start + batch_file.length:
            raise unusable(self.path, f"{batch_file.file!r} was truncated")
        return path

    def _begin(self) -> None:
        is_new = not os.path.lexists(self.path)
        invalid = "" if is_new else "it contains invalid data: "
        try:
            with folder_errors(self.path, invalid=invalid, error=BatchFolderError):
                self._open()
        except BatchFolderError:
            if is_new:
                with suppress(OSError, ValueError):
                    self._remove()
            raise

    def _open(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock_file = self._stack.enter_context((self.path / "lock").open("a+b", buffering=0))
        if not lock(lock_file):
            raise unusable(self.path, "another process works on the job")
        if (self.path / MANIFEST).exists():
            self._resume()
        elif all(_JOB_FILES.fullmatch(entry.name) for entry in self.path.iterdir()):
            self._clear()  # left by a kill while a job was created or deleted
            self._save()
        else:
            raise unusable(self.path, "it holds other files")

    def _resume(self) -> None:
        found = read_manifest(self.path)
        if not found.portions and not found.closed:  # it has no lines yet
            self._clear()
            self._save()
            return
        if found.task != self.manifest.task:
            raise unusable(self.path, "it holds another job (server, model, skill, arguments or ready file differ)")
        self.manifest = found
        if found.portions and not found.portions[-1].closed:
            self._reopen(found.portions[-1])

    def _reopen(self, batch_file: BatchFile) -> None:
        """Reopen the last batch, and cut off what a kill left incomplete."""
        number = len(self.manifest.portions) - 1
        index, lines = index_of(self.path, number), self.path / batch_file.file
        size = lines.stat().st_size if lines.exists() else 0
        batch_file.length = batch_file.lines = kept = 0
        if index.exists():
            _cut_torn_line(index)
            with index.open("rb") as file:
                for line in file:
                    end = json.loads(line)["end"]
                    if end > size:  # the index reached the disk, the lines did not
                        break
                    batch_file.length, batch_file.lines, kept = end, batch_file.lines + 1, kept + len(line)
            os.truncate(index, kept)
        self._open_files(batch_file)
        assert self._lines is not None
        os.ftruncate(self._lines.fileno(), batch_file.length)

    def _add(self, entry: Entry, line: bytes) -> bool:
        batch_file = self.manifest.portions[-1] if self.manifest.portions else None
        starts_new = False
        if batch_file is not None and not batch_file.closed and _is_full(batch_file, len(line)):
            self._close_batch_file()
        if batch_file is None or batch_file.closed:
            starts_new = batch_file is not None
            batch_file = self._new_batch_file()
        assert self._lines is not None
        assert self._index is not None
        write_all(self._lines, line)
        batch_file.length, batch_file.lines = batch_file.length + len(line), batch_file.lines + 1
        write_all(self._index, records.as_json({**data_of(entry, self.manifest), "end": batch_file.length}) + b"\n")
        return starts_new

    def _new_batch_file(self) -> BatchFile:
        batch_file = BatchFile(f"{len(self.manifest.portions):03}.jsonl")
        self.manifest.portions.append(batch_file)
        self._open_files(batch_file)
        self._save()
        return batch_file

    def _open_files(self, batch_file: BatchFile) -> None:
        number = len(self.manifest.portions) - 1
        self._lines = self._stack.enter_context((self.path / batch_file.file).open("ab", buffering=0))
        self._index = self._stack.enter_context(index_of(self.path, number).open("ab", buffering=0))

    def _close_batch_file(self) -> None:
        if self._lines is None or self._index is None:
            return
        for file in (self._lines, self._index):
            sync(file.fileno())
            file.close()
        self._lines = self._index = None
        self.manifest.portions[-1].closed = True
        self._save()

    def _save(self) -> None:
        self._write(self.snapshot())

    def _write(self, snapshot: Snapshot) -> None:
        number, data = snapshot
        if number < self._written:
            return
        with (self.path / f"{MANIFEST}.new").open("wb", buffering=0) as file:
            write_all(file, data)
            commit(file, self.path / MANIFEST)
        self._written = number


def stamp_of(path: Path) -> list[Any]:
    """Return the path, size and modification time of a file, to detect changes."""
    status = path.stat()
    return [str(path), status.st_size, status.st_mtime_ns]


def _is_full(batch_file: BatchFile, more: int) -> bool:
    return batch_file.lines >= wire.MAX_LINES or batch_file.length + more > wire.MAX_BATCH_SIZE


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    kept = 0
    with path.open("rb") as file:
        for line in file:
            kept += len(line) if line.endswith(b"\n") else 0
    os.truncate(path, kept)
