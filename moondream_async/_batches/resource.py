"""`AsyncBatches`: hand in, wait, read the results; from any process, at any stage."""

from __future__ import annotations

import functools
import os
import random
import time
from collections.abc import AsyncIterable, Callable, Iterable, Sized
from typing import Any, Literal

import anyio
import attrs

from .. import config
from .._bulk.budget import batch_budget
from .._bulk.items import MapItem, Outcome
from .._bulk.map import check_items
from .._bulk.run import RunSummary
from .._concurrency.callbacks import call_callback
from .._concurrency.prefetch import PrefetchIterator
from .._concurrency.threads import run_in_thread
from .._http.paginator import Pages
from .._http.sender import Sender
from .._images.options import ImageOptions
from .._public import public
from ..errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    ConfigurationError,
    NotFoundError,
    RateLimitError,
    ServerError,
)
from ..prices import Prices, prices_of
from . import wire
from .job.async_folder import AsyncFolder
from .job.folder import stamp_of
from .job.manifest import Manifest, path_of
from .job.rejected import read_refused
from .job_reader import AnyJob, JobReader, is_folder
from .lines import Encodes, LineBuilder
from .models import Batch, BatchJob, UploadProgress
from .multipart_upload import Upload
from .results_file import save
from .submission import LineFiller, Submission, look_through

_AT_ONCE = 8  # images prepared, or ready and not yet written
_FIRST_POLL, _SLOWEST_POLL, _SLOWER = 0.5, 30.0, 1.5  # seconds, seconds, times
_PATIENCE = 600.0  # seconds in which polls may fail for reasons that pass
_SEEN_AFTER = 30.0  # seconds after which a batch that is not found is not there
_PASSING = (APIConnectionError, RateLimitError, ServerError)


class AsyncOutcomes(PrefetchIterator[Outcome[Any]]):
    """The outcomes of a job, one by one: `async for outcome in client.batches.results(job)`."""


@public()
class AsyncBatches:
    """Moondream Cloud's Batch API: at half the price, up to 100,000 lines a batch; `client.batches`.

    What was handed in is kept in a folder of this machine, so that another process can go on at any stage: `create` and
    `submit`, called again with the same arguments and `folder`, send only what is not sent yet.
    """

    def __init__(
        self, client: Encodes, net: Callable[[], Sender], *, base_url: str, model: str | None, options: ImageOptions
    ) -> None:
        self._client = client
        self._net = net
        self._base_url = base_url
        self._model = model
        self._options = options

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
        progress: Callable[[UploadProgress], Any] | None = None,
        **arguments: Any,
    ) -> BatchJob:
        """Hand in many images: prepared as for the skills, written to the disk, uploaded, one batch for each 100,000.

        Args:
            items: Images, `(id, image)`, or `(id, image, arguments)`, from any (async) iterable, as for `map`; for
                `query` an image may be a list of images, which it is asked about together.
            skill: `"caption"`, `"query"`, `"detect"` or `"point"`. Batches do not segment.
            model: What is to answer, for instance a finetune's checkpoint; None takes the client's, else the server's.
            folder: Where the job is kept; made if it is not there. If it holds this same job, that is gone on with:
                items that are new to it are added, those that could not be prepared are tried again.
                Default: a new one in the user's state directory; it is deleted if this fails.
            max_failures: How many items may fail to be prepared; one more stops it. Default None: any.
            max_cost: US dollars. No further item is added once the estimated cost of all in the job would pass it;
                then the job's `cost_limit_reached` is True, and calling this again with a higher limit and the same
                folder adds the others. The estimate takes typical lengths of answers. Default None: no limit.
            prices: For `max_cost`; a batch costs what `prices.batch` says. Default: the published ones of the model.
            progress: Is given an `UploadProgress` now and then; may be async.
            arguments: The skill's own: `length`, `question`, `object`, `reasoning` (None leaves it to the server, whose
                default in batches is True), `settings` (of `caption` and `query`).

        Returns:
            The job. What could not be sent (a file that is no image) is counted in `.refused`, and told by `results`.

        Raises:
            ConfigurationError: An argument cannot be used, the folder cannot be written (`BatchFolderError`), or there
                are no items; nothing was sent.
            BatchError: The folder is of another job or in use, or it cannot be found out whether a batch was accepted.
            MoondreamError: The upload failed. What the server will not take, and what is in no folder of yours, is
                aborted; the rest is gone on with when this is called again.
        """
        lines = LineBuilder(self._client, skill, arguments, self._options)
        if max_failures is not None:
            config.check_whole("max_failures", max_failures, least=0)
        prices = prices or prices_of(self._base_url, model or self._model)
        budget = batch_budget(max_cost, prices, {lines.skill: lines.arguments})
        filling = LineFiller(await lines.check_first(check_items(items)), lines, max_failures, budget)
        wanted = self._manifest(model, skill=lines.skill, arguments=lines.arguments)
        total = len(items) if isinstance(items, Sized) else None
        handing = Submission(self._net(), progress, total)
        job = await handing.run(folder, wanted, functools.partial(filling.fill, handing))
        return attrs.evolve(job, cost_limit_reached=filling.cost_limit_reached)

    async def submit(
        self,
        path: str | os.PathLike[str],
        *,
        model: str | None = None,
        folder: str | os.PathLike[str] | None = None,
        progress: Callable[[UploadProgress], Any] | None = None,
    ) -> BatchJob:
        """Hand in a ready file of JSON lines, once it has been looked through; a too large one as several batches.

        Args:
            path: The file: `{"id": ..., "skill": "caption", "image": "<base64>"}` a line, in UTF-8. It must stay as it
                is until it is uploaded. A byte order mark, and blank lines before and after all others, are left out.
            model: As in `create`.
            folder: As in `create`.
            progress: As in `create`.

        Raises:
            BatchInputError: Lines would be refused; `.problems` has their numbers. Nothing was sent.
            MoondreamError: As in `create`.
        """
        source = path_of(path)
        try:
            stamp = await run_in_thread(stamp_of, source)
        except (OSError, ValueError) as exc:
            raise ConfigurationError(f"{str(source)!r} cannot be read: {getattr(exc, 'strerror', exc)}.") from None
        handing = Submission(self._net(), progress, None)
        return await handing.run(folder, self._manifest(model, source=stamp), functools.partial(look_through, source))

    async def retrieve(self, batch_id: str) -> Batch:
        """Ask about one batch.

        Raises:
            NotFoundError: There is no such batch.
            MoondreamError: As any call.
        """
        path = f"batch/{config.path_part('batch_id', batch_id)}"
        try:
            return await self._net().call("GET", path, wire.batch, allow_error_body=True)
        except APIError as exc:
            exc.body = None if exc.status < 300 else exc.body  # it may hold presigned addresses
            raise

    def list(self, limit: int | None = None) -> Pages[Batch]:
        """All batches of the key, page by page as they are asked for.

        Args:
            limit: Batches to give at most; None gives all.

        Raises:
            MoondreamError: As any call.
        """
        return Pages(self._net().call, "batch", "batches", wire.batch, limit)

    async def status(self, job: AnyJob) -> BatchJob:
        """Ask about all batches of a job.

        Args:
            job: What `create` or `submit` returned; a batch or its id; or a job's folder.

        Raises:
            BatchError: The folder is none, or the job has not been handed in wholly.
            MoondreamError: As any call.
        """
        known = await self._reading.known(job)
        return attrs.evolve(known, batches=tuple([await self.retrieve(batch.id) for batch in known.batches]))

    async def wait(
        self,
        job: AnyJob,
        *,
        timeout: float | None = None,
        progress: Callable[[BatchJob], Any] | None = None,
    ) -> BatchJob:
        """Wait until all batches of a job are completed or failed; asked about every 0.5 to 30 seconds.

        Args:
            job: As in `status`.
            timeout: Seconds to wait; None waits as long as it takes.
            progress: Is given the `BatchJob` each time it was asked about; may be async.

        Returns:
            The job; `.status` is `"completed"`, or `"failed"` if one of its batches failed.

        Raises:
            APITimeoutError: The timeout ran out; the job goes on.
            MoondreamError: As in `status`. Outages of up to ten minutes are waited out.
        """
        seconds = config.check_seconds("timeout", timeout)
        known = await self._reading.known(job)
        with anyio.move_on_after(seconds):
            return await self._finished(known, progress)
        raise APITimeoutError(f"The job was not finished within {seconds or 0:g} s; it goes on.")

    def results(self, job: AnyJob) -> AsyncOutcomes:
        """The outcome of each item, once, as the result files are read; without the key, gone on with where they break.

        Args:
            job: As in `status`; finished.

        Returns:
            The outcomes, to be iterated; leaving the loop closes the connection. They are as those of `map`: `.index`
            and `.id` of the item, `.result` typed as from the call itself, or `.error`: what could not be sent,
            `BatchLineError` for a line that failed, is missing or damaged (`code` is `"unusable"`), `BatchError` for
            those of a batch that failed. If only a batch's id is known, `.index` counts the lines of its batch.

        Raises:
            BatchError: The job is not finished; or a batch failed, and its items are not known here.
            APIError: A file of results, or a batch, is not there; raised last, after all that can be read.
            MoondreamError: As any call.
        """
        return AsyncOutcomes(functools.partial(self._reading.outcomes, job))

    async def save(self, job: AnyJob, out: str | os.PathLike[str], *, resume: bool = True) -> RunSummary:
        """Read the results into a file of JSON lines such as `run` writes.

        A kill leaves the file whole, and the same call completes it.

        Args:
            job: As in `results`.
            out: The file; `moondream_async.bulk` reads and exports it.
            resume: Whether to go on with a file that holds results of this job. Default True.

        Returns:
            How many succeeded, failed, and were in the file already. Lines that the results leave out are counted as
            failed, and not written: called again, they may be there.

        Raises:
            ResultsFileError: The file cannot be used, or written.
            MoondreamError: As in `results`.
        """
        path_of(out)  # which refuses what is not a path
        known = await self._reading.finished(job)  # before the file is touched
        return await save(self._reading, known, os.fspath(out), resume=resume)

    async def cancel(self, job: AnyJob) -> bool:
        """Abort what is not handed in yet, and delete the job's folder.

        The Batch API cannot stop a batch that it has accepted; it goes on, and is billed.

        Args:
            job: As in `status`.

        Returns:
            Whether all of it was aborted. If not, the folder stays, as some batches go on; `results` tells that the
            others were cancelled.

        Raises:
            BatchError: It is not a job's folder, or another process, or another call of this one, works on it.
            MoondreamError: As any call.
        """
        is_path = isinstance(job, os.PathLike) or (isinstance(job, str) and await run_in_thread(is_folder, job))
        path = path_of(job) if is_path else job.folder if isinstance(job, BatchJob) else None
        if path is None:
            await self.status(job)
            return False
        manifest = await self._reading.check_server(path)
        async with AsyncFolder(path, manifest) as folder:
            portions = folder.manifest.portions
            for number in range(len(portions)):
                await Upload(self._net(), folder, number, _nothing).cancel()
            if not any(portion.batch_id for portion in portions):
                await folder.discard()
                return True
            lines = sum(portion.lines for portion in portions)
            refused = await run_in_thread(lambda path: sum(1 for _ in read_refused(path, manifest)), path)
            await folder.finish_lines(lines + refused)
            return False

    def _manifest(self, model: str | None, **more: Any) -> Manifest:
        return Manifest(self._base_url, config.check_model(model) or self._model, **more)

    @property
    def _reading(self) -> JobReader:
        return JobReader(self.retrieve, lambda: self._net().files, self._base_url)

    async def _finished(self, job: BatchJob, progress: Callable[[BatchJob], Any] | None) -> BatchJob:
        pause, answered = _FIRST_POLL, time.monotonic()
        while True:
            try:
                asked = [batch if batch.finished else await self.retrieve(batch.id) for batch in job.batches]
            except (*_PASSING, NotFoundError) as exc:
                # What was just accepted may not be seen at once; an id that somebody typed is another matter.
                patience = _PATIENCE if not isinstance(exc, NotFoundError) else _SEEN_AFTER if job.folder else 0.0
                if time.monotonic() - answered > patience:
                    raise
            else:
                answered = time.monotonic()
                job = attrs.evolve(job, batches=tuple(asked))
                await call_callback(progress, job)
                if job.finished:
                    return job
            await anyio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - so that many do not ask at once
            pause = min(_SLOWEST_POLL, pause * _SLOWER)


def _nothing(_: int) -> None:
    """Nobody is told of what is not sent."""
