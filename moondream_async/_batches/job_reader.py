"""Read a job and the outcomes of its items, from its folder and the server's result files."""

from __future__ import annotations

import contextlib
import functools
import os
import re
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, TypeAlias, cast

from .._api import ApiClient
from .._bulk.outcomes import Outcome, make_outcome
from .._concurrency.threads import run_in_thread
from ..errors import APIError, BatchError, ConfigurationError, MoondreamError, NotFoundError
from .job.line_index import Index
from .job.manifest import MANIFEST, Manifest, path_of, read_manifest
from .job.rejected import read_rejected
from .models import UNKNOWN, Batch, BatchJob
from .results import BatchResults, EntryOutcome
from .retrieval import retrieve
from .submission import read_job

AnyJob: TypeAlias = BatchJob | Batch | str | os.PathLike[str]
"""A job, a batch, a batch's id, or a job's folder."""

_ID = re.compile(r"[\w-]+")


class JobReader:
    """Reads jobs for one client.

    Args:
        api: Sends the requests. Job folders of servers other than its own are rejected.
    """

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    async def known(self, job: object) -> BatchJob:
        """Return what is known of a job without a request.

        Raises:
            BatchError: The folder is not a job's folder, is for another server, or was not submitted completely.
            ConfigurationError: The argument cannot be a job.
        """
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
        """Read a folder's manifest, and check that the job is for this server.

        Raises:
            BatchError: The job is for another server.
        """
        manifest = await run_in_thread(read_manifest, path)
        if manifest.base_url != self._api.base_url:
            raise BatchError(f"The job in {str(path)!r} is for another server, {manifest.base_url}.", code="folder")
        return manifest

    async def finished(self, job: AnyJob) -> BatchJob:
        """Return a job, provided that it is finished.

        Raises:
            BatchError: The job is not finished.
            NotFoundError: The server has none of its batches.
        """
        known = await self.known(job)
        await self._retrieve_all(known)
        return known

    async def outcomes(self, job: AnyJob) -> AsyncGenerator[Outcome[Any]]:
        """Yield the outcome of each item."""
        async with aclosing(self.entry_outcomes(job)) as entry_outcomes:
            async for _, outcome in entry_outcomes:
                yield outcome

    async def entry_outcomes(self, job: AnyJob) -> AsyncGenerator[EntryOutcome]:
        """Yield the outcome of each item, with its entry if this machine knows it.

        Raises:
            BatchError: The job is not finished.
        """
        known = await self.known(job)
        fresh, failed = await self._retrieve_all(known)
        outputs = self._without_folder(fresh) if known.folder is None else self._in_folder(known.folder, fresh)
        async with aclosing(outputs) as each:
            async for output in each:
                if isinstance(output, MoondreamError):
                    failed = failed or output
                else:
                    yield output
        if failed is not None:
            raise failed

    async def _retrieve_all(self, job: BatchJob) -> tuple[dict[str, Batch], MoondreamError | None]:
        """Fetch the state of each batch. If only some are gone, return the error with the others.

        Raises:
            BatchError: A batch is not finished.
            NotFoundError: All batches are gone.
        """
        fresh: dict[str, Batch] = {}
        gone: NotFoundError | None = None
        for batch in job.batches:
            try:
                fresh[batch.id] = await retrieve(self._api, batch.id)
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

    async def _without_folder(self, fresh: dict[str, Batch]) -> AsyncGenerator[EntryOutcome | MoondreamError]:
        for batch in fresh.values():
            async with aclosing(self._of_batch(batch, None)) as outcomes:
                async for one in outcomes:
                    yield one

    async def _in_folder(self, path: Path, fresh: dict[str, Batch]) -> AsyncGenerator[EntryOutcome | MoondreamError]:
        manifest = await run_in_thread(read_manifest, path)
        for entry, error in await run_in_thread(lambda path: list(read_rejected(path, manifest)), path):
            yield entry, make_outcome(entry.item, entry.id, None, error, 0, 0.0)
        for number, batch_file in enumerate(manifest.portions):
            batch = fresh.get(batch_file.batch_id or "")
            if batch is None and not batch_file.cancelled:
                continue
            index = await run_in_thread(functools.partial(Index, path, manifest), number)
            with contextlib.closing(index):
                if batch is None:
                    cancelled = BatchError("The item was not submitted: the job was cancelled.", code="cancelled")
                    for entry in (index[line] for line in range(len(index))):
                        yield entry, make_outcome(entry.item, entry.id, None, cancelled, 0, 0.0)
                    continue
                async with aclosing(self._of_batch(batch, index)) as outcomes:
                    async for one in outcomes:
                        yield one

    async def _of_batch(self, batch: Batch, index: Index | None) -> AsyncGenerator[EntryOutcome | MoondreamError]:
        """Yield the outcomes of a batch, and finally the error if some results cannot be read."""
        try:
            async with aclosing(BatchResults(self._api, batch, index).outcomes()) as outcomes:
                async for one in outcomes:
                    yield one
        except (APIError, BatchError) as exc:
            failed = exc
        else:
            return
        yield failed


def is_folder(text: str) -> bool:
    """Return whether a text is the path of a job's folder."""
    try:
        return (Path(text) / MANIFEST).is_file()
    except (OSError, ValueError):  # a name that is too long
        return False


def is_batch_id(text: str) -> bool:
    """Return whether a text can be a batch's id."""
    return _ID.fullmatch(text) is not None
