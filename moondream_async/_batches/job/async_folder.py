"""Use a job's folder from the event loop."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

from ..resource_thread import ResourceThread
from .folder import Folder
from .manifest import BatchFile, Entry, Manifest, unusable

T = TypeVar("T")


class AsyncFolder:
    """A job's folder, held by one call at a time. Its blocking work runs in order, in a thread of its own.

    Args:
        path: As in `Folder`.
        manifest: As in `Folder`.
    """

    def __init__(self, path: Path, manifest: Manifest) -> None:
        self.path = path
        self._thread = ResourceThread(
            path,
            functools.partial(Folder, path, manifest),
            unusable(path, "another call in this process works on the job"),
        )

    async def __aenter__(self) -> Self:
        try:
            self._folder = await self._thread.open()
        except BaseException:
            self._thread.close()
            raise
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._thread.aclose()

    @property
    def manifest(self) -> Manifest:
        """The job and its state."""
        return self._folder.manifest

    async def run(self, work: Callable[[Folder], T]) -> T:
        """Call a blocking function with the folder, in its thread."""
        return await self._thread.run(work, self._folder)

    async def run_sync(self, work: Callable[..., T], *args: object) -> T:
        """Call a blocking function in the folder's thread."""
        return await self._thread.run(work, *args)

    async def save(self) -> None:
        """Write the manifest in its current state."""
        await self._thread.run(self._folder.write, self._folder.snapshot())

    async def add(self, entry: Entry, line: bytes) -> bool:
        """Append a line. Return whether it started a new batch because the previous one was full."""
        return await self._thread.run(self._folder.add, entry, line)

    async def finish_lines(self, items: int) -> None:
        """Mark the job as having all of its lines."""
        await self._thread.run(self._folder.finish_lines, items)

    async def accepted(self, number: int, batch_id: str) -> None:
        """Record that the server accepted a batch."""
        await self._thread.run(self._folder.accepted, number, batch_id)

    async def source_of(self, batch_file: BatchFile) -> Path:
        """Return the path of the file that holds a batch's lines."""
        return await self._thread.run(self._folder.source_of, batch_file)

    async def discard(self) -> None:
        """Delete the job. Nothing of it may be on the server."""
        await self._thread.run(self._folder.discard)

    async def settle(self) -> None:
        """Wait for work that was started by cancelled calls."""
        await self._thread.run(_nothing)


def _nothing() -> None:
    pass
