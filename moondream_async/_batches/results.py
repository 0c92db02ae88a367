"""A batch's files of results -> the outcome of each line, once."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import aclosing
from typing import Any, TypeGuard

import anyio.to_thread
import attrs

from .._bulk.items import Outcome
from .._http.lines import FileLine
from .._http.presigned_download import Files
from .._log import log
from .._wire.errors import invalid_response
from ..errors import APIError, BatchError, BatchLineError, MoondreamError
from ..types import Result
from . import wire
from .job.line_index import Index
from .job.manifest import Entry
from .models import FAILED, Batch
from .result_lines import OutputLine, read_line, read_result, unusable

Retrieve = Callable[[], Awaitable[Batch]]

_LARGE = 64 * 1024  # bytes of a line that is read in a thread
_MAX_LINES = 10 * wire.MOST_LINES  # of a file, blank ones included


class Output:
    """The outcomes of one batch.

    A line that cannot be used never hides another one: where a good line of the same item comes later, that is used.

    Args:
        files: Reads the files.
        batch: As it was just now; finished.
        retrieve: Asks about it anew, for URLs that have not expired.
        index: What its lines are of; None if this machine does not know.
        first: The place of its first line among all items, if `index` is None.
    """

    def __init__(self, files: Files, batch: Batch, retrieve: Retrieve, index: Index | None, first: int = 0) -> None:
        self._files = files
        self._batch = batch
        self._retrieve = retrieve
        self._index = index
        self._first = first
        self._seen = bytearray(wire.MOST_LINES)
        self._ids: dict[int, int] = {}  # hashes of the ids that were seen, where there is no index
        self._unusable: dict[int, BatchLineError] = {}  # by line
        self._unplaced = 0  # lines of which it cannot be told what they are of
        self._by_id: dict[str, int | None] | None = None

    async def outcomes(self) -> AsyncGenerator[tuple[Entry | None, Outcome[Any]]]:
        """Yield the outcome of each line, with what it is of.

        Raises:
            BatchError: The batch failed, or its results have expired, and nothing is known of its lines.
            APIError: A file of results cannot be read; the others were.
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
            lines = sum(self._seen) + self._unplaced
        if failed is not None:
            raise failed
        problem = self._problem()
        if self._index is not None:
            for outcome in self._rest(self._index, problem):
                yield outcome
        elif problem is not None:
            raise problem

    def _rest(self, index: Index, problem: BatchError | None) -> Generator[tuple[Entry, Outcome[Any]]]:
        """Yield the outcomes of the items that no line was found for."""
        left = [place for place in range(len(index)) if not self._seen[place]]
        are_unusable = sum(place not in self._unusable for place in left) <= self._unplaced
        for place in left:
            entry = index[place]
            error: MoondreamError | None = problem or self._unusable.get(place)
            if error is None and are_unusable:
                error = unusable("the line that would be this one's cannot be read", place)
            missing = BatchLineError("The results have nothing for this line.", code="missing", line_index=place)
            yield entry, Outcome(entry.item, entry.id, None, error or missing, 0, 0.0)

    def _problem(self) -> BatchError | None:
        """Why there are no results at all."""
        batch = self._batch
        if batch.status in FAILED:
            said = batch.error_message or batch.error_code or "the server does not say why"
            code = batch.error_code
            named = f" ({code})" if code and code != said else ""
            return BatchError(
                f"Batch {batch.id} {'failed' if batch.status == 'failed' else 'was ' + batch.status}: {said}{named}.",
                code=code or batch.status,
                batch_id=batch.id,
            )
        if not batch.outputs and (batch.progress is None or batch.progress.completed + batch.progress.failed):
            return BatchError(
                f"The results of batch {batch.id} have expired (they are kept for 7 days).",
                code="expired",
                batch_id=batch.id,
            )
        return None

    async def _outcomes_of(self, number: int, before: int) -> AsyncGenerator[tuple[Entry | None, Outcome[Any]]]:
        """Yield the outcomes of one file."""

        async def renewed() -> str:
            self._batch = await self._retrieve()
            return self._url(number)

        read = 0  # lines of this file that were read; it may be begun again
        async with aclosing(self._files.lines(self._url(number), renewed)) as lines:
            async for line in lines:
                if line.number >= _MAX_LINES:
                    raise invalid_response(200, None, f"a file of results has more than {_MAX_LINES:,} lines")
                is_again, read = line.number < read, max(read, line.number + 1)
                if line.text.strip():
                    found = await self._outcome_of(line, before, is_again=is_again)
                    if found is not None:
                        yield found

    def _url(self, number: int) -> str:
        outputs = sorted(self._batch.outputs or (), key=lambda output: output.index)
        if number >= len(outputs):
            raise BatchError(
                f"The results of batch {self._batch.id} have expired.", code="expired", batch_id=self._batch.id
            )
        return outputs[number].url

    async def _outcome_of(
        self, line: FileLine, before: int, *, is_again: bool
    ) -> tuple[Entry | None, Outcome[Any]] | None:
        """Return the outcome of a line; None if there is none, or none yet."""
        read = await _read_line(line)
        if self._index is None:
            place = self._first + (before + line.number if read.line_index is None else read.line_index)
            return await self._without_index(read, place, large=len(line.text) > _LARGE, is_again=is_again)
        found = await self._place_of(self._index, read)
        if found is None:
            self._unplaced += not is_again
            log.warning("batch %s: a line of its results is of no line of the job", self._batch.id)
            return None
        if self._seen[found]:
            return None
        entry = self._index[found]
        result, error = await _read_result(read, entry.skill, large=len(line.text) > _LARGE)
        if _is_unusable(error):
            self._unusable.setdefault(found, error)
            return None
        self._seen[found] = 1
        shown: Any = None if result is None else attrs.evolve(result, image_size=entry.size)
        return entry, Outcome(entry.item, entry.id, shown, error, 0, 0.0)

    async def _without_index(
        self, read: OutputLine, place: int, *, large: bool, is_again: bool
    ) -> tuple[None, Outcome[Any]] | None:
        """Return the outcome of a line of which this machine knows nothing; None if it came before."""
        index, name = read.line_index, hash(read.id)
        if is_again and (index is None or self._seen[index]):
            return None
        if index is not None and self._seen[index] and self._ids[index] == name:
            return None
        result, error = await _read_result(read, None, large=large)
        if _is_unusable(error):
            if is_again:
                return None
        elif index is not None and not self._seen[index]:
            self._seen[index], self._ids[index] = 1, name
        self._unplaced += index is None and not is_again
        return None, Outcome(place, place if read.id is None else read.id, result, error, 0, 0.0)

    async def _place_of(self, index: Index, line: OutputLine) -> int | None:
        """Return the line of the input: by its number, where the id agrees; else by its id; else by its number."""
        place = line.line_index
        by_number = place if place is not None and place < len(index) else None
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
