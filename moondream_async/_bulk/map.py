"""`map`: run skills over many items with bounded concurrency."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping
from contextlib import aclosing, nullcontext
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, cast

import anyio
import attrs
from anyio.abc import TaskGroup

from .._concurrency.background_task import BackgroundTask, its_loop_has_ended
from .._concurrency.closing import AsyncClosing
from .._concurrency.threads import ThreadIterator
from .._log import log
from .._public import public
from ..config import check_whole
from ..errors import ConfigurationError, MoondreamError
from .budget import Budget
from .items import Item, read_item
from .outcomes import Outcome, make_outcome
from .stopping import StopPolicy

if TYPE_CHECKING:
    from .map_progress import MapProgress

R = TypeVar("R")

Work = Callable[[Item], Awaitable[tuple[Any, int, MoondreamError | None]]]
"""Processes one item; returns the result, the number of requests sent, and the error if it failed."""


@public()
class AsyncMap(AsyncClosing, Generic[R]):
    """An async iterator over outcomes: `async for outcome in client.map("caption", paths)`.

    Work starts with the first iteration. Breaking out of the loop, closing the iterator or canceling the task cancels
    in-flight items. Use `async with` to be sure that they have stopped when the block exits.
    """

    def __init__(
        self,
        items: Iterable[Any] | AsyncIterable[Any],
        work: Work,
        *,
        concurrency: int,
        ordered: bool,
        policy: StopPolicy,
        budget: Budget | None = None,
        room: int | None = None,
        progress: MapProgress | None = None,
    ) -> None:
        concurrency = check_whole("concurrency", concurrency, least=1)
        # The run holds no reference to this iterator, so that dropping the iterator stops the run.
        self._run = _Run(
            items, work, concurrency, room or 2 * concurrency, policy, budget, progress, {} if ordered else None
        )

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Outcome[R]:
        """Return the next outcome.

        Raises:
            MoondreamError: The failure that stopped the run (`max_failures`, `stop_on_auth_error`,
                `max_connection_failures`), raised after all other outcomes. Errors from the items' own iterator are
                raised here, too.
        """
        try:
            return await self.next_outcome()
        except BaseException:
            await self.aclose()
            raise

    async def next_outcome(self) -> Outcome[R]:
        """Return the next outcome; if this is canceled, the run continues, and it can be called again."""
        return cast("Outcome[R]", await self._run.next())

    @property
    def cost_limit_reached(self) -> bool:
        """Whether `max_cost` prevented further items from starting."""
        return self._run.cost_limit_reached

    @property
    def unreachable(self) -> bool:
        """Whether the run was stopped because the server cannot be reached (`max_connection_failures`)."""
        return self._run.policy.unreachable

    def finish(self) -> None:
        """Stop taking new items; in-flight items complete, and their outcomes are still returned.

        Call it from the event loop that iterates, for example in a signal handler.
        """
        self._run.finish()

    async def aclose(self) -> None:
        """Cancel in-flight items. Safe to call more than once."""
        await self._run.stop()

    def __del__(self) -> None:
        run: _Run | None = getattr(self, "_run", None)
        if run is not None:
            run.abandon()


@attrs.define(eq=False, repr=False, slots=False)
class _Run:
    _items: Iterable[Any] | AsyncIterable[Any]
    _work: Work
    _concurrency: int
    _capacity: int
    policy: StopPolicy
    _budget: Budget | None
    _progress: MapProgress | None
    _out_of_order: dict[int, Outcome[Any]] | None  # finished before an earlier item; None if the order does not matter
    cost_limit_reached: bool = False
    _next_index: int = 0
    _ready: deque[Outcome[Any]] = attrs.field(factory=deque[Outcome[Any]])
    _ended: bool = False
    _error: BaseException | None = None
    _closed: bool = False
    _finishing: bool = False
    _background: BackgroundTask | None = None

    def _start(self) -> BackgroundTask:
        # Bounds the items in memory: in flight, or finished and not consumed.
        # With a budget, pauses between the items let the first answers correct its estimate.
        fast = self._budget is None
        self._room = anyio.Semaphore(self._capacity, fast_acquire=fast)
        self._slots = anyio.Semaphore(self._concurrency, fast_acquire=fast)
        self._changed = anyio.Event()
        self._item_ended = anyio.Event()
        self._intake = anyio.CancelScope()
        background = BackgroundTask(self._main)
        background.start()
        return background

    async def next(self) -> Outcome[Any]:
        if self._closed:
            raise StopAsyncIteration
        if self._background is None:
            self._background = self._start()
        while not self._ready and not self._ended:
            if self._changed.is_set():  # several tasks may wait for the same event
                self._changed = anyio.Event()
            await self._changed.wait()
        if self._ready:
            self._room.release()
            return self._ready.popleft()
        self._closed = True
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        raise StopAsyncIteration

    def finish(self) -> None:
        self._finishing = True
        if self._background is not None:
            self._intake.cancel()

    async def stop(self) -> None:
        self._closed = True
        if self._background is not None:
            await self._background.stop()

    def abandon(self) -> None:
        """Cancel the run without waiting, from any thread."""
        if self._background is not None and not self._closed:
            self._background.cancel_soon()

    async def _main(self) -> None:
        try:
            reporting = nullcontext() if self._progress is None else self._progress.running()
            async with reporting, anyio.create_task_group() as tasks:
                await self._start_items(tasks)
        except Exception as exc:
            self._error = _first_error(exc)
        except BaseException:
            if not self._closed:  # not closed: the event loop has ended
                self._error = its_loop_has_ended()
            raise
        finally:
            outcomes = self._out_of_order or {}  # they wait for earlier items, which will never finish
            self._ready.extend(outcomes[index] for index in sorted(outcomes))
            self._ended = True
            self._changed.set()

    async def _start_items(self, tasks: TaskGroup) -> None:
        if self._finishing:
            return
        try:
            with self._intake:
                async with aclosing(numbered(self._items)) as items:
                    # Take an item only when it can start, so that a live source yields its newest item.
                    while await self._wait_to_start():
                        index, item = await anext(items)
                        tasks.start_soon(self._process, index, item)
        except StopAsyncIteration:
            return
        except Exception as exc:  # from the items' iterator: in-flight items still complete
            self._error = exc

    async def _wait_to_start(self) -> bool:
        """Wait until another item may start; return False if no more items may."""
        await self._room.acquire()
        await self._slots.acquire()
        return self._error is None and not self._finishing and await self._within_budget()

    async def _within_budget(self) -> bool:
        """Wait until the budget allows another item; return False if it never will."""
        while self._budget is not None and not self._budget.begin():
            if not self._budget.in_flight:
                self.cost_limit_reached = True
                if self._progress is not None:
                    self._progress.cost_limit_reached = True
                log.warning("%s", self._budget)
                return False
            self._item_ended = anyio.Event()
            await self._item_ended.wait()
        return True

    async def _process(self, index: int, raw: Any) -> None:
        started = time.monotonic()
        try:
            item = read_item(index, raw)
        except ConfigurationError as exc:
            outcome = make_outcome(index, index, None, exc, 0, 0.0)
        else:
            result, attempts, error = await self._work(item)
            outcome = make_outcome(index, item.id, result, error, attempts, time.monotonic() - started)
        self._slots.release()
        if self._budget is not None:
            self._budget.end()
            self._item_ended.set()
        if self.policy.stops(outcome.error) and self._error is None:
            self._error = outcome.error
            self._intake.cancel()
        if self._progress is not None:
            self._progress.count(outcome)
        self._deliver(outcome)

    def _deliver(self, outcome: Outcome[Any]) -> None:
        if self._out_of_order is None:
            self._ready.append(outcome)
        else:
            self._out_of_order[outcome.index] = outcome
            while (next_outcome := self._out_of_order.pop(self._next_index, None)) is not None:
                self._ready.append(next_outcome)
                self._next_index += 1
        self._changed.set()


def _first_error(exc: BaseException) -> BaseException:
    if isinstance(exc, BaseExceptionGroup):
        return _first_error(cast("BaseExceptionGroup[BaseException]", exc).exceptions[0])
    return exc


async def numbered(items: Iterable[Any] | AsyncIterable[Any]) -> AsyncGenerator[tuple[int, Any]]:
    """Yield items with their index; blocking iterators are read in a thread."""
    numbers = itertools.count()
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield next(numbers), item
    elif isinstance(items, (list, tuple, range)):
        for item in cast("Iterable[Any]", items):
            yield next(numbers), item
    else:
        iterator = ThreadIterator(items)
        try:
            async for item in iterator:
                yield next(numbers), item
        finally:
            iterator.close()


def check_items(items: object) -> Iterable[Any] | AsyncIterable[Any]:
    """Check that `items` is an iterable of items, not a single image.

    Raises:
        ConfigurationError: `items` is a single image, or not iterable.
    """
    is_one = isinstance(items, (str, bytes, bytearray, memoryview, Mapping)) or hasattr(items, "read")
    if is_one or not (isinstance(items, (Iterable, AsyncIterable)) or hasattr(items, "__getitem__")):
        kind = type(cast("object", items)).__name__
        raise ConfigurationError(
            f"items must be an iterable of images, not {kind}; for one image call the skill itself."
        )
    return cast("Iterable[Any]", items)
