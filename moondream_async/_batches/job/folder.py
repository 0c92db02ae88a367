"""A job on this machine's disk: what has been built, sent and accepted, so any process can go on with it; blocking.

```
captions.batch/
  manifest.json   what was asked, and how far each batch has come; always whole
  000.jsonl       the lines of a batch, until it is accepted
  000.index       what each line is of: item, id, arguments, the image's size
  refused.jsonl   items that could not be made lines
  lock            held by the process that works on the job
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
from typing import Any, Self, TypeAlias, TypeVar

import attrs

from ..._bulk import records
from ..._bulk.atomic_files import lock, sync, write_all
from ...errors import BatchFolderError, ConfigurationError
from .. import wire
from .line_index import index_of, read_entries, writable
from .manifest import MANIFEST, NOT_OURS, BatchFile, Entry, Manifest, data_of, read_manifest, unusable
from .rejected import RejectedItems

T = TypeVar("T")

Snapshot: TypeAlias = tuple[int, bytes]
"""A manifest as it is written, and its number: later ones are newer."""

_OURS = re.compile(r"\d{3,}\.(jsonl|index)|(manifest\.json|refused\.jsonl)(\.new)?|lock")


class SubmittedItems:
    """The items that have lines already, and the places that they have among all."""

    def __init__(self) -> None:
        self.keys: Counter[bytes] = Counter()
        self._places: set[int] = set()
        self._next = 0

    def add(self, entry: Entry) -> None:
        """It has one."""
        self.keys[entry.key] += 1
        self._places.add(entry.item)
        self._next = max(self._next, entry.item + 1)

    def reserve(self, places: list[int]) -> None:
        """Keep places for items that have no lines."""
        self._places.update(places)
        self._next = max([self._next, *(place + 1 for place in places)])

    def take(self, key: bytes) -> bool:
        """Whether an item that has come round has a line; each line is one item's."""
        if not self.keys[key]:
            return False
        self.keys[key] -= 1
        return True

    def place(self, wanted: int) -> int:
        """A place for a new item: where it came, if that is free."""
        place = wanted if wanted not in self._places else max(self._next, wanted + 1)
        self._places.add(place)
        self._next = max(self._next, place + 1)
        return place


def default_folder() -> Path:
    """A new folder where the user's programs keep their state."""
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
        pass
    raise ConfigurationError("There is no home directory to keep the job in; pass folder= (--job).")


class Folder:
    """A job that this process works on.

    Args:
        path: The folder; made if there is none.
        wanted: What the job is to be; one of another job is refused.

    Raises:
        BatchError: It is of another job, or another process works on it.
        BatchFolderError: It cannot be made or written.
    """

    def __init__(self, path: Path, wanted: Manifest) -> None:
        self.path = path
        self.manifest = wanted
        self._stack = contextlib.ExitStack()
        self._lines: FileIO | None = None
        self._index: FileIO | None = None
        self._order = itertools.count(1)  # of snapshots
        self._written = 0  # the latest of those on the disk
        try:
            self._begin()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let other processes work on it."""
        self._stack.close()

    def save(self) -> None:
        """Write the manifest: all of it, or what was there before."""
        self.write(self.snapshot())

    def snapshot(self) -> Snapshot:
        """Return the manifest as it is now, as it is written; not blocking."""
        return next(self._order), json.dumps(attrs.asdict(self.manifest), indent=1).encode()

    def write(self, snapshot: Snapshot) -> None:
        """Write a snapshot, unless a newer one is written already."""
        self._run(lambda: self._write(snapshot))

    def known(self) -> SubmittedItems:
        """The items that have lines."""
        known = SubmittedItems()
        for number in range(len(self.manifest.portions)):
            for entry, _ in read_entries(index_of(self.path, number), self.manifest):
                known.add(entry)
        return known

    def refusals(self) -> RejectedItems:
        """Takes the refusals of a new pass over the items."""
        refusals = self._run(lambda: RejectedItems(self.path, self.manifest))
        self._stack.callback(refusals.close)
        return refusals

    def add(self, entry: Entry, line: bytes) -> bool:
        """Put a line in; True if it began a new batch, as the last one is full."""
        return self._run(lambda: self._add(entry, line))

    @contextmanager
    def noting(self) -> Generator[Callable[[int, Entry], None]]:
        """Takes the entries of a ready file's portions, one after the other."""
        open_now: dict[int, FileIO] = {}

        def note(number: int, entry: Entry) -> None:
            with writable(self.path):
                if number not in open_now:
                    open_now[number] = stack.enter_context(index_of(self.path, number).open("wb", buffering=0))
                write_all(open_now[number], records.as_json(data_of(entry, self.manifest)) + b"\n")

        with contextlib.ExitStack() as stack:
            yield note
            with writable(self.path):
                for file in open_now.values():
                    sync(file.fileno())

    def discard(self) -> None:
        """Delete all of it; nothing of the job is on the server."""
        self._run(self._clear)
        with suppress(OSError):
            self._remove()

    def _remove(self) -> None:
        self._clear()
        (self.path / "lock").unlink(missing_ok=True)
        self.path.rmdir()  # if there is nothing else in it

    def _clear(self) -> None:
        ours = [path for path in self.path.iterdir() if _OURS.fullmatch(path.name) and path.name != "lock"]
        for path in sorted(ours, key=lambda path: path.name == MANIFEST):  # as long as it is there, the job is
            path.unlink(missing_ok=True)

    def finish_lines(self, items: int | None = None) -> None:
        """The open portion has all of its lines; with `items`, so has the job."""

        def finish() -> None:
            self._close_portion()
            if items is not None:
                self.manifest.closed, self.manifest.items = True, items
            self._save()

        self._run(finish)

    def accepted(self, number: int, batch_id: str) -> None:
        """The server has a batch; its lines are not needed any more."""
        portion = self.manifest.portions[number]
        portion.batch_id = batch_id
        self.save()
        if self.manifest.source is None:
            with suppress(OSError):
                (self.path / portion.file).unlink()

    def source_of(self, portion: BatchFile) -> Path:
        """The file in which a portion's lines are.

        Raises:
            BatchError: It is gone, or was changed meanwhile.
        """
        path = self.path / portion.file  # a ready file's is absolute
        stamp = self._run(lambda: stamp_of(path))
        if self.manifest.source is not None and stamp != self.manifest.source:
            raise unusable(self.path, f"{str(path)!r} was changed since the job was begun")
        if stamp[1] < portion.start + portion.length:
            raise unusable(self.path, f"{portion.file!r} is shorter than it was")
        return path

    def _run(self, work: Callable[[], T]) -> T:
        try:
            return work()
        except OSError as exc:
            problem = exc.strerror or str(exc)
        except NOT_OURS as exc:
            problem = f"what is in it is not ours: {exc}"
        raise unusable(self.path, problem)

    def _begin(self) -> None:
        is_new = not os.path.lexists(self.path)
        try:
            self._open()
        except OSError as exc:
            problem = exc.strerror or str(exc)
        except NOT_OURS as exc:
            problem = f"what is in it is not ours: {exc}" if not is_new else str(exc)
        else:
            return
        if is_new:
            with suppress(OSError, ValueError):
                self._remove()
        raise BatchFolderError(f"The job's folder {str(self.path)!r} cannot be used: {problem}.", code="folder")

    def _open(self) -> None:
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        held = self._stack.enter_context((self.path / "lock").open("a+b", buffering=0))
        if not lock(held):
            raise unusable(self.path, "another process works on the job")
        if (self.path / MANIFEST).exists():
            self._resume()
        elif all(_OURS.fullmatch(entry.name) for entry in self.path.iterdir()):
            self._clear()  # what a kill left of a job that was begun, or deleted
            self._save()
        else:
            raise unusable(self.path, "it holds something else")

    def _resume(self) -> None:
        found = read_manifest(self.path)
        if not found.portions and not found.closed:  # nothing has come of it
            self._clear()
            self._save()
            return
        if found.task != self.manifest.task:
            raise unusable(
                self.path, "it is of another job (server, model, skill, arguments, or the ready file differ)"
            )
        self.manifest = found
        if found.portions and not found.portions[-1].closed:
            self._reopen(found.portions[-1])

    def _reopen(self, portion: BatchFile) -> None:
        """Go on with the last portion where a kill left it."""
        number = len(self.manifest.portions) - 1
        index, lines = index_of(self.path, number), self.path / portion.file
        size = lines.stat().st_size if lines.exists() else 0
        portion.length = portion.lines = kept = 0
        if index.exists():
            _cut_torn_line(index)
            with index.open("rb") as file:
                for line in file:
                    end = json.loads(line)["end"]
                    if end > size:  # written, and lost by the machine
                        break
                    portion.length, portion.lines, kept = end, portion.lines + 1, kept + len(line)
            os.truncate(index, kept)
        self._open_files(portion)
        assert self._lines is not None
        os.ftruncate(self._lines.fileno(), portion.length)

    def _add(self, entry: Entry, line: bytes) -> bool:
        portion = self.manifest.portions[-1] if self.manifest.portions else None
        begun = False
        if portion is not None and not portion.closed and _is_full(portion, len(line)):
            self._close_portion()
        if portion is None or portion.closed:
            begun = portion is not None
            portion = self._new_portion()
        assert self._lines is not None
        assert self._index is not None
        write_all(self._lines, line)
        portion.length, portion.lines = portion.length + len(line), portion.lines + 1
        write_all(self._index, records.as_json({**data_of(entry, self.manifest), "end": portion.length}) + b"\n")
        return begun

    def _new_portion(self) -> BatchFile:
        portion = BatchFile(f"{len(self.manifest.portions):03}.jsonl")
        self.manifest.portions.append(portion)
        self._open_files(portion)
        self._save()
        return portion

    def _open_files(self, portion: BatchFile) -> None:
        number = len(self.manifest.portions) - 1
        self._lines = self._stack.enter_context((self.path / portion.file).open("ab", buffering=0))
        self._index = self._stack.enter_context(index_of(self.path, number).open("ab", buffering=0))

    def _close_portion(self) -> None:
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
        aside = self.path / f"{MANIFEST}.new"
        with aside.open("wb", buffering=0) as file:
            write_all(file, data)
            sync(file.fileno())
        aside.replace(self.path / MANIFEST)
        self._written = number


def stamp_of(path: Path) -> list[Any]:
    """By what a changed file is known."""
    status = path.stat()
    return [str(path), status.st_size, status.st_mtime_ns]


def _is_full(portion: BatchFile, more: int) -> bool:
    return portion.lines >= wire.MOST_LINES or portion.length + more > wire.LARGEST_BATCH


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    kept = 0
    with path.open("rb") as file:
        for line in file:
            kept += len(line) if line.endswith(b"\n") else 0
    os.truncate(path, kept)
