"""The same work for several values, side by side."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar, cast

import anyio

T = TypeVar("T")
R = TypeVar("R")


async def gather(work: Callable[[T], Awaitable[R]], values: Sequence[T], *, at_once: int | None = None) -> list[R]:
    """The results, in the order of the values; the first that fails ends the others, and is raised.

    Args:
        work: For one value.
        values: All.
        at_once: How many are worked on at once; None is all.
    """
    found: list[R | None] = [None] * len(values)
    failed: list[Exception] = []
    limit = anyio.Semaphore(at_once if at_once is not None else max(1, len(values)))

    async def one(number: int) -> None:
        async with limit:
            try:
                found[number] = await work(values[number])
            except Exception as exc:
                failed.append(exc)
                tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for number in range(len(values)):
            tasks.start_soon(one, number)
    if failed:
        raise failed[0].with_traceback(None)
    return cast("list[R]", found)
