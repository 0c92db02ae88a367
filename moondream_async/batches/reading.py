"""What is known of a job, and the outcomes of its items, read from the server's files and from its folder."""

from __future__ import annotations

import functools
import os
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeAlias, cast

from ..bulk.items import Outcome
from ..errors import BatchError, ConfigurationError
from ..net.files import Files
from ..net.threads import beside
from .handing import read_job
from .index import Index, opened_index
from .manifest import MANIFEST, Entry, Manifest, read_manifest
from .output import Output
from .refusals import read_refused
from .types import UNKNOWN, Batch, BatchJob

AnyJob: TypeAlias = BatchJob | Batch | str | os.PathLike[str]
"""A job, a batch, a batch's id, or a job's folder."""

Told: TypeAlias = tuple[Entry | None, Outcome[Any]]
"""The outcome of an item; and what its line is of, if this machine knows."""


_ID = re.compile(r"[\w-]+")


class Reading:
    """Reads jobs of one client.

    Args:
        retrieve: Asks about a batch.
        files: Reads files of results.
        base_url: The server, of which a job's folder has to be.
    """

    def __init__(self, retrieve: Callable[[str], Awaitable[Batch]], files: Callable[[], Files], base_url: str) -> None:
        self._retrieve = retrieve
        self._files = files
        self._base_url = base_url

    async def known(self, job: object) -> BatchJob:
        """What is known of a job, without asking the server."""
        if isinstance(job, BatchJob):
            return job
        if isinstance(job, Batch):
            return BatchJob(batches=(job,))
        if isinstance(job, str) and _ID.fullmatch(job) and not await beside(is_folder, job):
            return BatchJob(batches=(Batch(id=job, status=UNKNOWN),))
        if not isinstance(job, (str, os.PathLike)):
            raise ConfigurationError(
                f"job must be what create() returned, a batch or its id, or the job's folder, not {job!r}."
            )
        path = path_of(cast("str", job))
        known = await beside(read_job, path)
        await self.check_server(path)
        return known

    async def check_server(self, path: Path) -> Manifest:
        """What a folder says, if it is of this server.

        Raises:
            BatchError: It is not.
        """
        manifest = await beside(read_manifest, path)
        if manifest.base_url != self._base_url:
            raise BatchError(f"The job in {str(path)!r} is of another server, {manifest.base_url}.", code="folder")
        return manifest

    async def outcomes(self, job: AnyJob) -> AsyncGenerator[Outcome[Any]]:
        """The outcome of each item."""
        async with aclosing(self.told(job)) as told:
            async for _, outcome in told:
                yield outcome

    async def told(self, job: AnyJob) -> AsyncGenerator[Told]:
        """The same, with what each line is of.

        Raises:
            BatchError: The job is not finished.
        """
        known = await self.known(job)
        fresh = {batch.id: await self._retrieve(batch.id) for batch in known.batches}
        for batch in fresh.values():
            if not batch.finished:
                raise BatchError(
                    f"Batch {batch.id} is not finished ({batch.status}); wait for it first.",
                    code="not_completed",
                    batch_id=batch.id,
                )
        parts = self._without_folder(fresh) if known.folder is None else self._in_folder(known.folder, fresh)
        async with aclosing(parts) as told:
            async for one in told:
                yield one

    async def _without_folder(self, fresh: dict[str, Batch]) -> AsyncGenerator[Told]:
        for batch in fresh.values():
            async with aclosing(self._output(batch, None).outcomes()) as outcomes:
                async for one in outcomes:
                    yield one

    async def _in_folder(self, path: Path, fresh: dict[str, Batch]) -> AsyncGenerator[Told]:
        manifest = await beside(read_manifest, path)
        for entry, error in await beside(lambda path: list(read_refused(path, manifest)), path):
            yield entry, Outcome(entry.item, entry.id, None, error, 0, 0.0)
        for number, portion in enumerate(manifest.portions):
            with opened_index(path, manifest, number) as index:
                if portion.cancelled:
                    cancelled = BatchError("The item was not handed in: the job was cancelled.", code="cancelled")
                    for entry in (index[place] for place in range(len(index))):
                        yield entry, Outcome(entry.item, entry.id, None, cancelled, 0, 0.0)
                    continue
                async with aclosing(self._output(fresh[portion.batch_id or ""], index).outcomes()) as outcomes:
                    async for one in outcomes:
                        yield one

    def _output(self, batch: Batch, index: Index | None) -> Output:
        return Output(self._files(), batch, functools.partial(self._retrieve, batch.id), index)


def is_folder(text: str) -> bool:
    """Whether a text names a job's folder; else it is a batch's id."""
    return (Path(text) / MANIFEST).is_file()


def path_of(path: object) -> Path:
    """A path as it is from anywhere.

    Raises:
        ConfigurationError: It is none.
    """
    if isinstance(path, (str, os.PathLike)):
        return Path(os.path.abspath(cast("str", path)))  # noqa: PTH100 - links stay links
    raise ConfigurationError(f"path must be a str or Path, not {type(path).__name__}.")
