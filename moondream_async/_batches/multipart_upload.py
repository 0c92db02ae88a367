"""Upload a batch in parts, several at once. A resumed upload sends only what is missing."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import anyio
import attrs

from .._api import ApiClient
from .._concurrency.gather import gather
from .._http.payloads import FileBody
from ..errors import APIConnectionError, APIError, BatchError, MoondreamError, NotFoundError
from . import wire
from .job.async_folder import AsyncFolder
from .job.manifest import BatchFile
from .models import UNKNOWN, Batch

PART = 50 * 1024 * 1024
"""Bytes of a part, as the service recommends; its limit is 100 MB."""

_PARTS_AT_ONCE = 4
_ABORT_TIMEOUT = 10.0  # seconds, while the caller is being cancelled
_VISIBILITY_RETRIES = (0.5, 2.0, 5.0)  # seconds between lookups of a batch that may have been accepted
_MAX_COMPLETIONS = 3  # requests
_ACCOUNT_STATUSES = (401, 402, 403, 429)  # they say nothing about an earlier completion


@attrs.define(eq=False, repr=False)
class Upload:
    """The upload of one batch of a job.

    Args:
        api: Sends the requests.
        folder: The job's folder; each step is written to it before the next one is taken.
        number: The batch's number in the job.
        on_sent: Called with the number of bytes of the batch that were sent so far.
    """

    _api: ApiClient
    _folder: AsyncFolder
    _number: int
    _on_sent: Callable[[int], None] = lambda _: None
    _sent: dict[int, int] = attrs.field(factory=dict[int, int], init=False)

    @property
    def _batch_file(self) -> BatchFile:
        return self._folder.manifest.portions[self._number]

    @property
    def _path(self) -> str:
        return f"batch/{quote(self._batch_file.file_id or '', safe='')}"

    async def submit(self) -> Batch:
        """Upload the missing parts, and have the server start the batch. Repeated calls do not start it twice.

        Raises:
            BatchError: The server may have accepted the batch without confirming it.
            MoondreamError: A request failed. The uploaded parts are recorded in the folder.
        """
        if self._batch_file.batch_id is not None:
            return Batch(id=self._batch_file.batch_id, status=UNKNOWN)
        created_before = self._batch_file.file_id is not None
        try:
            batch = await self._submit()
        except NotFoundError:  # the upload was created long ago and has expired
            if self._batch_file.completing or not created_before:
                raise
            self._batch_file.forget_upload()
            batch = await self._submit()
        await self._folder.run(self._folder.blocking.accepted, self._number, batch.id)
        return batch

    async def abort(self) -> None:
        """Have the server discard the uploaded parts, unless it may have accepted the batch. Ignore errors."""
        if self._batch_file.completing:
            return
        with anyio.move_on_after(_ABORT_TIMEOUT, shield=True), suppress(MoondreamError):
            await self._abort()
        self._batch_file.forget_upload()
        await self._folder.save()

    async def cancel(self) -> None:
        """Abort the upload, unless the server turns out to have accepted the batch.

        Raises:
            MoondreamError: The upload cannot be aborted.
        """
        batch_file = self._batch_file
        if batch_file.completing and batch_file.batch_id is None:
            batch = await self._find_with_retries()
            if batch is not None:
                await self._folder.run(self._folder.blocking.accepted, self._number, batch.id)
            batch_file.completing = False
        with suppress(NotFoundError):  # it no longer exists
            await self._abort()
        batch_file.cancelled = batch_file.batch_id is None
        batch_file.forget_upload()
        await self._folder.save()

    async def _abort(self) -> None:
        batch_file = self._batch_file
        if batch_file.upload_id is not None and batch_file.batch_id is None:
            query = {"action": "mpu-abort", "uploadId": batch_file.upload_id}
            await self._api.call("DELETE", self._path, lambda data, _: data, query=query)

    async def _submit(self) -> Batch:
        self._batch_file.cancelled = False
        if self._batch_file.completing and (batch := await self._find()) is not None:
            return batch
        source = await self._folder.run(self._folder.blocking.source_of, self._batch_file)
        if self._batch_file.file_id is None:
            await self._begin()
        await self._send_parts(source)
        return await self._complete()

    async def _begin(self) -> None:
        batch_file = self._batch_file
        query = {"action": "mpu-create"}
        batch_file.file_id, batch_file.upload_id = await self._api.call("POST", "batch", wire.upload, query=query)
        await self._folder.save()

    async def _send_parts(self, source: Path) -> None:
        batch_file = self._batch_file
        missing = [n for n in range(1, math.ceil(batch_file.length / PART) + 1) if str(n) not in batch_file.parts]
        self._sent = {int(n): _length_of(batch_file, int(n)) for n in batch_file.parts}
        await gather(functools.partial(self._send_part, source), missing, at_once=_PARTS_AT_ONCE)

    async def _send_part(self, source: Path, number: int) -> None:
        batch_file = self._batch_file
        length = _length_of(batch_file, number)

        def sent(nbytes: int) -> None:
            self._sent[number] = nbytes
            self._on_sent(sum(self._sent.values()))

        body = FileBody(source, batch_file.start + (number - 1) * PART, length, sent)
        query: dict[str, str | int] = {
            "action": "mpu-uploadpart",
            "uploadId": batch_file.upload_id or "",
            "partNumber": number,
        }
        batch_file.parts[str(number)] = await self._api.call("PUT", self._path, wire.etag, query=query, body=body)
        await self._folder.save()

    async def _complete(self) -> Batch:
        """Have the server start the batch. Repeat the request only if a lookup shows that there is no such batch."""
        error: MoondreamError | None = None
        for _ in range(_MAX_COMPLETIONS):
            ambiguous_before = self._batch_file.completing
            try:
                return await self._complete_once()
            except (APIError, APIConnectionError) as exc:
                error = exc
            status = error.status if isinstance(error, APIError) else 0
            is_client_error = 400 <= status < 500
            if status in _ACCOUNT_STATUSES or (is_client_error and not ambiguous_before):  # this request was rejected
                self._batch_file.completing = ambiguous_before
                await self._folder.save()
                raise error
            batch = await self._find_with_retries()
            if batch is not None:
                return batch
            if is_client_error:
                raise self._ambiguous()
        assert error is not None
        raise error

    async def _complete_once(self) -> Batch:
        batch_file = self._batch_file
        batch_file.completing = True
        await self._folder.save()
        parts = [{"partNumber": n, "etag": batch_file.parts[str(n)]} for n in sorted(map(int, batch_file.parts))]
        fields = {"parts": parts, "model": self._folder.manifest.model}
        body = json.dumps({name: value for name, value in fields.items() if value is not None}).encode()
        query = {"action": "mpu-complete", "uploadId": batch_file.upload_id or ""}
        return await self._api.call("POST", self._path, wire.completed, query=query, body=body, non_idempotent=True)

    def _ambiguous(self) -> BatchError:
        return BatchError(
            f"It is not known whether the server accepted the upload {self._batch_file.file_id}: its response was "
            "lost, and there is no batch with that id. Look for the batch in client.batches.list(). If it is not "
            "there, cancel() the job and create it again.",
            code="folder",
        )

    async def _find_with_retries(self) -> Batch | None:
        """Look for a batch that may have been accepted, several times, as it may not be visible at once."""
        for delay in _VISIBILITY_RETRIES:
            batch = await self._find()
            if batch is not None:
                return batch
            await anyio.sleep(delay)
        return await self._find()

    async def _find(self) -> Batch | None:
        try:
            batch = await self._api.call("GET", self._path, wire.batch, allow_error_field=True)
        except NotFoundError:
            return None
        is_accepted = batch.status in ("chunking", "processing") or batch.finished
        return batch if is_accepted else None  # otherwise it is still an upload


def _length_of(batch_file: BatchFile, number: int) -> int:
    return min(PART, batch_file.length - (number - 1) * PART)
