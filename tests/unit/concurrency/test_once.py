"""Work wanted by several at once is done once."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from moondream_async import ImageError
from moondream_async._concurrency.single_flight import SingleFlight


async def test_one_run_for_all_who_ask_meanwhile() -> None:
    once: SingleFlight[int] = SingleFlight()
    runs = 0

    async def work() -> int:
        nonlocal runs
        runs += 1
        mine = runs
        await anyio.sleep(0.01)
        return mine

    assert await asyncio.gather(*(once.run("a", work) for _ in range(10))) == [1] * 10
    assert await once.run("a", work) == 2  # nothing is kept
    assert sorted(await asyncio.gather(once.run("a", work), once.run("b", work))) == [3, 4]


async def test_an_error_is_everybodys_own() -> None:
    once: SingleFlight[int] = SingleFlight()

    async def work() -> int:
        await anyio.sleep(0.01)
        raise ImageError("no")

    errors = await asyncio.gather(*(once.run("a", work) for _ in range(3)), return_exceptions=True)
    assert [str(error) for error in errors] == ["no"] * 3
    assert len({id(error) for error in errors}) == 3


async def test_the_next_takes_over_when_the_worker_is_cancelled() -> None:
    once: SingleFlight[str] = SingleFlight()
    started = anyio.Event()

    async def slow() -> str:
        started.set()
        await anyio.sleep(60)
        return "never"

    async def quick() -> str:
        return "done"

    first = asyncio.create_task(once.run("a", slow))
    await started.wait()
    others = [asyncio.create_task(once.run("a", quick)) for _ in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    assert await asyncio.gather(*others) == ["done"] * 3
    with pytest.raises(asyncio.CancelledError):
        await first


def test_loops_do_not_mix() -> None:
    once: SingleFlight[int] = SingleFlight()

    async def work() -> int:
        await anyio.sleep(0)
        return 1

    assert asyncio.run(once.run("a", work)) == 1
    assert anyio.run(once.run, "a", work, backend="trio") == 1
