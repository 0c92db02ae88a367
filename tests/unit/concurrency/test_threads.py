"""`ThreadIterator`: reads a blocking iterable in a thread, without losing or delaying items or reading far ahead."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Iterator

import anyio
import pytest

from moondream_async._concurrency.threads import ThreadIterator
from tests.support.loopback import until


async def test_items_keep_their_order_at_any_speed() -> None:
    dice = random.Random(3)

    def items() -> Iterator[int]:
        for number in range(500):
            if dice.random() < 0.05:
                time.sleep(dice.random() * 0.002)
            yield number

    for _ in range(20):
        items_read: list[int] = []
        async for item in ThreadIterator(items()):
            items_read.append(item)
            if dice.random() < 0.05:
                await asyncio.sleep(0)
        assert items_read == list(range(500))


async def test_an_item_does_not_wait_for_the_next() -> None:
    released = threading.Event()

    def items() -> Iterator[str]:
        yield "first"
        released.wait(10)
        yield "second"

    iterator = ThreadIterator(items())
    assert await anext(iterator) == "first"
    released.set()
    assert [item async for item in iterator] == ["second"]


async def test_it_reads_on_demand_and_not_far_ahead() -> None:
    read = 0

    def items() -> Iterator[int]:
        nonlocal read
        for _ in range(10_000):
            read += 1
            yield read

    iterator = ThreadIterator(items())
    assert read == 0
    await anext(iterator)
    await asyncio.sleep(0.05)
    assert read <= 65
    iterator.close()


async def test_errors_come_after_the_items() -> None:
    def items() -> Iterator[int]:
        yield 1
        raise OSError("the disk is gone")

    iterator = ThreadIterator(items())
    assert await anext(iterator) == 1
    for _ in range(2):
        with pytest.raises(OSError, match="the disk is gone"):
            await anext(iterator)


async def test_a_waiting_consumer_can_be_cancelled() -> None:
    released = threading.Event()

    def items() -> Iterator[int]:
        released.wait(10)
        yield 1

    iterator = ThreadIterator(items())
    with anyio.move_on_after(0.02) as scope:
        await anext(iterator)
    assert scope.cancelled_caught
    released.set()
    assert await anext(iterator) == 1


async def test_closing_ends_the_thread() -> None:
    def items() -> Iterator[int]:
        while True:
            yield 1

    iterator = ThreadIterator(items())
    await anext(iterator)
    iterator.close()
    thread = iterator._thread
    assert thread is not None
    await until(lambda: not thread.is_alive())


def test_on_trio() -> None:
    async def main() -> list[int]:
        return [item async for item in ThreadIterator(range(1000))]

    assert anyio.run(main, backend="trio") == list(range(1000))
