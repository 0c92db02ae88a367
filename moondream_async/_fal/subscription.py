"""Submit, wait, fetch: one request from its beginning to its end, and what is left of it when the caller leaves."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Any

import anyio

from .._concurrency.background_task import BackgroundTask
from .._concurrency.callbacks import call_callback
from ..errors import APIConnectionError, APIError, APITimeoutError
from .models import Completed, Status
from .request_handle import AsyncRequestHandle


class Subscription:
    """One request.

    Args:
        submit: Puts it into the queue.
        seconds: To wait in all; None waits for ever.
        cancels: Whether it is cancelled when the caller is, or stops waiting.
    """

    def __init__(
        self, submit: Callable[[], Awaitable[AsyncRequestHandle]], *, seconds: float | None, cancels: bool
    ) -> None:
        self._submit = submit
        self._seconds = seconds
        self._cancels = cancels
        self._end = None if seconds is None else time.monotonic() + seconds

    async def run(
        self, on_enqueue: Callable[[str], Any] | None, on_update: Callable[[Status], Any] | None, *, logs: bool
    ) -> tuple[AsyncRequestHandle, Any]:
        """Do all of it.

        Raises:
            APITimeoutError: The time ran out; `.request_id` is there, if it was accepted.
            MoondreamError: It failed.
        """
        handle = await self._submitted()
        try:
            status = await self._completed(handle, on_enqueue, on_update, logs=logs)
        except BaseException as exc:
            if isinstance(exc, (APIError, APIConnectionError)):
                exc.request_id = exc.request_id or handle.request_id
            if self._cancels:
                await handle.cancel_while_leaving()
            raise
        return handle, await handle.fetch(status)

    async def _completed(
        self,
        handle: AsyncRequestHandle,
        on_enqueue: Callable[[str], Any] | None,
        on_update: Callable[[Status], Any] | None,
        *,
        logs: bool,
    ) -> Completed:
        with anyio.move_on_after(self._left()):
            await call_callback(on_enqueue, handle.request_id)
            if on_update is None:
                return await handle.completed()
            async with aclosing(handle.events(logs=logs)) as statuses:
                async for status in statuses:
                    await call_callback(on_update, status)
                    if isinstance(status, Completed):
                        return status
        raise handle.out_of_time(self._seconds or 0)

    async def _submitted(self) -> AsyncRequestHandle:
        submission = _Submission(self._submit, cancels=self._cancels)
        with anyio.move_on_after(self._left()):
            return await submission.done()
        raise APITimeoutError(
            f"The request was not accepted within {self._seconds or 0:g} s; or it was, and the answer is late."
        )

    def _left(self) -> float | None:
        return None if self._end is None else max(0.0, self._end - time.monotonic())


class _Submission:
    """A submit that, once begun, is followed to its end: whoever leaves meanwhile may want its request cancelled."""

    def __init__(self, submit: Callable[[], Awaitable[AsyncRequestHandle]], *, cancels: bool) -> None:
        self._submit = submit
        self._cancels = cancels
        self._left = False
        self._handle: AsyncRequestHandle | None = None
        self._error: Exception | None = None

    async def done(self) -> AsyncRequestHandle:
        if not self._cancels:
            return await self._submit()
        self._over = anyio.Event()
        BackgroundTask(self._follow).start()
        try:
            await self._over.wait()
        except BaseException:
            self._left = True
            raise
        if self._handle is None:
            assert self._error is not None
            raise self._error
        return self._handle

    async def _follow(self) -> None:
        try:
            self._handle = await self._submit()
        except Exception as exc:
            self._error = exc
        finally:
            self._over.set()
        if self._left and self._handle is not None:
            await self._handle.cancel_while_leaving()
