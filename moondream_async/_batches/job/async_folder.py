"""Use a job's folder from the event loop."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Self, TypeVar

from ..resource_thread import ResourceThread
from .folder import Folder
from .manifest import Manifest, unusable

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

    @property
    def blocking(self) -> Folder:
        """The folder itself; its methods that use the disk belong in `run`."""
        return self._folder

    async def run(self, work: Callable[..., T], *args: object) -> T:
        """Call a blocking function in the folder's thread, after the calls before it, cancelled ones included."""
        return await self._thread.run(work, *args)

    async def save(self) -> None:
        """Write the manifest in its current state."""
        await self.run(self._folder.write, self._folder.snapshot())
