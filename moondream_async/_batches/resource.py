"""`AsyncBatches`: create jobs, wait for them and read their results, from any process."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import AsyncIterable, Callable, Iterable, Sized
from typing import Any, Literal

import anyio
import attrs

from .. import config
from .._api import ApiClient
from .._bulk.budget import batch_budget
from .._bulk.items import MapItem
from .._bulk.map import check_items
from .._bulk.outcomes import Outcome
from .._concurrency.callbacks import call_callback
from .._concurrency.polling import PollSchedule
from .._concurrency.prefetch import PrefetchIterator
from .._concurrency.threads import run_in_thread
from .._paginator import Pages
from .._progress.figures import RunSummary
from .._progress.reporter import check_progress, displayed
from .._public import public
from ..errors import APIConnectionError, APITimeoutError, ConfigurationError, NotFoundError, RateLimitError, ServerError
from ..prices import Prices, prices_of
from . import wire
from .displaying import show_job, show_upload
from .job.async_folder import AsyncFolder
from .job.folder import stamp_of
from .job.manifest import Manifest, path_of
from .job.rejected import read_rejected
from .job_reader import AnyJob, JobReader, is_folder
from .lines import ItemSource, LineBuilder, check_first_item
from .models import Batch, BatchJob, UploadProgress
from .multipart_upload import Upload
from .results_file import save
from .retrieval import retrieve
from .submission import ProgressReporter, Submission
from .validation import ReadyFile

_OUTAGE_GRACE = 600.0  # seconds in which polls may fail with transient errors
_VISIBILITY_GRACE = 30.0  # seconds in which a batch that was just accepted may not be found
_TRANSIENT = (APIConnectionError, RateLimitError, ServerError)


class AsyncOutcomes(PrefetchIterator[Outcome[Any]]):
    """The outcomes of a job: `async for outcome in client.batches.results(job)`."""


@public()
class AsyncBatches:
    """Moondream Cloud's Batch API: at half the price, up to 100,000 lines a batch; `client.batches`.

    Each job is kept in a folder on this machine, so that another process can resume it at any stage. `create` and
    `submit`, called again with the same arguments and `folder`, send only what was not sent before.
    """

    _poll_schedule = PollSchedule(first=0.5, maximum=30.0)

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    async def create(
        self,
        items: Iterable[MapItem] | AsyncIterable[MapItem],
        skill: Literal["caption", "query", "detect", "point"],
        *,
        model: str | None = None,
        folder: str | os.PathLike[str] | None = None,
        max_failures: int | None = None,
        max_cost: float | None = None,
        prices: Prices | None = None,
        progress: bool | Callable[[UploadProgress], Any] | None = None,
        **arguments: Any,
    ) -> BatchJob:
        """Create a job from many images: prepare them, write them to disk, and upload a batch per 100,000 lines.

        ```python
        job = await client.batches.create(Path("photos").glob("*.jpg"), "caption", folder="captions.batch")
        ```

        Args:
            items: Images, `(id, image)`, or `(id, image, arguments)`, from any (async) iterable, as for `map`; for
                `query`, an image may be a list of images for one question about all of them.
            skill: `"caption"`, `"query"`, `"detect"` or `"point"`. Batches do not support `segment`.
            model: The model, for instance a finetune's checkpoint. Default: the client's model, else the server's.
            folder: The job's folder, created if it does not exist. If it holds the same job, the job is resumed: new
                items are added, and items that could not be prepared are tried again.
                Default: a new folder in the user's state directory, deleted if this call fails.
            max_failures: How many items may fail to be prepared; one more stops the call. Default: no limit.
            max_cost: Limit in US dollars. No more items are added once the estimated cost of the job would exceed it.
                The job's `cost_limit_reached` is then True; call this again with a higher limit and the same folder
                to add the other items. The estimate assumes answers of typical length. Default: no limit.
            prices: Prices for `max_cost`; a batch costs `prices.batch`. Default: the model's published prices.
            progress: True for a bar in a terminal or a line in a notebook. Or a function, which may be async: it is
                called regularly with an `UploadProgress`, and an error in it stops the call. Default: nothing.
            arguments: The skill's arguments: `length`, `question`, `object`, `reasoning` (None for the server's
                default, which is True in batches), `settings` (for `caption` and `query`).

        Returns:
            The job. Items that cannot be sent, such as a file that is not an image, are counted in `.refused`;
            `results` gives their errors.

        Raises:
            ConfigurationError: An argument is invalid, the folder cannot be written (`BatchFolderError`), or there
                are no items. Nothing was sent.
            BatchError: The folder holds another job or is in use, or the server may have accepted a batch without
                confirming it.
            MoondreamError: The upload failed. It is aborted if the server rejected it, or if you did not pass a
                folder; otherwise, call this again to resume it.
        """
        check_progress(progress)
        lines = LineBuilder(self._api, skill, arguments)
        if max_failures is not None:
            config.check_whole("max_failures", max_failures, least=0)
        prices = prices or prices_of(self._api.base_url, model or self._api.model)
        budget = batch_budget(max_cost, prices, {lines.skill: lines.arguments})
        source = ItemSource(await check_first_item(check_items(items), lines), lines, max_failures, budget)
        manifest = self._manifest(model, skill=lines.skill, arguments=lines.arguments)
        total = len(items) if isinstance(items, Sized) else None
        with displayed(progress, show_upload) as callback:
            return await Submission(self._api, manifest, source, ProgressReporter(callback, total)).run(folder)

    async def submit(
        self,
        path: str | os.PathLike[str],
        *,
        model: str | None = None,
        folder: str | os.PathLike[str] | None = None,
        progress: bool | Callable[[UploadProgress], Any] | None = None,
    ) -> BatchJob:
        """Validate a file of JSON lines, then upload it, as several batches if it is too large for one.

        ```python
        job = await client.batches.submit("lines.jsonl")
        ```

        Args:
            path: The file, in UTF-8, with lines such as `{"id": ..., "skill": "caption", "image": "<base64>"}`. Do not
                change it until it is uploaded. A byte order mark and leading or trailing blank lines are left out.
            model: As in `create`.
            folder: As in `create`.
            progress: As in `create`.

        Raises:
            BatchInputError: The file has invalid lines; `.problems` has their numbers. Nothing was sent.
            MoondreamError: As in `create`.
        """
        check_progress(progress)
        file = path_of(path)
        try:
            stamp = await run_in_thread(stamp_of, file)
        except (OSError, ValueError) as exc:
            raise ConfigurationError(f"{str(file)!r} cannot be read: {getattr(exc, 'strerror', exc)}.") from None
        manifest = self._manifest(model, source=stamp)
        with displayed(progress, show_upload) as callback:
            return await Submission(self._api, manifest, ReadyFile(file), ProgressReporter(callback)).run(folder)

    async def retrieve(self, batch_id: str) -> Batch:
        """Return the current state of one batch.

        ```python
        batch = await client.batches.retrieve(job.batches[0].id)
        print(batch.status)
        ```

        Raises:
            NotFoundError: There is no such batch.
            MoondreamError: The request failed.
        """
        return await retrieve(self._api, batch_id)

    def list(self, limit: int | None = None) -> Pages[Batch]:
        """List all batches of the API key. Pages are fetched as you iterate.

        ```python
        async for batch in client.batches.list(limit=10):
            print(batch.id, batch.status)
        ```

        Args:
            limit: Maximum number of batches; None for all.

        Raises:
            MoondreamError: The request failed.
        """
        return Pages(self._api, "batch", "batches", wire.batch, limit)

    async def status(self, job: AnyJob) -> BatchJob:
        """Return a job with the current state of its batches.

        ```python
        print((await client.batches.status(job)).status)
        ```

        Args:
            job: What `create` or `submit` returned, a batch or its id, or a job's folder.

        Raises:
            BatchError: The folder is not a job's folder, or the job was not submitted completely.
            MoondreamError: The request failed.
        """
        known = await self._reader.known(job)
        return attrs.evolve(known, batches=tuple([await self.retrieve(batch.id) for batch in known.batches]))

    async def wait(
        self,
        job: AnyJob,
        *,
        timeout: float | None = None,
        progress: bool | Callable[[BatchJob], Any] | None = None,
    ) -> BatchJob:
        """Wait until all batches of a job are completed or failed. The server is polled every 0.5 to 30 seconds.

        ```python
        job = await client.batches.wait(job)
        ```

        Args:
            job: As in `status`.
            timeout: Seconds to wait; None for no limit.
            progress: True for a display, as in `create`. Or a function, which may be async: it is called with the
                `BatchJob` after each poll, and an error in it stops the call. Default: nothing.

        Returns:
            The job; `.status` is `"completed"`, or `"failed"` if one of its batches failed.

        Raises:
            APITimeoutError: The timeout expired. The job continues on the server.
            MoondreamError: As in `status`. Outages of up to 10 minutes are tolerated.
        """
        check_progress(progress)
        seconds = config.check_seconds("timeout", timeout)
        known = await self._reader.known(job)
        with displayed(progress, show_job) as callback, anyio.move_on_after(seconds):
            return await self._finished(known, callback)
        raise APITimeoutError(f"The job did not finish within {seconds or 0:g} s; it continues on the server.")

    def results(self, job: AnyJob) -> AsyncOutcomes:
        """Iterate over the outcome of each item, once, while the result files are downloaded.

        The files are read without the API key. A download that breaks off is resumed.

        ```python
        await client.batches.wait(job)
        async for outcome in client.batches.results(job):
            print(outcome.id, outcome.result.caption if outcome.ok else outcome.error)
        ```

        Args:
            job: As in `status`. It must be finished.

        Returns:
            The outcomes; leaving the loop closes the connection. As with `map`, an outcome has the item's `.index`
            and `.id`, and either a typed `.result` or an `.error`: the reason why the item was not sent,
            `BatchLineError` for a line that failed, is missing or is damaged (`code` is `"unusable"`), or `BatchError`
            for a line of a batch that failed. If only a batch's id is known, `.index` counts the lines of its batch.

        Raises:
            BatchError: The job is not finished, or a batch failed and this machine does not know its items.
            APIError: A result file or a batch is gone; raised after everything else was read.
            MoondreamError: A request failed.
        """
        return AsyncOutcomes(functools.partial(self._reader.outcomes, job))

    async def save(self, job: AnyJob, out: str | os.PathLike[str], *, resume: bool = True) -> RunSummary:
        """Save the results to a JSON Lines file in the format of `run`.

        The file stays valid if the process is killed; the same call then completes it.

        ```python
        await client.batches.wait(job)
        summary = await client.batches.save(job, "captions.jsonl")
        ```

        Args:
            job: As in `results`.
            out: Path of the file; `moondream_async.bulk` reads and exports it.
            resume: Whether to continue a file that holds results of this job. Default True.

        Returns:
            How many items succeeded, failed, and were in the file before. Items missing from the results count as
            failed but are not written, as they may be there in a later call.

        Raises:
            ResultsFileError: The file cannot be read or written, or holds other results.
            MoondreamError: As in `results`.
        """
        path_of(out)  # raises for what is not a path
        known = await self._reader.finished(job)  # before the file is touched
        return await save(self._reader, known, os.fspath(out), resume=resume)

    async def cancel(self, job: AnyJob) -> bool:
        """Abort what was not submitted yet, and delete the job's folder.

        The Batch API cannot stop a batch that it has accepted: such a batch continues and is billed.

        ```python
        if not await client.batches.cancel(job):
            print("It was submitted, and cannot be stopped.")
        ```

        Args:
            job: As in `status`.

        Returns:
            Whether the whole job was aborted. If not, the folder stays, because some batches continue; `results`
            reports the items of the others as cancelled.

        Raises:
            BatchError: The folder is not a job's folder, or another call or process works on the job.
            MoondreamError: A request failed.
        """
        is_path = isinstance(job, os.PathLike) or (isinstance(job, str) and await run_in_thread(is_folder, job))
        path = path_of(job) if is_path else job.folder if isinstance(job, BatchJob) else None
        if path is None:
            await self.status(job)
            return False
        manifest = await self._reader.check_server(path)
        async with AsyncFolder(path, manifest) as folder:
            batch_files = folder.manifest.portions
            for number in range(len(batch_files)):
                await Upload(self._api, folder, number).cancel()
            if not any(batch_file.batch_id for batch_file in batch_files):
                await folder.run(folder.blocking.discard)
                return True
            lines = sum(batch_file.lines for batch_file in batch_files)
            rejected = await run_in_thread(lambda path: sum(1 for _ in read_rejected(path, manifest)), path)
            await folder.run(folder.blocking.finish_lines, lines + rejected)
            return False

    def _manifest(self, model: str | None, **more: Any) -> Manifest:
        return Manifest(self._api.base_url, config.check_model(model) or self._api.model, **more)

    @property
    def _reader(self) -> JobReader:
        return JobReader(self._api)

    async def _finished(self, job: BatchJob, progress: Callable[[BatchJob], Any] | None) -> BatchJob:
        answered = time.monotonic()
        for delay in self._poll_schedule.delays():
            try:
                batches = [batch if batch.finished else await self.retrieve(batch.id) for batch in job.batches]
            except (*_TRANSIENT, NotFoundError) as exc:
                # A batch that was just accepted may not be visible yet. Without a folder, the id may be a typo.
                grace = _OUTAGE_GRACE
                if isinstance(exc, NotFoundError):
                    grace = _VISIBILITY_GRACE if job.folder else 0.0
                if time.monotonic() - answered > grace:
                    raise
            else:
                answered = time.monotonic()
                job = attrs.evolve(job, batches=tuple(batches))
                await call_callback(progress, job)
                if job.finished:
                    return job
            await anyio.sleep(delay)
        raise AssertionError("the delays have no end")
