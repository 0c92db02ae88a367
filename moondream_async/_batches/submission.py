"""Handing in a job: fill its folder, upload each batch, and leave things in order however it ends."""

from __future__ import annotations

import functools
import os
import time
from collections import Counter
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any, cast

import anyio
import attrs

from .._bulk.budget import Budget
from .._bulk.estimates import usage
from .._bulk.items import Item
from .._bulk.map import AsyncMap
from .._concurrency.background_task import BackgroundTask
from .._concurrency.callbacks import call_callback
from .._http.sender import Sender
from ..errors import APIError, BatchError, ConfigurationError, MoondreamError
from .job.async_folder import AsyncFolder
from .job.folder import Folder, SubmittedItems, default_folder
from .job.manifest import Entry, Manifest, path_of, read_manifest
from .job.rejected import RejectedItems, read_refused
from .lines import LineBuilder
from .models import UNKNOWN, Batch, BatchJob, UploadProgress
from .multipart_upload import Upload
from .validation import read_ready

_AT_ONCE = 8  # images prepared, or ready and not yet written
_TOLD_EVERY = 0.1  # seconds

Fill = Callable[[AsyncFolder], Awaitable[None]]


class Submission:
    """One call of `create` or `submit`.

    Args:
        net: Sends.
        progress: Is told how far it has come.
        total: How many items there are, if that is known.
    """

    def __init__(self, net: Sender, progress: Callable[[UploadProgress], Any] | None, total: int | None) -> None:
        self._net = net
        self._progress = progress
        self._now = UploadProgress(total=total)
        self._next = 0.0
        self._sent: Counter[int] = Counter()
        self._batches: dict[int, Batch] = {}
        self._failed: Exception | None = None

    async def run(self, folder: str | os.PathLike[str] | None, wanted: Manifest, fill: Fill) -> BatchJob:
        """Do it.

        Args:
            folder: Where the job is, or shall be, kept; None keeps it in a new one.
            wanted: What the job is.
            fill: Puts all lines into the folder.
        """
        path = default_folder() if folder is None else _absolute(folder)
        async with AsyncFolder(path, wanted) as opened:
            try:
                await fill(opened)
                for number in range(len(opened.manifest.portions)):
                    await self.upload(opened, number)
                job = await opened.run(lambda folder: read_job(folder.path))
                return attrs.evolve(job, batches=tuple(self._batches[number] for number in range(len(job.batches))))
            except BaseException as exc:
                await self._leave(opened, exc, keeps=folder is not None)
                raise

    async def upload(self, folder: AsyncFolder, number: int) -> None:
        """Upload a batch that has all of its lines."""
        size = sum(portion.length for portion in folder.manifest.portions)

        def sent(nbytes: int) -> None:
            self._sent[number] = nbytes
            self._now = attrs.evolve(self._now, sent=self._sent.total(), size=size)

        if number in self._batches:
            return
        telling = BackgroundTask(self._keep_telling)
        telling.start()
        try:
            self._batches[number] = await Upload(self._net, folder, number, sent).hand_in()
        finally:
            await telling.stop()
        if self._failed is not None:
            raise self._failed
        sent(folder.manifest.portions[number].length)
        await self.notify(at_once=True)

    async def notify(self, *, at_once: bool = False, **changes: int) -> None:
        """Tell how far it is, not too often."""
        self._now = attrs.evolve(self._now, **changes) if changes else self._now
        if self._progress is not None and (at_once or time.monotonic() >= self._next):
            self._next = time.monotonic() + _TOLD_EVERY
            await call_callback(self._progress, self._now)

    async def _keep_telling(self) -> None:
        try:
            while True:
                await anyio.sleep(_TOLD_EVERY)
                await self.notify()
        except Exception as exc:  # the user's own
            self._failed = exc

    async def _leave(self, folder: AsyncFolder, exc: BaseException, *, keeps: bool) -> None:
        """Abort what nobody will go on with, and leave nothing of what came to nothing."""
        with anyio.CancelScope(shield=True), suppress(MoondreamError):  # the caller's own error counts
            await folder.settle()
            portions = folder.manifest.portions
            if not keeps or _is_refused(exc):
                for number in range(len(portions)):
                    await Upload(self._net, folder, number, lambda _: None).abort()
            is_empty = not portions and (not keeps or isinstance(exc, ConfigurationError))
            if is_empty or not (keeps or any(portion.batch_id or portion.completing for portion in portions)):
                await folder.discard()
                return
        exc.add_note(f"The job is kept in {str(folder.path)!r}; pass that as folder= to go on.")


class LineFiller:
    """Puts the lines of items into a folder, each batch being uploaded as soon as it is full.

    Args:
        items: All of them.
        lines: Makes their lines.
        max_failures: How many may fail.
        budget: What all lines may cost.

    Attributes:
        cost_limit_reached: Whether the budget kept items out.
    """

    def __init__(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        lines: LineBuilder,
        max_failures: int | None,
        budget: Budget | None = None,
    ) -> None:
        self.cost_limit_reached = False
        self._budget = budget
        self._expected = usage({lines.skill: lines.arguments})
        self._items = items
        self._lines = lines
        self._max_failures = max_failures

    async def fill(self, handing: Submission, folder: AsyncFolder) -> None:
        """Do it.

        Raises:
            ConfigurationError: There are no items.
            MoondreamError: Too many items failed.
        """
        known = await folder.run(Folder.known)
        refusals = await folder.run(Folder.refusals)
        known.reserve(refusals.places)
        await self._add(handing, folder, known, refusals)
        await folder.run(lambda _: refusals.finish())
        lines = sum(portion.lines for portion in folder.manifest.portions)
        if not lines:
            raise _no_lines(refusals)
        await folder.finish_lines(lines + refusals.count)
        await handing.notify(at_once=True)

    async def _prepare(self, item: Item) -> tuple[Any, int, MoondreamError | None]:
        outcome = await self._lines(item)
        if self._budget is not None and outcome[2] is None:
            self._budget.spend([self._expected])
        return outcome

    async def _add(
        self, handing: Submission, folder: AsyncFolder, known: SubmittedItems, refusals: RejectedItems
    ) -> None:
        done = known.keys.total()
        if self._budget is not None:
            self._budget.spend([self._expected], items=done)
        made: AsyncMap[tuple[Entry, bytes]] = AsyncMap(
            self._lines.fresh(self._items, known, refusals.came_round),
            self._prepare,
            concurrency=_AT_ONCE,
            ordered=False,
            max_failures=self._max_failures,
            stop_on_auth_error=False,
            budget=self._budget,
        )
        async with aclosing(made):
            async for outcome in made:
                entry, line = cast("tuple[Entry, bytes]", outcome.result)
                done += 1
                if outcome.error is not None:
                    await folder.run(functools.partial(_refuse, refusals, entry, outcome.error))
                elif await folder.add(entry, line):
                    await handing.upload(folder, len(folder.manifest.portions) - 2)
                await handing.notify(items=done, refused=refusals.count)
        self.cost_limit_reached = made.cost_limit_reached


def _refuse(refusals: RejectedItems, entry: Entry, error: MoondreamError, _: Folder) -> None:
    refusals.add(entry, error)


def _no_lines(refusals: RejectedItems) -> ConfigurationError:
    if refusals.first is None:
        return ConfigurationError("There are no items.")
    entry, error = refusals.first
    return ConfigurationError(
        f"None of the {refusals.count:,} items can be sent. The first is {entry.id!r}: {error.message}"
    )


async def look_through(source: Path, folder: AsyncFolder) -> None:
    """Check a ready file, and note what its lines are of.

    Raises:
        BatchInputError: Lines would be refused.
    """
    await folder.run(functools.partial(_look_through, source))


def _look_through(source: Path, folder: Folder) -> None:
    if folder.manifest.closed:
        return
    with folder.noting() as note:
        portions = read_ready(source, note)
    folder.manifest.portions = portions
    folder.finish_lines(sum(portion.lines for portion in portions))


def read_job(path: Path) -> BatchJob:
    """A job as its folder tells it; blocking.

    Raises:
        BatchError: It is no job's folder, or the job has not been handed in wholly.
    """
    manifest = read_manifest(path)
    handed_in = [portion for portion in manifest.portions if not portion.cancelled]
    ids = [portion.batch_id for portion in handed_in]
    if not manifest.closed or None in ids:
        accepted = ", ".join(filter(None, ids))
        raise BatchError(
            f"The job in {str(path)!r} has not been handed in wholly; call create() or submit() again to go on."
            + (f" The server has {accepted}." if accepted else ""),
            code="folder",
        )
    batches = tuple(Batch(id=str(name), status=UNKNOWN) for name in ids)
    not_sent = sum(1 for _ in read_refused(path, manifest))
    not_sent += sum(portion.lines for portion in manifest.portions if portion.cancelled)
    return BatchJob(batches=batches, folder=path, items=manifest.items, refused=not_sent)


def _is_refused(exc: BaseException) -> bool:
    """Whether the server will not take it; not so if only the key or credit is wanting."""
    return isinstance(exc, APIError) and 400 <= exc.status < 500 and exc.status not in (401, 402, 403, 408, 425, 429)


def _absolute(folder: object) -> Path:
    given = cast("Any", folder)
    if isinstance(given, (str, os.PathLike)) and isinstance(os.fspath(cast("str", given)), str) and given != "":
        return path_of(cast("object", given))
    raise ConfigurationError(f"folder must be the path of a folder, not {folder!r}.")
