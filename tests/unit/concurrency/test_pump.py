"""Iterators that are left, shared, cancelled, and taken into another loop: nothing is lost in silence."""

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
    """Numbers; and whether they were closed."""

    def __init__(self, count: int, pause: float | None = None) -> None:
        self.given, self.closed, self._count, self._pause = 0, False, count, pause

    async def numbers(self) -> AsyncGenerator[int]:
        try:
            for number in range(self._count):
                if self._pause is not None:
                    await anyio.sleep(self._pause)
                self.given += 1
                yield number
        finally:
            self.closed = True


@BACKENDS
def test_all_in_order(backend: str) -> None:
    async def main() -> None:
        source = Source(500)
        assert [number async for number in PrefetchIterator(source.numbers)] == list(range(500))
        assert source.closed

    anyio.run(main, backend=backend)


@BACKENDS
def test_several_consumers(backend: str) -> None:
    async def main() -> None:
        pumped, seen = PrefetchIterator(Source(200, pause=0).numbers), []

        async def consume() -> None:
            async for number in pumped:
                seen.append(number)
                await anyio.sleep(0)

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for _ in range(4):
                    tasks.start_soon(consume)
        assert sorted(seen) == list(range(200))

    anyio.run(main, backend=backend)


@BACKENDS
def test_closed_while_others_wait(backend: str) -> None:
    async def main() -> None:
        source, ended = Source(10, pause=60), []
        pumped = PrefetchIterator(source.numbers)

        async def wait() -> None:
            ended.append([number async for number in pumped])

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for _ in range(3):
                    tasks.start_soon(wait)
                await anyio.sleep(0.05)
                await pumped.aclose()
        assert ended == [[], [], []]
        assert source.closed

    anyio.run(main, backend=backend)


async def test_left_half_way_is_bounded_and_closed() -> None:
    source = Source(10_000)
    pumped = PrefetchIterator(source.numbers)
    assert await anext(pumped) == 0
    await anyio.sleep(0.05)
    assert source.given <= 70
    del pumped
    gc.collect()
    await anyio.sleep(0.05)
    assert source.closed
    async with PrefetchIterator(source.numbers) as again:
        assert await anext(again) == 0
    with pytest.raises(StopAsyncIteration):
        await anext(again)


async def test_cancelled_and_asked_again() -> None:
    pumped, seen = PrefetchIterator(Source(20, pause=0.01).numbers), []
    while True:
        try:
            seen.append(await asyncio.wait_for(anext(pumped), 0.004))
        except TimeoutError:
            continue
        except StopAsyncIteration:
            break
    assert seen == list(range(20))


async def test_errors_come_after_what_was_there() -> None:
    async def failing() -> AsyncGenerator[int]:
        yield 1
        raise KeyError("mine")

    pumped, seen = PrefetchIterator(failing), []
    with pytest.raises(KeyError):
        async for number in pumped:
            seen.append(number)
    assert seen == [1]
    with pytest.raises(StopAsyncIteration):
        await anext(pumped)


def test_another_loop_says_so() -> None:
    """What was begun in a loop that has ended does not look complete."""
    pumped = PrefetchIterator(Source(500).numbers)

    async def three() -> list[int]:
        return [await anext(pumped) for _ in range(3)]

    async def rest() -> list[int]:
        return [number async for number in pumped]

    assert asyncio.run(three()) == [0, 1, 2]
    with pytest.raises(ConfigurationError, match="has closed"):
        asyncio.run(rest())


class Book:
    """Pages of ten."""

    def __init__(self) -> None:
        self.asked: list[Any] = []
        self.slow = 0.0

    async def call(self, method: str, path: str, read: Any, *, query: dict[str, str | int]) -> Any:
        self.asked.append(query)
        await anyio.sleep(self.slow)
        first = int(query.get("cursor", 0))
        data = {"things": list(range(first, first + 10)), "next_cursor": str(first + 10), "has_more": first < 30}
        return read(data, None)


def pages(book: Book, limit: int | None = None) -> Pages[int]:
    return Pages(cast("Any", book), "things", "things", lambda data: data, limit)


async def test_pages() -> None:
    book = Book()
    assert [thing async for thing in pages(book)] == list(range(40))
    assert [thing async for thing in pages(book, 15)] == list(range(15))
    assert [query["limit"] for query in book.asked] == [100, 100, 100, 100, 15, 5]


async def test_a_page_that_is_cancelled_is_asked_for_again() -> None:
    book = Book()
    listed = pages(book)
    book.slow = 5
    with anyio.move_on_after(0.02):
        await anext(listed)
    book.slow = 0
    assert [thing async for thing in listed] == list(range(40))


async def test_two_tasks_at_one_list() -> None:
    book, seen = Book(), []
    book.slow = 0.01
    listed = pages(book)

    async def read() -> None:
        async for thing in listed:
            seen.append(thing)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(read)
        tasks.start_soon(read)
    assert sorted(seen) == list(range(40))
    assert len(book.asked) == 4


async def test_together() -> None:
    running, most = [], [0]

    async def work(number: int) -> int:
        running.append(number)
        most[0] = max(most[0], len(running))
        await anyio.sleep(0.01)
        running.remove(number)
        if number == 7:
            raise KeyError("seven")
        return -number

    assert await gather(work, list(range(6)), at_once=2) == [0, -1, -2, -3, -4, -5]
    assert most[0] == 2
    assert await gather(work, [3, 1, 2]) == [-3, -1, -2]
    assert await gather(work, []) == []
    with pytest.raises(KeyError, match="seven"):
        await gather(work, [7, 8, 9])
