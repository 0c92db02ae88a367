"""Submit a job: write its lines to a folder, and upload each batch. However it ends, the job can be resumed."""

from __future__ import annotations

import functools
import os
import time
from collections import Counter
from collections.abc import Callable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, TypeAlias, cast

import anyio
import attrs

from .._api import ApiClient
from .._concurrency.background_task import BackgroundTask
from .._concurrency.callbacks import call_callback
from ..errors import APIError, BatchError, ConfigurationError, MoondreamError
from .job.async_folder import AsyncFolder
from .job.folder import default_folder
from .job.manifest import Manifest, path_of, read_manifest
from .job.rejected import RejectedItems, read_rejected
from .lines import ItemSource
from .models import UNKNOWN, Batch, BatchJob, UploadProgress
from .multipart_upload import Upload
from .validation import ReadyFile

_REPORT_INTERVAL = 0.1  # seconds between calls of the progress callback

LineSource: TypeAlias = ItemSource | ReadyFile
"""Where a job's lines come from: the only difference between `create` and `submit`."""


@attrs.frozen(eq=False, repr=False)
class Submission:
    """One call of `create` or `submit`.

    It opens the job's folder, appends a line for each item, uploads each batch as soon as it is full, and uploads the
    last one at the end. Each step is written to the folder before the next one is taken.

    Args:
        api: Sends the requests.
        manifest: What the job is.
        source: Where its lines come from.
        progress: Reports the progress to the user.
    """

    _api: ApiClient
    _manifest: Manifest
    _source: LineSource
    _progress: ProgressReporter
    _batches: dict[int, Batch] = attrs.field(factory=dict[int, Batch], init=False)

    async def run(self, path: str | os.PathLike[str] | None) -> BatchJob:
        """Submit the job, or resume it.

        Args:
            path: The job's folder; None creates one, which is deleted if nothing of the job reaches the server.
        """
        async with AsyncFolder(default_folder() if path is None else _absolute(path), self._manifest) as folder:
            try:
                cost_limit_reached = await self._write_lines(folder)
                for number in range(len(folder.manifest.portions)):
                    await self._upload(folder, number)
                job = await folder.run(read_job, folder.path)
                batches = tuple(self._batches[number] for number in range(len(job.batches)))
                return attrs.evolve(job, batches=batches, cost_limit_reached=cost_limit_reached)
            except BaseException as exc:
                await self._clean_up(folder, exc, keep=path is not None)
                raise

    async def _write_lines(self, folder: AsyncFolder) -> bool:
        """Write all lines to the folder. Return whether the budget excluded items.

        Raises:
            BatchInputError: The ready file has lines that the server would reject.
            ConfigurationError: There are no items, or none of them can be sent.
            MoondreamError: Too many items failed.
        """
        if isinstance(self._source, ReadyFile):
            await folder.run(self._source.check, folder.blocking)
            return False
        rejected = await folder.run(folder.blocking.rejected_items)
        cost_limit_reached = await self._append_lines(folder, self._source, rejected)
        await folder.run(rejected.finish)
        lines = sum(portion.lines for portion in folder.manifest.portions)
        if not lines:
            raise _no_lines(rejected)
        await folder.run(folder.blocking.finish_lines, lines + rejected.count)
        await self._progress.report(force=True)
        return cost_limit_reached

    async def _append_lines(self, folder: AsyncFolder, source: ItemSource, rejected: RejectedItems) -> bool:
        """Append the lines of new items, and upload each batch that is full."""
        submitted = await folder.run(folder.blocking.submitted_items)
        submitted.reserve(rejected.positions)
        done = submitted.keys.total()
        lines = source.lines(submitted, rejected.previous_position)
        async with aclosing(lines):
            async for outcome in lines:
                entry, line = outcome.result
                done += 1
                if outcome.error is not None:
                    await folder.run(rejected.add, entry, outcome.error)
                elif await folder.run(folder.blocking.add, entry, line):
                    await self._upload(folder, len(folder.manifest.portions) - 2)
                await self._progress.report(items=done, refused=rejected.count)
        return lines.cost_limit_reached

    async def _upload(self, folder: AsyncFolder, number: int) -> None:
        """Upload a batch that has all of its lines, once."""
        if number in self._batches:
            return
        size = sum(portion.length for portion in folder.manifest.portions)
        on_sent = functools.partial(self._progress.set_sent, number, size)
        reporting = BackgroundTask(self._progress.report_regularly)
        reporting.start()
        try:
            self._batches[number] = await Upload(self._api, folder, number, on_sent).submit()
        finally:
            await reporting.stop()
        on_sent(folder.manifest.portions[number].length)
        await self._progress.report(force=True)

    async def _clean_up(self, folder: AsyncFolder, exc: BaseException, *, keep: bool) -> None:
        """Abort uploads that nobody will resume, and delete the folder if nothing of the job is worth keeping."""
        with anyio.CancelScope(shield=True), suppress(MoondreamError):  # the original error matters more
            await folder.run(lambda: None)  # wait for the work of cancelled calls
            portions = folder.manifest.portions
            if not keep or _is_rejection(exc):
                for number in range(len(portions)):
                    await Upload(self._api, folder, number).abort()
            is_empty = not portions and (not keep or isinstance(exc, ConfigurationError))
            if is_empty or not (keep or any(portion.batch_id or portion.completing for portion in portions)):
                await folder.run(folder.blocking.discard)
                return
        exc.add_note(f"The job is kept in {str(folder.path)!r}; pass that path as folder= to resume it.")


class ProgressReporter:
    """Calls the user's progress callback, at most every 0.1 s unless forced.

    Args:
        callback: The callback, or None.
        total: The number of items, if known.
    """

    def __init__(self, callback: Callable[[UploadProgress], Any] | None, total: int | None = None) -> None:
        self._callback = callback
        self._progress = UploadProgress(total=total)
        self._next_report = 0.0
        self._sent: Counter[int] = Counter()  # bytes, by batch
        self._error: Exception | None = None

    def set_sent(self, number: int, size: int, nbytes: int) -> None:
        """Set how many bytes of a batch were sent, and the size of all batches so far."""
        self._sent[number] = nbytes
        self._progress = attrs.evolve(self._progress, sent=self._sent.total(), size=size)

    async def report(self, *, force: bool = False, **changes: int) -> None:
        """Update the progress, and call the callback if it is due.

        Raises:
            Exception: What the callback raised, now or in the background.
        """
        if self._error is not None:
            raise self._error
        self._progress = attrs.evolve(self._progress, **changes) if changes else self._progress
        if self._callback is not None and (force or time.monotonic() >= self._next_report):
            self._next_report = time.monotonic() + _REPORT_INTERVAL
            await call_callback(self._callback, self._progress)

    async def report_regularly(self) -> None:
        """Report until cancelled; an error of the callback is raised by the next `report`."""
        try:
            while True:
                await anyio.sleep(_REPORT_INTERVAL)
                await self.report()
        except Exception as exc:  # raised by the user's callback
            self._error = exc


def _no_lines(rejected: RejectedItems) -> ConfigurationError:
    if rejected.first is None:
        return ConfigurationError("There are no items.")
    entry, error = rejected.first
    return ConfigurationError(
        f"None of the {rejected.count:,} items can be sent. The first is {entry.id!r}: {error.message}"
    )


def read_job(path: Path) -> BatchJob:
    """Read a job from its folder; blocking.

    Raises:
        BatchError: The folder is not a job's folder, or the job was not submitted completely.
    """
    manifest = read_manifest(path)
    submitted = [portion for portion in manifest.portions if not portion.cancelled]
    ids = [portion.batch_id for portion in submitted]
    if not manifest.closed or None in ids:
        accepted = ", ".join(filter(None, ids))
        raise BatchError(
            f"The job in {str(path)!r} was not submitted completely; call create() or submit() again to resume it."
            + (f" The server has {accepted}." if accepted else ""),
            code="folder",
        )
    batches = tuple(Batch(id=str(name), status=UNKNOWN) for name in ids)
    not_sent = sum(1 for _ in read_rejected(path, manifest))
    not_sent += sum(portion.lines for portion in manifest.portions if portion.cancelled)
    return BatchJob(batches=batches, folder=path, items=manifest.items, refused=not_sent)


def _is_rejection(exc: BaseException) -> bool:
    """Return whether the server rejects the job itself, not just the key, the credit or the timing."""
    return isinstance(exc, APIError) and 400 <= exc.status < 500 and exc.status not in (401, 402, 403, 408, 425, 429)


def _absolute(folder: object) -> Path:
    path = cast("Any", folder)
    if isinstance(path, (str, os.PathLike)) and isinstance(os.fspath(cast("str", path)), str) and path != "":
        return path_of(cast("object", path))
    raise ConfigurationError(f"folder must be the path of a folder, not {folder!r}.")
