"""A time limit for a coroutine, cheaper on asyncio than anyio's cancel scopes."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import anyio

from .loop_local import is_asyncio

T = TypeVar("T")


async def run_within(seconds: float | None, coroutine: Coroutine[Any, Any, T]) -> T | None:
    """Return the result of a coroutine, or None if it took too long and was cancelled.

    Args:
        seconds: The limit; None for no limit.
        coroutine: Runs in the current task.
    """
    if seconds is None:
        return await coroutine
    if not is_asyncio():
        with anyio.move_on_after(seconds):
            return await coroutine
        return None
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await coroutine
    except TimeoutError:
        if not limit.expired():
            raise
    return None
