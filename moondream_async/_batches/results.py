"""Read a batch's result files, and yield the outcome of each line once."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Generator
from contextlib import aclosing
from typing import Any, TypeAlias, TypeGuard

import anyio.to_thread
import attrs

from .._api import ApiClient
from .._bulk.outcomes import Outcome, make_outcome
from .._http.lines import FileLine
from .._images.image_source import ImageSource, remember
from .._log import log
from .._wire.errors import invalid_response
from ..errors import APIError, BatchError, BatchLineError, MoondreamError
from ..types import Result
from . import wire
from .job.line_index import Index
from .job.manifest import Entry
from .models import FAILED, Batch
from .result_lines import OutputLine, read_line, read_result, unusable
from .retrieval import retrieve

EntryOutcome: TypeAlias = tuple[Entry | None, Outcome[Any]]
"""The outcome of an item, and its entry if this machine knows it."""

_LARGE = 64 * 1024  # bytes above which a line is parsed in a thread
_MAX_LINES = 10 * wire.MAX_LINES  # of a file, including blank ones


class BatchResults:
    """The results of one batch.

    An unusable line never hides a good one: if a good line for the same item comes later, that one is used.

    Args:
        api: Sends the requests.
        batch: The current state of the batch, which is finished.
        index: The entries of its lines; None if this machine does not know them.
    """

    def __init__(self, api: ApiClient, batch: Batch, index: Index | None) -> None:
        self._api = api
        self._files = api.files
        self._batch = batch
        self._index = index
        self._seen = bytearray(wire.MAX_LINES)
        self._ids: dict[int, int] = {}  # hashes of the seen ids by line, if there is no index
        self._unusable: dict[int, BatchLineError] = {}  # by line
        self._unmatched = 0  # result lines that match no line of the input
        self._by_id: dict[str, int | None] | None = None

    async def outcomes(self) -> AsyncGenerator[EntryOutcome]:
        """Yield the outcome of each line, with its entry.

        Raises:
            BatchError: The batch failed or its results have expired, and this machine does not know its lines.
            APIError: A result file cannot be read; raised after the others were read.
        """
        failed: APIError | BatchError | None = None
        lines = 0
        for number in range(len(self._batch.outputs or ())):
            try:
                async with aclosing(self._outcomes_of(number, lines)) as outcomes:
                    async for outcome in outcomes:
                        yield outcome
            except (APIError, BatchError) as exc:
                failed = failed or exc
            lines = sum(self._seen) + self._unmatched
        if failed is not None:
            raise failed
        problem = self._problem()
        if self._index is not None:
            for outcome in self._rest(self._index, problem):
                yield outcome
        elif problem is not None:
            raise problem

    def _rest(self, index: Index, problem: BatchError | None) -> Generator[tuple[Entry, Outcome[Any]]]:
        """Yield the outcomes of the items that have no usable result line."""
        left = [position for position in range(len(index)) if not self._seen[position]]
        are_unusable = sum(position not in self._unusable for position in left) <= self._unmatched
        for position in left:
            entry = index[position]
            error: MoondreamError | None = problem or self._unusable.get(position)
            if error is None and are_unusable:
                error = unusable("its line in the results cannot be read", position)
            missing = BatchLineError("The results have no line for this item.", code="missing", line_index=position)
            yield entry, make_outcome(entry.item, entry.id, None, error or missing, 0, 0.0)

    def _problem(self) -> BatchError | None:
        """Return the error that explains why there are no results at all, if so."""
        batch = self._batch
        if batch.status in FAILED:
            reason = batch.error_message or batch.error_code or "the server gave no reason"
            code = batch.error_code
            suffix = f" ({code})" if code and code != reason else ""
            verb = "failed" if batch.status == "failed" else f"was {batch.status}"
            message = f"Batch {batch.id} {verb}: {reason}{suffix}."
            return BatchError(message, code=code or batch.status, batch_id=batch.id)
        if not batch.outputs and (batch.progress is None or batch.progress.completed + batch.progress.failed):
            return BatchError(
                f"The results of batch {batch.id} have expired (they are kept for 7 days).",
                code="expired",
                batch_id=batch.id,
            )
        return None

    async def _outcomes_of(self, number: int, before: int) -> AsyncGenerator[EntryOutcome]:
        """Yield the outcomes of one file."""

        async def renew_url() -> str:
            self._batch = await retrieve(self._api, self._batch.id)
            return self._url(number)

        read = 0  # lines read so far; the download may restart from the beginning
        async with aclosing(self._files.lines(self._url(number), renew_url)) as lines:
            async for line in lines:
                if line.number >= _MAX_LINES:
                    raise invalid_response(200, None, f"a result file has more than {_MAX_LINES:,} lines")
                is_repeated, read = line.number < read, max(read, line.number + 1)
                if line.text.strip():
                    found = await self._outcome_of(line, before, is_repeated=is_repeated)
                    if found is not None:
                        yield found

    def _url(self, number: int) -> str:
        outputs = sorted(self._batch.outputs or (), key=lambda output: output.index)
        if number >= len(outputs):
            raise BatchError(
                f"The results of batch {self._batch.id} have expired.", code="expired", batch_id=self._batch.id
            )
        return outputs[number].url

    async def _outcome_of(self, line: FileLine, before: int, *, is_repeated: bool) -> EntryOutcome | None:
        """Return the outcome of a line, or None if the line gives none, or none yet."""
        read = await _read_line(line)
        if self._index is None:
            position = before + line.number if read.line_index is None else read.line_index
            return await self._without_index(read, position, large=len(line.text) > _LARGE, is_repeated=is_repeated)
        found = await self._line_of(self._index, read)
        if found is None:
            self._unmatched += not is_repeated
            log.warning("batch %s: a result line matches no line of the job", self._batch.id)
            return None
        if self._seen[found]:
            return None
        entry = self._index[found]
        result, error = await _read_result(read, entry.skill, large=len(line.text) > _LARGE)
        if _is_unusable(error):
            self._unusable.setdefault(found, error)
            return None
        self._seen[found] = 1
        if result is not None:
            result = attrs.evolve(result, image_size=entry.size)
            remember(result, ImageSource.of_id(entry.id), entry.arguments.get("object"))
        return entry, make_outcome(entry.item, entry.id, result, error, 0, 0.0)

    async def _without_index(
        self, read: OutputLine, position: int, *, large: bool, is_repeated: bool
    ) -> tuple[None, Outcome[Any]] | None:
        """Return the outcome of a line without an entry, or None if it was seen before."""
        index, name = read.line_index, hash(read.id)
        if is_repeated and (index is None or self._seen[index]):
            return None
        if index is not None and self._seen[index] and self._ids[index] == name:
            return None
        result, error = await _read_result(read, None, large=large)
        if _is_unusable(error):
            if is_repeated:
                return None
        elif index is not None and not self._seen[index]:
            self._seen[index], self._ids[index] = 1, name
        self._unmatched += index is None and not is_repeated
        return None, make_outcome(position, position if read.id is None else read.id, result, error, 0, 0.0)

    async def _line_of(self, index: Index, line: OutputLine) -> int | None:
        """Return the input line: by number if the id matches, else by id, else by number."""
        position = line.line_index
        by_number = position if position is not None and position < len(index) else None
        if by_number is not None and (line.id is None or index[by_number].id == line.id):
            return by_number
        if line.id is None:
            return None
        if self._by_id is None:
            self._by_id = await anyio.to_thread.run_sync(index.by_id)
        by_id = self._by_id.get(json.dumps(line.id))
        return by_number if by_id is None else by_id


async def _read_line(line: FileLine) -> OutputLine:
    if len(line.text) <= _LARGE:
        return read_line(line.text, is_whole=line.is_whole)
    return await anyio.to_thread.run_sync(read_line, line.text)


async def _read_result(
    line: OutputLine, skill: str | None, *, large: bool
) -> tuple[Result | None, MoondreamError | None]:
    if not large:
        return read_result(line, skill)
    return await anyio.to_thread.run_sync(read_result, line, skill)


def _is_unusable(error: MoondreamError | None) -> TypeGuard[BatchLineError]:
    return isinstance(error, BatchLineError) and error.code == "unusable"
