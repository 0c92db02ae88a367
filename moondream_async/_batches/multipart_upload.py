"""A batch's lines to the server: in parts, several at once, each with its retries; nothing twice."""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import anyio

from .._concurrency.gather import gather
from .._http.payloads import FileBody
from .._http.sender import Sender
from ..errors import APIConnectionError, APIError, BatchError, MoondreamError, NotFoundError
from . import wire
from .job.async_folder import AsyncFolder
from .job.manifest import BatchFile
from .models import UNKNOWN, Batch

PART = 50 * 1024 * 1024
"""Bytes of a part: what the service advises; it takes less than 100 MB."""

_PARTS_AT_ONCE = 4
_ABORT_WITHIN = 10.0  # seconds, when a caller is leaving
_LOOKS = (0.5, 2.0, 5.0)  # seconds to wait between looks for a batch whose acceptance was not heard of
_COMPLETIONS = 3  # times
_OF_THE_KEY = (401, 402, 403, 429)  # statuses that say nothing of an earlier completion


class Upload:
    """The upload of one portion of a job.

    Args:
        net: Sends.
        folder: The job; is told of every step before the next is taken.
        number: The portion's.
        told: Is given the bytes of it that have been sent so far.
    """

    def __init__(self, net: Sender, folder: AsyncFolder, number: int, told: Callable[[int], None]) -> None:
        self._net = net
        self._folder = folder
        self._number = number
        self._told = told
        self._sent: dict[int, int] = {}

    @property
    def _portion(self) -> BatchFile:
        return self._folder.manifest.portions[self._number]

    @property
    def _path(self) -> str:
        return f"batch/{quote(self._portion.file_id or '', safe='')}"

    async def hand_in(self) -> Batch:
        """Upload what is not uploaded yet, and have the batch begun; once, however often this is called.

        Raises:
            BatchError: Whether the server has accepted the batch cannot be found out.
            MoondreamError: It failed; what was uploaded is noted.
        """
        if self._portion.batch_id is not None:
            return Batch(id=self._portion.batch_id, status=UNKNOWN)
        begun_before = self._portion.file_id is not None
        try:
            batch = await self._handed_in()
        except NotFoundError:  # begun long ago, the upload is gone
            if self._portion.completing or not begun_before:
                raise
            self._portion.forget_upload()
            batch = await self._handed_in()
        await self._folder.accepted(self._number, batch.id)
        return batch

    async def abort(self) -> None:
        """Have the server forget what was uploaded, unless it may have accepted it.

        What goes wrong with that is not the caller's business.
        """
        if self._portion.completing:
            return
        with anyio.move_on_after(_ABORT_WITHIN, shield=True), suppress(MoondreamError):
            await self._abort()
        self._portion.forget_upload()
        await self._save()

    async def cancel(self) -> None:
        """Abort, unless the server is found to have accepted it.

        Raises:
            MoondreamError: It cannot be aborted.
        """
        portion = self._portion
        if portion.completing and portion.batch_id is None:
            found = await self._found_in_time()
            if found is not None:
                await self._folder.accepted(self._number, found.id)
            portion.completing = False
        with suppress(NotFoundError):  # it is gone already
            await self._abort()
        portion.cancelled = portion.batch_id is None
        portion.forget_upload()
        await self._save()

    async def _abort(self) -> None:
        portion = self._portion
        if portion.upload_id is not None and portion.batch_id is None:
            query = {"action": "mpu-abort", "uploadId": portion.upload_id}
            await self._net.call("DELETE", self._path, lambda data, _: data, query=query)

    async def _handed_in(self) -> Batch:
        self._portion.cancelled = False
        if self._portion.completing and (found := await self._found()) is not None:
            return found
        source = await self._folder.source_of(self._portion)
        if self._portion.file_id is None:
            await self._begin()
        await self._send_parts(source)
        return await self._complete()

    async def _begin(self) -> None:
        portion = self._portion
        query = {"action": "mpu-create"}
        portion.file_id, portion.upload_id = await self._net.call("POST", "batch", wire.upload, query=query)
        await self._save()

    async def _send_parts(self, source: Path) -> None:
        portion = self._portion
        missing = [n for n in range(1, math.ceil(portion.length / PART) + 1) if str(n) not in portion.parts]
        self._sent = {int(n): _length_of(portion, int(n)) for n in portion.parts}
        await gather(functools.partial(self._send_part, source), missing, at_once=_PARTS_AT_ONCE)

    async def _send_part(self, source: Path, number: int) -> None:
        portion = self._portion
        length = _length_of(portion, number)

        def sent(nbytes: int) -> None:
            self._sent[number] = nbytes
            self._told(sum(self._sent.values()))

        body = FileBody(source, portion.start + (number - 1) * PART, length, sent)
        query: dict[str, str | int] = {
            "action": "mpu-uploadpart",
            "uploadId": portion.upload_id or "",
            "partNumber": number,
        }
        portion.parts[str(number)] = await self._net.call("PUT", self._path, wire.etag, query=query, body=body)
        await self._save()

    async def _complete(self) -> Batch:
        """Have the batch begun; sent again only when the server was asked, and has no such batch."""
        error: MoondreamError | None = None
        for _ in range(_COMPLETIONS):
            doubtful_before = self._portion.completing
            try:
                return await self._complete_once()
            except (APIError, APIConnectionError) as exc:
                error = exc
            status = error.status if isinstance(error, APIError) else 0
            if status in _OF_THE_KEY or (400 <= status < 500 and not doubtful_before):  # this one was refused
                self._portion.completing = doubtful_before
                await self._save()
                raise error
            found = await self._found_in_time()
            if found is not None:
                return found
            if 400 <= status < 500:
                raise self._doubt()
        assert error is not None
        raise error

    async def _complete_once(self) -> Batch:
        portion = self._portion
        portion.completing = True
        await self._save()
        parts = [{"partNumber": n, "etag": portion.parts[str(n)]} for n in sorted(map(int, portion.parts))]
        fields = {"parts": parts, "model": self._folder.manifest.model}
        body = json.dumps({name: value for name, value in fields.items() if value is not None}).encode()
        query = {"action": "mpu-complete", "uploadId": portion.upload_id or ""}
        return await self._net.call("POST", self._path, wire.completed, query=query, body=body, non_idempotent=True)

    def _doubt(self) -> BatchError:
        return BatchError(
            f"Whether the server has accepted the upload {self._portion.file_id} is not known: its answer was lost, "
            "and there is no batch of that name. It may have another: see client.batches.list(). If it has none, "
            "cancel() the job, and create it anew.",
            code="folder",
        )

    async def _found_in_time(self) -> Batch | None:
        """The batch, if it was accepted all the same; it may take a moment to be seen."""
        for pause in _LOOKS:
            found = await self._found()
            if found is not None:
                return found
            await anyio.sleep(pause)
        return await self._found()

    async def _found(self) -> Batch | None:
        try:
            found = await self._net.call("GET", self._path, wire.batch, allow_error_body=True)
        except NotFoundError:
            return None
        return found if found.status in ("chunking", "processing") or found.finished else None  # else an upload

    async def _save(self) -> None:
        await self._folder.save()


def _length_of(portion: BatchFile, number: int) -> int:
    return min(PART, portion.length - (number - 1) * PART)
