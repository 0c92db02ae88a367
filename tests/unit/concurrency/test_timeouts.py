"""A time limit for a coroutine: what ends it, and who may cancel it meanwhile."""

from __future__ import annotations

import asyncio

import pytest

from moondream_async._concurrency.timeouts import run_within


async def sleep_then(seconds: float, value: str = "done") -> str:
    await asyncio.sleep(seconds)
    return value


async def test_result_in_time():
    assert await run_within(60, sleep_then(0)) == "done"
    assert await run_within(None, sleep_then(0)) == "done"


async def test_too_late():
    assert await run_within(0.01, sleep_then(60)) is None
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0)  # nothing is left to be cancelled


async def test_shorter_limit_after_a_longer_one():
    slow = asyncio.create_task(run_within(60, sleep_then(30)))
    await asyncio.sleep(0)
    assert await run_within(0.01, sleep_then(60)) is None
    assert not slow.done()
    slow.cancel()
    with pytest.raises(asyncio.CancelledError):
        await slow


async def test_longer_limit_after_a_shorter_one():
    limits = (0.03, 0.01, 0.02, 60)
    assert await asyncio.gather(*(run_within(limit, sleep_then(0.05)) for limit in limits)) == [None] * 3 + ["done"]


async def test_nested_limits():
    async def inner() -> object:
        return await run_within(60, sleep_then(60))

    assert await run_within(0.01, inner()) is None

    async def outlived() -> object:
        return [await run_within(0.01, sleep_then(60)), await sleep_then(0)]

    assert await run_within(60, outlived()) == [None, "done"]


async def test_cancelled_by_somebody_else():
    task = asyncio.create_task(run_within(60, sleep_then(60)))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_cancelled_by_both():
    async def cancel_late() -> str:
        try:
            return await sleep_then(60)
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.sleep(0)  # raises again
            raise

    task = asyncio.create_task(run_within(0.01, cancel_late()))
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_result_after_the_limit():
    async def stubborn() -> str:
        try:
            return await sleep_then(60)
        except asyncio.CancelledError:
            return "done anyway"

    assert await run_within(0.01, stubborn()) == "done anyway"
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_error_of_the_coroutine():
    async def fail() -> str:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        await run_within(60, fail())


def test_several_loops():
    for _ in range(2):
        assert asyncio.run(run_within(0.01, sleep_then(60))) is None
