"""Work that goes on beside its caller: a task of its own, ended by whoever holds it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio

from ..errors import ConfigurationError


def its_loop_has_ended() -> ConfigurationError:
    """The error for who reads on, in another loop, what was produced in one that has ended."""
    return ConfigurationError("The event loop in which this was begun has ended; what was not read yet is lost.")


class BackgroundTask:
    """Runs a coroutine function until it ends or is stopped; on asyncio and trio.

    An async generator cannot hold a task group safely: when it is dropped half-way, another task closes it.
    """

    def __init__(self, work: Callable[[], Awaitable[None]]) -> None:
        self._work = work
        self._scope = anyio.CancelScope()
        self._over = anyio.Event()
        self._task: Any = None
        self._soon: Any = None

    def start(self) -> None:
        """Start it in the running loop."""
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:
            import trio

            trio.lowlevel.spawn_system_task(self._run)
            self._soon = trio.lowlevel.current_trio_token().run_sync_soon
        else:
            self._task = loop.create_task(self._run())
            self._soon = loop.call_soon_threadsafe

    async def _run(self) -> None:
        try:
            with self._scope:
                await self._work()
        finally:
            self._over.set()

    def cancel_soon(self) -> None:
        """Ask it to end, from any thread; does not wait, nor mind a loop that has ended."""
        with suppress(RuntimeError):
            self._soon(self._scope.cancel)

    async def stop(self) -> None:
        """End it, and wait until it has."""
        self._scope.cancel()
        with anyio.CancelScope(shield=True):
            await self._over.wait()
