"""Run one async function over several values concurrently."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar, cast

import anyio

T = TypeVar("T")
R = TypeVar("R")


async def gather(work: Callable[[T], Awaitable[R]], values: Sequence[T], *, at_once: int | None = None) -> list[R]:
    """Return the results in the order of the values; the first error cancels the other calls and is raised.

    Args:
        work: Handles one value.
        values: The values.
        at_once: Maximum number of concurrent calls; None for no limit.
    """
    results: list[R | None] = [None] * len(values)
    errors: list[Exception] = []
    limit = anyio.Semaphore(at_once if at_once is not None else max(1, len(values)))

    async def run_one(number: int) -> None:
        async with limit:
            try:
                results[number] = await work(values[number])
            except Exception as exc:
                errors.append(exc)
                tasks.cancel_scope.cancel()

    async with anyio.create_task_group() as tasks:
        for number in range(len(values)):
            tasks.start_soon(run_one, number)
    if errors:
        raise errors[0].with_traceback(None)
    return cast("list[R]", results)
