"""A background task that its owner starts and stops."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio

from ..errors import ConfigurationError


def its_loop_has_ended() -> ConfigurationError:
    """Return the error for reading from an iterator whose event loop has closed."""
    return ConfigurationError(
        "The event loop that this was started in has closed; items that were not read yet are lost."
    )


class BackgroundTask:
    """Runs a coroutine function until it ends or is stopped; on asyncio and trio.

    An async generator cannot hold a task group safely: if it is dropped midway, another task closes it.
    """

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._scope = anyio.CancelScope()
        self._finished = anyio.Event()
        self._task: Any = None
        self._call_soon: Any = None

    def start(self) -> None:
        """Start the task in the running event loop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            import trio

            trio.lowlevel.spawn_system_task(self._run)
            self._call_soon = trio.lowlevel.current_trio_token().run_sync_soon
        else:
            self._task = loop.create_task(self._run())
            self._call_soon = loop.call_soon_threadsafe

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._work()
        finally:
            self._finished.set()

    def cancel_soon(self) -> None:
        """Request cancellation from any thread, without waiting; does nothing if the loop has closed."""
        with suppress(RuntimeError):
            self._call_soon(self._scope.cancel)

    async def stop(self) -> None:
        """Cancel the task and wait until it has ended."""
        self._scope.cancel()
        with anyio.CancelScope(shield=True):
            await self._finished.wait()
