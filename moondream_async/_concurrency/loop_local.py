"""One value per running event loop, so that a client can outlive any of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar
from weakref import WeakKeyDictionary

import anyio.lowlevel

T = TypeVar("T")


class LoopLocal(Generic[T]):
    """A value that is created once per event loop (asyncio or trio), on first use.

    Sockets, locks and limiters belong to the loop that created them, but one client may be used in
    several loops: one after another (`asyncio.run` twice), or in several threads.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._values: WeakKeyDictionary[object, T] = WeakKeyDictionary()

    def get(self) -> T:
        """Return the value of the running loop, creating it on first use."""
        loop = _running_loop()
        value = self._values.get(loop)
        if value is None:
            self._drop_dead_loops()
            value = self._values[loop] = self._make()
        return value

    def pop(self) -> T | None:
        """Remove and return the value of the running loop, or None."""
        return self._values.pop(_running_loop(), None)

    def _drop_dead_loops(self) -> None:
        for loop in list(self._values):
            is_closed = getattr(loop, "is_closed", None)
            if is_closed is not None and is_closed():
                self._values.pop(loop, None)


def is_asyncio() -> bool:
    """Return whether asyncio's event loop is running, rather than trio's."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _running_loop() -> object:
    try:
        return asyncio.get_running_loop()  # a tenth of the cost of anyio's lookup
    except RuntimeError:
        return anyio.lowlevel.current_token().native_token
