"""`run`: `map` into a file of results, which can be broken off at any point and gone on with."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import AsyncGenerator, AsyncIterable, Callable, Iterable, Mapping, Sized
from contextlib import aclosing
from typing import Any, Protocol, TypeVar, cast

import anyio
import anyio.to_thread
import attrs

from .._concurrency.callbacks import call_callback
from .._public import public
from ..errors import APIConnectionError, ConfigurationError, MoondreamError, ResultsFileError
from ..prices import Prices, prices_of
from . import records
from .budget import budget_of
from .item_ids import named
from .items import Item
from .journal import Journal
from .lines import MAX_LINE
from .map import AsyncMap, check_items, numbered
from .records import Finished
from .skill_runner import HasSkills, SkillRunner
from .stopping import is_answer, is_auth_error

T = TypeVar("T")

_FAILURES_KEPT = 10
_TABLES = (".csv", ".parquet", ".xlsx")


class HasServer(HasSkills, Protocol):
    """An `AsyncClient`, as far as a run needs it."""

    @property
    def base_url(self) -> str:
        """The server."""
        ...

    @property
    def model(self) -> str | None:
        """The model of every call."""
        ...


@public()
@attrs.frozen(kw_only=True)
class RunSummary:
    """How far a run has come; at its end, what became of it.

    Attributes:
        total: How many items there are; None if that is not known.
        succeeded: Items done in this run.
        failed: Items that failed in this run.
        skipped: Items that the file had already.
        failed_before: Those among them that had failed.
        repeated: Items with the id and arguments of another one of this run; each is done once.
        input_tokens: Of this run.
        output_tokens: Of this run.
        cost: US dollars for them, an estimate; None where prices are not known.
        elapsed: Seconds.
        cost_limit_reached: Whether `max_cost` kept further items from being begun.
        damaged_lines: Lines of the file that cannot be read (blank, torn, edited, or of something else). They stay in
            the file, and their items are done.
    """

    total: int | None = None
    succeeded: int = 0
    failed: int = 0
    skipped: int = 0
    failed_before: int = 0
    repeated: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cost: float | None = None
    elapsed: float = 0.0
    damaged_lines: int = 0
    cost_limit_reached: bool = False

    @property
    def remaining(self) -> int | None:
        """Items that are not dealt with yet; None if the total is not known."""
        return None if self.total is None else max(0, self.total - self.seen)

    @property
    def seen(self) -> int:
        """Items that are dealt with."""
        return self.succeeded + self.failed + self.skipped + self.repeated

    @property
    def rate(self) -> float:
        """Items done or failed, per second."""
        return (self.succeeded + self.failed) / self.elapsed if self.elapsed else 0.0

    @property
    def seconds_left(self) -> float | None:
        """An estimate; None if it cannot be told."""
        if self.total is None or not self.rate:
            return None
        return max(0, self.total - self.seen) / self.rate


@public("bulk")
class Run:
    """One run to a file; `await run.run()` does it, once.

    Args:
        client: An `AsyncClient`.
        skill: As in `AsyncClient.map`.
        items: As in `AsyncClient.map`.
        out: The file of results, JSON lines.
        concurrency: As in `AsyncClient.map`.
        max_failures: As in `AsyncClient.map`.
        stop_on_auth_error: As in `AsyncClient.map`.
        max_connection_failures: As in `AsyncClient.map`.
        max_cost: As in `AsyncClient.map`.
        resume: Whether to go on with a file that holds results.
        retry_failed: Whether to do those again that failed.
        progress: Is given the summary so far, after each item; may be async.
        prices: For the estimate of the cost; None takes Moondream Cloud's, on Moondream Cloud.
        total: How many items there are; None takes their length, if they have one.
        arguments: The skill's own.

    Raises:
        ConfigurationError: As in `AsyncClient.map`.

    Attributes:
        failures: The first ten, with their ids.
    """

    def __init__(
        self,
        client: HasServer,
        skill: object,
        items: Iterable[Any] | AsyncIterable[Any],
        out: str | os.PathLike[str],
        *,
        concurrency: int = 32,
        max_failures: int | None = None,
        stop_on_auth_error: bool = True,
        max_connection_failures: int | None = 20,
        max_cost: float | None = None,
        resume: bool = True,
        retry_failed: bool = False,
        progress: Callable[[RunSummary], Any] | None = None,
        prices: Prices | None = None,
        total: int | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        self._work = SkillRunner(client, skill, arguments or {})
        self._items = self._work.checked(check_items(items))
        self._out = _checked_out(out)
        self._name = records.fingerprint([self._work.task, client.model])
        self._resume, self._retry_failed = resume, retry_failed
        self._stop_when_pointless = stop_on_auth_error
        self._progress = progress
        self._prices = prices or prices_of(client.base_url, client.model)
        self._work.budget = budget_of(max_cost, self._prices, self._work.calls)
        self._opened: Journal | None = None
        self._withholds = max_connection_failures is not None
        self._unwritten: list[tuple[bytes, bytes]] = []  # of items that failed for want of a connection
        self._told = 0
        self.failures: list[tuple[Any, MoondreamError]] = []
        self._summary = RunSummary(total=len(items) if total is None and isinstance(items, Sized) else total)
        self._started = time.monotonic()
        self._outcomes: AsyncMap[Any] = AsyncMap(
            self._fresh(),
            self._do,
            concurrency=concurrency,
            ordered=False,
            max_failures=max_failures,
            stop_on_auth_error=stop_on_auth_error,
            max_connection_failures=max_connection_failures,
            budget=self._work.budget,
        )

    @property
    def summary(self) -> RunSummary:
        """How far it has come."""
        cost = None if self._prices is None else self._prices.cost(self._summary)
        elapsed, stopped = time.monotonic() - self._started, self._outcomes.cost_limit_reached
        return attrs.evolve(self._summary, cost=cost, elapsed=elapsed, cost_limit_reached=stopped)

    def finish(self) -> None:
        """Take no more items; `run` returns when those that are begun are done and written."""
        self._outcomes.finish()

    async def run(self) -> RunSummary:
        """Do it.

        Raises:
            OutputFileError: The file cannot be used; nothing was sent.
            ResultsFileError: The file could not be written any further.
            MoondreamError: What stopped the run, after all that was begun has been written.
        """
        self._started = time.monotonic()
        try:
            await self._write_all()
        except ResultsFileError:
            if self._opened is not None and self._opened.is_lost:
                with anyio.CancelScope(shield=True):
                    await self._count_again()
            raise
        return self.summary

    async def _write_all(self) -> None:
        try:
            async with self._outcomes:
                async for _ in self._outcomes:
                    await self._tell()
            if self._summary.seen != self._told:  # what was skipped
                await self._tell()
        finally:
            if self._opened is not None:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self._close, self._opened)

    def _close(self, journal: Journal) -> None:
        try:
            if not self._outcomes.unreachable:
                self._write_withheld()
        finally:
            journal.close()

    @property
    def _journal(self) -> Journal:
        assert self._opened is not None, "It is opened before the first item is begun."
        return self._opened

    async def _count_again(self) -> None:
        """Count only what is in the file: some of it may have been lost with the file."""
        written = await anyio.to_thread.run_sync(self._journal.count_written)
        self._summary = attrs.evolve(
            self._summary,
            succeeded=min(self._summary.succeeded, written[True]),
            failed=min(self._summary.failed, written[False]),
        )

    async def _open(self) -> None:
        journal = functools.partial(Journal, resume=self._resume, retry_failed=self._retry_failed)
        self._opened = await anyio.to_thread.run_sync(journal, self._out, self._name)
        self._summary = attrs.evolve(self._summary, damaged_lines=self._opened.damaged_lines)

    async def _fresh(self) -> AsyncGenerator[Any]:
        """The items that are not in the file, with their ids."""
        begun: set[bytes] = set()
        async with aclosing(numbered(self._items)) as items:
            first = await anext(items, None)  # refused if the call can never work: then no file is made
            await self._open()
            async for index, raw in _chain(first, items):
                item, key = self._with_key(await named(index, raw))
                if key in begun:
                    self._count(repeated=1)
                elif key in self._journal.finished:
                    self._count(skipped=1, failed_before=int(key in self._journal.failed))
                else:
                    begun.add(key)
                    yield item

    async def _do(self, item: Item) -> tuple[Any, int, MoondreamError | None]:
        started = time.monotonic()
        arguments = self._work.arguments_of(item)
        key = records.key_of(item.id, arguments)
        done = self._done_before(key)
        result, attempts, error = await self._work(item, done)
        metrics = records.metrics_of(_without(result, done))
        # No wait from here on: what was answered is written, whatever ends the run in this moment.
        if result is not None or error is None or not (self._stop_when_pointless and is_auth_error(error)):
            finished = Finished(item.id, arguments, result, error, attempts, time.monotonic() - started)
            line, error = self._line_of(finished)
            result = finished.result if error is finished.error else None
            self._write(key, line, error, is_paid=result is not None)
        if error is not None and len(self.failures) < _FAILURES_KEPT:
            self.failures.append((item.id, error))
        self._count(
            succeeded=int(error is None),
            failed=int(error is not None),
            input_tokens=sum(each.input_tokens or 0 for each in metrics),
            output_tokens=sum(each.output_tokens or 0 for each in metrics),
        )
        return result, attempts, error

    def _write(self, key: bytes, line: bytes, error: MoondreamError | None, *, is_paid: bool) -> None:
        """Write a line; that of an item without a connection only when the server answers another one.

        If it does not, the run stops, and a resumed run takes those items up.
        """
        if self._withholds and isinstance(error, APIConnectionError) and not is_paid:
            self._unwritten.append((key, line))
            return
        if is_paid or is_answer(error):
            self._write_withheld()
        self._journal.add(key, line)

    def _write_withheld(self) -> None:
        while self._unwritten:
            self._journal.add(*self._unwritten[0])
            del self._unwritten[0]

    def _with_key(self, item: Item) -> tuple[Item, bytes]:
        """The item and its key; the item as one that fails, if its arguments cannot be written."""
        arguments = self._work.arguments_of(item)
        try:
            return item, records.key_of(item.id, arguments)
        except records.UNWRITABLE as exc:
            problem = ConfigurationError(f"The arguments of item {item.id!r:.200} cannot be written as JSON: {exc}.")
        item = Item(item.index, f"#{item.index}", None, {}, problem)
        return item, records.key_of(item.id, self._work.arguments_of(item))

    def _line_of(self, finished: Finished) -> tuple[bytes, MoondreamError | None]:
        """The line, and the item's error; a result that no reader would take is an error."""
        try:
            line = records.to_line(finished, several=self._work.several, run=self._name)
            problem = "" if len(line) <= MAX_LINE else f"it has {len(line):,} bytes; at most {MAX_LINE:,} are read"
        except records.UNWRITABLE as exc:
            line, problem = b"", str(exc)
        if not problem:
            return line, finished.error
        error = MoondreamError(f"The result cannot be written: {problem}.")
        finished = attrs.evolve(finished, result=None, error=error)
        return records.to_line(finished, several=self._work.several, run=self._name), error

    def _done_before(self, key: bytes) -> dict[str, Any]:
        """Of an item that is tried again, what its several skills have answered already."""
        record = self._journal.before(key)
        found = None if record is None else records.read(record).outcome.result
        return cast("dict[str, Any]", found) if isinstance(found, dict) else {}

    def _count(self, **more: int) -> None:
        changes = {name: getattr(self._summary, name) + number for name, number in more.items()}
        self._summary = attrs.evolve(self._summary, **changes)

    async def _tell(self) -> None:
        self._told = self._summary.seen
        if self._progress is not None:
            await call_callback(self._progress, self.summary)


async def _chain(first: T | None, rest: AsyncGenerator[T]) -> AsyncGenerator[T]:
    if first is not None:
        yield first
        async for each in rest:
            yield each


def _without(result: Any, done: Mapping[str, Any]) -> Any:
    """The result, without what had been paid for before."""
    if not done or not isinstance(result, dict):
        return result
    return {name: each for name, each in cast("dict[str, Any]", result).items() if name not in done}


def _checked_out(out: str | os.PathLike[str]) -> str | os.PathLike[str]:
    if not isinstance(out, (str, os.PathLike)) or os.fspath(out) in ("", "-"):
        raise ConfigurationError(f"out must be the path of a file, not {out!r}.")
    if os.fspath(out).lower().endswith(_TABLES):
        raise ConfigurationError(f"{os.fspath(out)!r}: a run writes JSON lines; `export` makes a table of them.")
    return out
