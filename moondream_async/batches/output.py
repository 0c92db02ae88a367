"""A batch's files of results -> the outcome of each line, once."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from typing import Any

import anyio.to_thread
import attrs

from ..bulk.items import Outcome
from ..errors import APIError, BatchError, BatchLineError
from ..net.counters import log
from ..net.files import Files
from ..wire.responses import Unusable
from . import wire
from .index import Index
from .manifest import Entry
from .types import FAILED, Batch
from .wire import OutputLine

Retrieve = Callable[[], Awaitable[Batch]]


class Output:
    """The outcomes of one batch.

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
        self._by_id: dict[str, int | None] | None = None

    async def outcomes(self) -> AsyncGenerator[tuple[Entry | None, Outcome[Any]]]:
        """Each line's, with what it is of.

        Raises:
            BatchError: It failed, or its results are there no more, and nothing is known of its lines.
            APIError: A file of results cannot be read.
        """
        for number in range(len(self._batch.outputs or ())):
            async with aclosing(self._lines_of(number)) as lines:
                async for line in lines:
                    told = await self._told(line)
                    if told is not None:
                        yield told
        problem = self._problem()
        if self._index is None:
            if problem is not None:
                raise problem
            return
        for place in range(len(self._index)):
            if not self._seen[place]:
                entry = self._index[place]
                missing = BatchLineError("The results have nothing for this line.", code="missing", line_index=place)
                yield entry, Outcome(entry.item, entry.id, None, problem or missing, 0, 0.0)

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
                f"The results of batch {batch.id} are there no more; they are kept for 7 days.",
                code="expired",
                batch_id=batch.id,
            )
        return None

    async def _lines_of(self, number: int) -> AsyncGenerator[OutputLine]:
        async def renewed() -> str:
            self._batch = await self._retrieve()
            return self._url(number)

        async with aclosing(self._files.lines(self._url(number), renewed)) as lines:
            async for text in lines:
                if not text.strip():
                    continue
                try:
                    yield wire.output_line(text)
                except Unusable as exc:
                    problem = str(exc)
                else:
                    continue
                raise APIError(
                    f"A line of the results of batch {self._batch.id} cannot be used: {problem}.",
                    status=200,
                    body=text[:4000].decode("utf-8", "replace"),
                )

    def _url(self, number: int) -> str:
        outputs = sorted(self._batch.outputs or (), key=lambda output: output.index)
        if number >= len(outputs):
            raise BatchError(
                f"The results of batch {self._batch.id} are there no more.", code="expired", batch_id=self._batch.id
            )
        return outputs[number].url

    async def _told(self, line: OutputLine) -> tuple[Entry | None, Outcome[Any]] | None:
        """The outcome of a line; None if it had come before, or is of no line of ours."""
        place = await self._place_of(line)
        if place is not None and self._seen[place]:
            return None
        if self._index is None:
            item = self._first if place is None else self._first + place
            self._mark(place)
            return None, Outcome(item, item if line.id is None else line.id, line.result, line.error, 0, 0.0)
        if place is None:
            log.warning("batch %s: a line of its results is of no line of the job", self._batch.id)
            return None
        self._mark(place)
        entry = self._index[place]
        result: Any = None if line.result is None else attrs.evolve(line.result, image_size=entry.size)
        return entry, Outcome(entry.item, entry.id, result, line.error, 0, 0.0)

    def _mark(self, place: int | None) -> None:
        if place is not None:
            self._seen[place] = 1

    async def _place_of(self, line: OutputLine) -> int | None:
        """Which line of the input it is: by its number, where the id agrees; else by its id; else by its number."""
        index, place = self._index, line.line_index
        if index is None:
            return place
        by_number = place if place is not None and place < len(index) else None
        if by_number is not None and (line.id is None or index[by_number].id == line.id):
            return by_number
        if self._by_id is None:
            self._by_id = await anyio.to_thread.run_sync(index.by_id)
        by_id = self._by_id.get(json.dumps(line.id))
        return by_number if by_id is None else by_id
