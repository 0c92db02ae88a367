"""Blocking work off the event loop, in few threads."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import anyio
import anyio.to_thread

from .loops import LoopLocal

T = TypeVar("T")

_THREADS = min(4, os.cpu_count() or 1)
_limiters = LoopLocal(lambda: anyio.CapacityLimiter(_THREADS))


async def offload(work: Callable[[object], T], value: object) -> T:
    """Run `work(value)` in a worker thread; at most four at once in a loop, so that memory stays bounded."""
    return await anyio.to_thread.run_sync(work, value, limiter=_limiters.get())
