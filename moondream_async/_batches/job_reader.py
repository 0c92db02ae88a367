"""What is known of a job, and the outcomes of its items, read from the server's files and from its folder."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeAlias, cast

from .._bulk.items import Outcome
from .._concurrency.threads import run_in_thread
from .._http.presigned_download import Files
from ..errors import APIError, BatchError, ConfigurationError, MoondreamError, NotFoundError
from .job.line_index import Index, open_index
from .job.manifest import MANIFEST, Entry, Manifest, path_of, read_manifest
from .job.rejected import read_refused
from .models import UNKNOWN, Batch, BatchJob
from .results import Output
from .submission import read_job

AnyJob: TypeAlias = BatchJob | Batch | str | os.PathLike[str]
"""A job, a batch, a batch's id, or a job's folder."""

Told: TypeAlias = tuple[Entry | None, Outcome[Any]]
"""The outcome of an item; and what its line is of, if this machine knows."""


_ID = re.compile(r"[\w-]+")


class JobReader:
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
        if isinstance(job, str) and is_batch_id(job) and not await run_in_thread(is_folder, job):
            return BatchJob(batches=(Batch(id=job, status=UNKNOWN),))
        if not isinstance(job, (str, os.PathLike)):
            raise ConfigurationError(
                f"job must be what create() returned, a batch or its id, or the job's folder, not {job!r}."
            )
        path = path_of(cast("str", job))
        known = await run_in_thread(read_job, path)
        await self.check_server(path)
        return known

    async def check_server(self, path: Path) -> Manifest:
        """What a folder says, if it is of this server.

        Raises:
            BatchError: It is not.
        """
        manifest = await run_in_thread(read_manifest, path)
        if manifest.base_url != self._base_url:
            raise BatchError(f"The job in {str(path)!r} is of another server, {manifest.base_url}.", code="folder")
        return manifest

    async def finished(self, job: AnyJob) -> BatchJob:
        """Return a job, if it is finished.

        Raises:
            BatchError: It is not.
            NotFoundError: None of its batches is there.
        """
        known = await self.known(job)
        await self._fresh(known)
        return known

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
        fresh, failed = await self._fresh(known)
        outputs = self._without_folder(fresh) if known.folder is None else self._in_folder(known.folder, fresh)
        async with aclosing(outputs) as each:
            async for one in each:
                if isinstance(one, MoondreamError):
                    failed = failed or one
                else:
                    yield one
        if failed is not None:
            raise failed

    async def _fresh(self, job: BatchJob) -> tuple[dict[str, Batch], MoondreamError | None]:
        """Ask about each batch; one that is gone does not keep the others from being read.

        Raises:
            BatchError: One is not finished.
        """
        fresh: dict[str, Batch] = {}
        gone: NotFoundError | None = None
        for batch in job.batches:
            try:
                fresh[batch.id] = await self._retrieve(batch.id)
            except NotFoundError as exc:
                gone = gone or exc
        if gone is not None and not fresh:
            raise gone
        for batch in fresh.values():
            if not batch.finished:
                raise BatchError(
                    f"Batch {batch.id} is not finished ({batch.status}); wait for it first.",
                    code="not_completed",
                    batch_id=batch.id,
                )
        return fresh, gone

    async def _without_folder(self, fresh: dict[str, Batch]) -> AsyncGenerator[Told | MoondreamError]:
        for batch in fresh.values():
            async with aclosing(self._of_batch(batch, None)) as outcomes:
                async for one in outcomes:
                    yield one

    async def _in_folder(self, path: Path, fresh: dict[str, Batch]) -> AsyncGenerator[Told | MoondreamError]:
        manifest = await run_in_thread(read_manifest, path)
        for entry, error in await run_in_thread(lambda path: list(read_refused(path, manifest)), path):
            yield entry, Outcome(entry.item, entry.id, None, error, 0, 0.0)
        for number, portion in enumerate(manifest.portions):
            batch = fresh.get(portion.batch_id or "")
            if batch is None and not portion.cancelled:
                continue
            index = await run_in_thread(functools.partial(open_index, path, manifest), number)
            with contextlib.closing(index):
                if batch is None:
                    cancelled = BatchError("The item was not handed in: the job was cancelled.", code="cancelled")
                    for entry in (index[place] for place in range(len(index))):
                        yield entry, Outcome(entry.item, entry.id, None, cancelled, 0, 0.0)
                    continue
                async with aclosing(self._of_batch(batch, index)) as outcomes:
                    async for one in outcomes:
                        yield one

    async def _of_batch(self, batch: Batch, index: Index | None) -> AsyncGenerator[Told | MoondreamError]:
        """Yield the outcomes of a batch, and last its error, if there are results that cannot be had."""
        try:
            async with aclosing(self._output(batch, index).outcomes()) as outcomes:
                async for one in outcomes:
                    yield one
        except (APIError, BatchError) as exc:
            failed = exc
        else:
            return
        yield failed

    def _output(self, batch: Batch, index: Index | None) -> Output:
        return Output(self._files(), batch, functools.partial(self._retrieve, batch.id), index)


def is_folder(text: str) -> bool:
    """Whether a text names a job's folder; else it is a batch's id."""
    try:
        return (Path(text) / MANIFEST).is_file()
    except (OSError, ValueError):  # a name that is too long
        return False


def is_batch_id(text: str) -> bool:
    """Whether a text can be a batch's id."""
    return _ID.fullmatch(text) is not None
