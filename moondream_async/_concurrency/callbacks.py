"""Functions of the user's that are told something."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any


async def call_callback(callback: Callable[[Any], Any] | None, value: Any) -> None:
    """Call it, if there is one; wait for it, if it is async."""
    if callback is not None:
        said = callback(value)
        if inspect.isawaitable(said):
            await said
