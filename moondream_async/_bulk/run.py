"""`run`: `map` with a results file, which can be interrupted at any point and resumed."""

from __future__ import annotations

import functools
import os
import time
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Mapping, Sized
from contextlib import aclosing
from typing import Any, TypeVar, cast

import anyio
import anyio.to_thread
import attrs

from .._api import ApiClient
from .._progress.figures import Progress, RunSummary
from .._progress.reporter import ProgressOption, Reporter
from .._public import public
from ..errors import APIConnectionError, ConfigurationError, MoondreamError, ResultsFileError
from ..prices import Prices, prices_of
from . import records
from .budget import budget_of
from .failures import FailureGroup, FailureGroups
from .item_ids import identify
from .items import Item
from .journal import Journal
from .lines import MAX_LINE
from .map import AsyncMap, check_items, numbered
from .map_progress import progress_of
from .records import Finished
from .skill_runner import SkillRunner
from .stopping import StopPolicy, is_answer, is_auth_error

T = TypeVar("T")

_MAX_FAILURES = 10
_TABLE_SUFFIXES = (".csv", ".parquet", ".xlsx")


@public("bulk")
class Run:
    """A run that writes to a results file. `await run.run()` executes it, once.

    Args:
        client: An `AsyncClient`.
        skill: As in `AsyncClient.map`.
        items: As in `AsyncClient.map`.
        out: The path of the results file (JSON Lines).
        concurrency: As in `AsyncClient.map`.
        max_failures: As in `AsyncClient.map`.
        stop_on_auth_error: As in `AsyncClient.map`.
        max_connection_failures: As in `AsyncClient.map`.
        max_cost: As in `AsyncClient.map`.
        resume: Whether to continue a file that already holds results.
        retry_failed: Whether to retry items that failed earlier.
        progress: As in `AsyncClient.map`.
        prices: Token prices for the cost estimate. Default: Moondream Cloud's prices, if that is the server.
        total: The number of items. Default: the length of `items`, if it has one.
        arguments: The skill's arguments.

    Raises:
        ConfigurationError: As in `AsyncClient.map`.

    Attributes:
        failures: The first ten failures, as `(id, error)`.
    """

    def __init__(
        self,
        client: Any,
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
        progress: ProgressOption = None,
        prices: Prices | None = None,
        total: int | None = None,
        arguments: Mapping[str, Any] | None = None,
    ) -> None:
        api: ApiClient = client._api  # a client's class cannot be imported here: clients import this module
        self._runner = SkillRunner(api, skill, arguments or {})
        self._items = self._runner.checked(check_items(items))
        self._out = _check_out(out)
        self._name = records.fingerprint([self._runner.task, api.model])
        self._resume, self._retry_failed = resume, retry_failed
        self._stop_on_auth_error = stop_on_auth_error
        self._reporter = Reporter(progress, self._current_progress)
        self._api = api
        self._prices = prices or prices_of(api.base_url, api.model)
        self._runner.budget = budget_of(max_cost, self._prices, self._runner.calls)
        self._open_journal: Journal | None = None
        self._withholds_lines = max_connection_failures is not None
        self._withheld: list[tuple[bytes, bytes]] = []  # keys and lines of items with connection errors
        self.failures: list[tuple[Any, MoondreamError]] = []
        self._failure_groups = FailureGroups()
        self._in_flight = 0
        self._summary = RunSummary(total=len(items) if total is None and isinstance(items, Sized) else total)
        self._started = time.monotonic()
        policy = StopPolicy(
            max_failures, stop_on_auth_error=stop_on_auth_error, max_connection_failures=max_connection_failures
        )
        self._outcomes: AsyncMap[Any] = AsyncMap(
            self._pending_items(),
            self._process,
            concurrency=concurrency,
            ordered=False,
            policy=policy,
            budget=self._runner.budget,
        )

    @property
    def out(self) -> str:
        """The path of the results file."""
        return os.fspath(self._out)

    @property
    def summary(self) -> RunSummary:
        """The counts so far."""
        cost = None if self._prices is None else self._prices.cost(self._summary)
        elapsed, stopped = time.monotonic() - self._started, self._outcomes.cost_limit_reached
        return attrs.evolve(self._summary, cost=cost, elapsed=elapsed, cost_limit_reached=stopped)

    def finish(self) -> None:
        """Stop taking new items. `run` returns once the in-flight items are finished and written."""
        self._outcomes.finish()

    async def run(self) -> RunSummary:
        """Execute the run.

        Raises:
            OutputFileError: The file cannot be used; nothing was sent.
            ResultsFileError: Writing to the file failed during the run.
            MoondreamError: The error that stopped the run, raised after all in-flight items are written.
        """
        self._started = time.monotonic()
        try:
            await self._write_all()
        except ResultsFileError:
            if self._open_journal is not None and self._open_journal.is_lost:
                with anyio.CancelScope(shield=True):
                    await self._recount()
            raise
        return self.summary

    async def _write_all(self) -> None:
        try:
            async with self._reporter.running(), self._outcomes:
                async for _ in self._outcomes:
                    pass
        finally:
            if self._open_journal is not None:
                with anyio.CancelScope(shield=True):
                    await anyio.to_thread.run_sync(self._close, self._open_journal)

    def _close(self, journal: Journal) -> None:
        try:
            if not self._outcomes.unreachable:
                self._write_withheld()
        finally:
            journal.close()

    @property
    def _journal(self) -> Journal:
        assert self._open_journal is not None, "The journal is opened before the first item starts."
        return self._open_journal

    async def _recount(self) -> None:
        """Count only what is in the file: some of it may have been lost with the file."""
        written = await anyio.to_thread.run_sync(self._journal.count_written)
        self._summary = attrs.evolve(
            self._summary,
            succeeded=min(self._summary.succeeded, written[True]),
            failed=min(self._summary.failed, written[False]),
        )

    async def _open(self) -> None:
        journal = functools.partial(Journal, resume=self._resume, retry_failed=self._retry_failed)
        self._open_journal = await anyio.to_thread.run_sync(journal, self._out, self._name)
        self._summary = attrs.evolve(self._summary, damaged_lines=self._open_journal.damaged_lines)

    async def _pending_items(self) -> AsyncGenerator[Any]:
        """Yield the items that the file does not have yet, with their IDs."""
        started_keys: set[bytes] = set()
        async with aclosing(numbered(self._items)) as items:
            first = await anext(items, None)  # raises if the call can never work, before the file is created
            await self._open()
            async for index, raw in _chain(first, items):
                item, key = self._with_key(await identify(index, raw))
                if key in started_keys:
                    self._count(repeated=1)
                elif key in self._journal.finished:
                    self._count(skipped=1, failed_before=int(key in self._journal.failed))
                else:
                    started_keys.add(key)
                    yield item

    async def _process(self, item: Item) -> tuple[Any, int, MoondreamError | None]:
        self._in_flight += 1
        try:
            return await self._process_one(item)
        finally:
            self._in_flight -= 1

    async def _process_one(self, item: Item) -> tuple[Any, int, MoondreamError | None]:
        started = time.monotonic()
        arguments = self._runner.arguments_of(item)
        key = records.key_of(item.id, arguments)
        previous = self._previous_results(key)
        result, attempts, error = await self._runner(item, previous)
        metrics = records.metrics_of(_new_results(result, previous))
        # No await from here on, so that cancellation cannot lose a result that was paid for.
        if result is not None or error is None or not (self._stop_on_auth_error and is_auth_error(error)):
            finished = Finished(item.id, arguments, result, error, attempts, time.monotonic() - started)
            line, error = self._line_of(finished)
            result = finished.result if error is finished.error else None
            self._write(key, line, error, is_paid=result is not None)
        if error is not None:
            self._failure_groups.add(item.id, error)
            if len(self.failures) < _MAX_FAILURES:
                self.failures.append((item.id, error))
        self._count(
            succeeded=int(error is None),
            failed=int(error is not None),
            input_tokens=sum(each.input_tokens or 0 for each in metrics),
            output_tokens=sum(each.output_tokens or 0 for each in metrics),
        )
        return result, attempts, error

    def _write(self, key: bytes, line: bytes, error: MoondreamError | None, *, is_paid: bool) -> None:
        """Write a line, but withhold that of a failed connection until the server answers another item.

        If the server never answers, the run stops, and a resumed run processes the withheld items again.
        """
        if self._withholds_lines and isinstance(error, APIConnectionError) and not is_paid:
            self._withheld.append((key, line))
            return
        if is_paid or is_answer(error):
            self._write_withheld()
        self._journal.add(key, line)

    def _write_withheld(self) -> None:
        while self._withheld:
            self._journal.add(*self._withheld[0])
            del self._withheld[0]

    def _with_key(self, item: Item) -> tuple[Item, bytes]:
        """Return the item and its key; an item that will fail if its arguments cannot be written as JSON."""
        arguments = self._runner.arguments_of(item)
        try:
            return item, records.key_of(item.id, arguments)
        except records.UNWRITABLE as exc:
            problem = ConfigurationError(f"The arguments of item {item.id!r:.200} cannot be written as JSON: {exc}.")
        item = Item(item.index, f"#{item.index}", None, {}, problem)
        return item, records.key_of(item.id, self._runner.arguments_of(item))

    def _line_of(self, finished: Finished) -> tuple[bytes, MoondreamError | None]:
        """Return the line and the item's error; a result that could not be read back counts as an error."""
        try:
            line = records.to_line(finished, several=self._runner.several, run=self._name)
            problem = "" if len(line) <= MAX_LINE else f"it has {len(line):,} bytes; at most {MAX_LINE:,} are read"
        except records.UNWRITABLE as exc:
            line, problem = b"", str(exc)
        if not problem:
            return line, finished.error
        error = MoondreamError(f"The result cannot be written: {problem}.")
        finished = attrs.evolve(finished, result=None, error=error)
        return records.to_line(finished, several=self._runner.several, run=self._name), error

    def _previous_results(self, key: bytes) -> dict[str, Any]:
        """Return the results by skill that a retried item already has."""
        record = self._journal.previous_record(key)
        result = None if record is None else records.read(record).outcome.result
        return cast("dict[str, Any]", result) if isinstance(result, dict) else {}

    def _count(self, **more: int) -> None:
        changes = {name: getattr(self._summary, name) + number for name, number in more.items()}
        self._summary = attrs.evolve(self._summary, **changes)

    def _current_progress(self) -> Progress:
        return progress_of(self.summary, self._api)


def failure_groups(run: Run) -> list[FailureGroup]:
    """Return the failures of a run by kind, the largest group first."""
    return run._failure_groups.by_size()  # pyright: ignore[reportPrivateUsage] - of this module's class


def count_in_flight(run: Run) -> int:
    """Return the number of items that have started and not finished."""
    return run._in_flight  # pyright: ignore[reportPrivateUsage] - of this module's class


def fingerprint_of(run: Run) -> str:
    """Return what the lines of a run have as `run`; a file with another one belongs to another run."""
    return run._name  # pyright: ignore[reportPrivateUsage] - of this module's class


async def _chain(first: T | None, rest: AsyncGenerator[T]) -> AsyncGenerator[T]:
    if first is not None:
        yield first
        async for each in rest:
            yield each


def _new_results(result: Any, previous: Mapping[str, Any]) -> Any:
    """Return the result without the skills that an earlier run completed."""
    if not previous or not isinstance(result, dict):
        return result
    return {name: each for name, each in cast("dict[str, Any]", result).items() if name not in previous}


def _check_out(out: str | os.PathLike[str]) -> str | os.PathLike[str]:
    if not isinstance(out, (str, os.PathLike)) or os.fspath(out) in ("", "-"):
        raise ConfigurationError(f"out must be the path of a file, not {out!r}.")
    if os.fspath(out).lower().endswith(_TABLE_SUFFIXES):
        raise ConfigurationError(f"{os.fspath(out)!r}: a run writes JSON Lines; use `export` to make a table of them.")
    return out
