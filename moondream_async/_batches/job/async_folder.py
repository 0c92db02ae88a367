"""A job's folder for code on the event loop."""

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
    """A job's folder, held by one call at a time, with its blocking work done in order in a thread of its own.

    Args:
        path: As in `Folder`.
        wanted: As in `Folder`.
    """

    def __init__(self, path: Path, wanted: Manifest) -> None:
        self.path = path
        self._thread = ResourceThread(
            path,
            functools.partial(Folder, path, wanted),
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
        """What the job is, and how far it has come."""
        return self._folder.manifest

    async def run(self, work: Callable[[Folder], T]) -> T:
        """Do something else with the folder."""
        return await self._thread.run(work, self._folder)

    async def save(self) -> None:
        """Write the manifest, as it is now."""
        await self._thread.run(self._folder.write, self._folder.snapshot())

    async def add(self, entry: Entry, line: bytes) -> bool:
        """Add a line; returns whether it began a new batch, as the last one is full."""
        return await self._thread.run(self._folder.add, entry, line)

    async def finish_lines(self, items: int) -> None:
        """Note that the job has all of its lines."""
        await self._thread.run(self._folder.finish_lines, items)

    async def accepted(self, number: int, batch_id: str) -> None:
        """Note that the server has accepted a batch."""
        await self._thread.run(self._folder.accepted, number, batch_id)

    async def source_of(self, portion: BatchFile) -> Path:
        """Return the file in which a portion's lines are."""
        return await self._thread.run(self._folder.source_of, portion)

    async def discard(self) -> None:
        """Delete all of it."""
        await self._thread.run(self._folder.discard)

    async def settle(self) -> None:
        """Wait for what was begun by a call that has been cancelled."""
        await self._thread.run(_nothing)


def _nothing() -> None:
    pass
