"""`SingleFlight`: concurrent calls with the same key share one run."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from moondream_async import ImageError
from moondream_async._concurrency.single_flight import SingleFlight


async def test_concurrent_calls_share_one_run() -> None:
    flights: SingleFlight[int] = SingleFlight()
    runs = 0

    async def work() -> int:
        nonlocal runs
        runs += 1
        number = runs
        await anyio.sleep(0.01)
        return number

    assert await asyncio.gather(*(flights.run("a", work) for _ in range(10))) == [1] * 10
    assert await flights.run("a", work) == 2  # results are not kept
    assert sorted(await asyncio.gather(flights.run("a", work), flights.run("b", work))) == [3, 4]


async def test_each_caller_gets_its_own_error() -> None:
    flights: SingleFlight[int] = SingleFlight()

    async def work() -> int:
        await anyio.sleep(0.01)
        raise ImageError("no")

    errors = await asyncio.gather(*(flights.run("a", work) for _ in range(3)), return_exceptions=True)
    assert [str(error) for error in errors] == ["no"] * 3
    assert len({id(error) for error in errors}) == 3


async def test_another_caller_takes_over_if_the_first_is_cancelled() -> None:
    flights: SingleFlight[str] = SingleFlight()
    started = anyio.Event()

    async def slow() -> str:
        started.set()
        await anyio.sleep(60)
        return "never"

    async def quick() -> str:
        return "done"

    first = asyncio.create_task(flights.run("a", slow))
    await started.wait()
    others = [asyncio.create_task(flights.run("a", quick)) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    assert await asyncio.gather(*others) == ["done"] * 3
    with pytest.raises(asyncio.CancelledError):
        await first


def test_event_loops_are_independent() -> None:
    flights: SingleFlight[int] = SingleFlight()

    async def work() -> int:
        await anyio.sleep(0)
        return 1

    assert asyncio.run(flights.run("a", work)) == 1
    assert anyio.run(flights.run, "a", work, backend="trio") == 1
