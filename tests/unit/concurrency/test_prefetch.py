"""`PrefetchIterator`: left early, shared, cancelled, or used in another loop, it never loses items without an error."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator
from typing import Any, cast

import anyio
import pytest

from moondream_async._concurrency.gather import gather
from moondream_async._concurrency.prefetch import PrefetchIterator
from moondream_async._paginator import Pages
from moondream_async.errors import ConfigurationError

BACKENDS = pytest.mark.parametrize("backend", ["asyncio", "trio"])


class Source:
    """An async generator of numbers that records how far it was read and whether it was closed."""

    def __init__(self, count: int, pause: float | None = None) -> None:
        self.yielded, self.closed, self._count, self._pause = 0, False, count, pause

    async def numbers(self) -> AsyncGenerator[int]:
        try:
            for number in range(self._count):
                if self._pause is not None:
                    await anyio.sleep(self._pause)
                self.yielded += 1
                yield number
        finally:
            self.closed = True


@BACKENDS
def test_items_keep_their_order(backend: str) -> None:
    async def main() -> None:
        source = Source(500)
        assert [number async for number in PrefetchIterator(source.numbers)] == list(range(500))
        assert source.closed

    anyio.run(main, backend=backend)


@BACKENDS
def test_several_consumers(backend: str) -> None:
    async def main() -> None:
        iterator, seen = PrefetchIterator(Source(200, pause=0).numbers), []

        async def consume() -> None:
            async for number in iterator:
                seen.append(number)
                await anyio.sleep(0)

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for _ in range(4):
                    tasks.start_soon(consume)
        assert sorted(seen) == list(range(200))

    anyio.run(main, backend=backend)


@BACKENDS
def test_closing_ends_waiting_consumers(backend: str) -> None:
    async def main() -> None:
        source, ended = Source(10, pause=60), []
        iterator = PrefetchIterator(source.numbers)

        async def wait() -> None:
            ended.append([number async for number in iterator])

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(wait)
                await anyio.sleep(0.05)
                await iterator.aclose()
        assert ended == [[], [], []]
        assert source.closed

    anyio.run(main, backend=backend)


async def test_an_abandoned_iterator_is_closed_and_prefetches_a_bounded_number() -> None:
    source = Source(10_000)
    iterator = PrefetchIterator(source.numbers)
    assert await anext(iterator) == 0
    await anyio.sleep(0.05)
    assert source.yielded <= 70
    del iterator
    gc.collect()
    await anyio.sleep(0.05)
    assert source.closed
    async with PrefetchIterator(source.numbers) as again:
        assert await anext(again) == 0
    with pytest.raises(StopAsyncIteration):
        await anext(again)


async def test_no_item_is_lost_by_cancellation() -> None:
    iterator, seen = PrefetchIterator(Source(20, pause=0.01).numbers), []
    while True:
        try:
            seen.append(await asyncio.wait_for(anext(iterator), 0.004))
        except TimeoutError:
            continue
        except StopAsyncIteration:
            break
    assert seen == list(range(20))


async def test_an_error_is_raised_after_the_items_before_it() -> None:
    async def failing() -> AsyncGenerator[int]:
        yield 1
        raise KeyError("mine")

    iterator, seen = PrefetchIterator(failing), []
    with pytest.raises(KeyError):
        async for number in iterator:
            seen.append(number)
    assert seen == [1]
    with pytest.raises(StopAsyncIteration):
        await anext(iterator)


def test_reading_in_another_loop_raises_an_error() -> None:
    """An iterator whose loop has closed does not seem complete."""
    iterator = PrefetchIterator(Source(500).numbers)

    async def three() -> list[int]:
        return [await anext(iterator) for _ in range(3)]

    async def rest() -> list[int]:
        return [number async for number in iterator]

    assert asyncio.run(three()) == [0, 1, 2]
    with pytest.raises(ConfigurationError, match="has closed"):
        asyncio.run(rest())


class PagedApi:
    """An API that returns pages of ten numbers."""

    def __init__(self) -> None:
        self.queries: list[Any] = []
        self.delay = 0.0

    async def call(self, method: str, path: str, read: Any, *, query: dict[str, str | int]) -> Any:
        self.queries.append(query)
        await anyio.sleep(self.delay)
        first = int(query.get("cursor", 0))
        data = {"things": list(range(first, first + 10)), "next_cursor": str(first + 10), "has_more": first < 30}
        return read(data, None)


def pages(api: PagedApi, limit: int | None = None) -> Pages[int]:
    return Pages(cast("Any", api), "things", "things", lambda data: data, limit)


async def test_pages() -> None:
    api = PagedApi()
    assert [number async for number in pages(api)] == list(range(40))
    assert [number async for number in pages(api, 15)] == list(range(15))
    assert [query["limit"] for query in api.queries] == [100, 100, 100, 100, 15, 5]


async def test_a_cancelled_page_is_requested_again() -> None:
    api = PagedApi()
    listing = pages(api)
    api.delay = 5
    with anyio.move_on_after(0.02):
        await anext(listing)
    api.delay = 0
    assert [number async for number in listing] == list(range(40))


async def test_two_tasks_share_one_list() -> None:
    api, seen = PagedApi(), []
    api.delay = 0.01
    listing = pages(api)

    async def read() -> None:
        async for number in listing:
            seen.append(number)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        tasks.start_soon(read)
    assert sorted(seen) == list(range(40))
    assert len(api.queries) == 4


async def test_gather() -> None:
    running, peak = [], [0]

    async def work(number: int) -> int:
        running.append(number)
        peak[0] = max(peak[0], len(running))
        await anyio.sleep(0.01)
        running.remove(number)
        if number == 7:
            raise KeyError("seven")
        return -number

    assert await gather(work, list(range(6)), at_once=2) == [0, -1, -2, -3, -4, -5]
    assert peak[0] == 2
    assert await gather(work, [3, 1, 2]) == [-3, -1, -2]
    assert await gather(work, []) == []
    with pytest.raises(KeyError, match="seven"):
        await gather(work, [7, 8, 9])
