"""Call a user callback, sync or async."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


async def call_callback(callback: Callable[[Any], Any] | None, value: Any) -> None:
    """Call the callback, if any, and await its result if it is awaitable."""
    if callback is not None:
        result = callback(value)
        if inspect.isawaitable(result):
            await result
