"""Submit one request, wait for it and fetch its result; cancel it if the caller is cancelled."""

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
    """One request, from its submission to its result.

    Args:
        submit: Submits the request.
        timeout: Seconds for the whole run; None for no limit.
        cancel_on_exit: Whether to cancel the request when the caller is cancelled or times out.
    """

    def __init__(
        self, submit: Callable[[], Awaitable[AsyncRequestHandle]], *, timeout: float | None, cancel_on_exit: bool
    ) -> None:
        self._submit = submit
        self._timeout = timeout
        self._cancel_on_exit = cancel_on_exit
        self._deadline = None if timeout is None else time.monotonic() + timeout

    async def run(
        self, on_enqueue: Callable[[str], Any] | None, on_update: Callable[[Status], Any] | None, *, logs: bool
    ) -> tuple[AsyncRequestHandle, Any]:
        """Return the request's handle and the endpoint's response.

        Raises:
            APITimeoutError: The timeout expired; `.request_id` is set if the request was accepted.
            MoondreamError: The request failed.
        """
        handle = await self._submit_in_time()
        try:
            status = await self._wait(handle, on_enqueue, on_update, logs=logs)
        except BaseException as exc:
            if isinstance(exc, (APIError, APIConnectionError)):
                exc.request_id = exc.request_id or handle.request_id
            if self._cancel_on_exit:
                await handle.cancel_while_leaving()
            raise
        return handle, await handle.fetch(status)

    async def _wait(
        self,
        handle: AsyncRequestHandle,
        on_enqueue: Callable[[str], Any] | None,
        on_update: Callable[[Status], Any] | None,
        *,
        logs: bool,
    ) -> Completed:
        with anyio.move_on_after(self._remaining()):
            await call_callback(on_enqueue, handle.request_id)
            if on_update is None:
                return await handle.completed()
            async with aclosing(handle.events(logs=logs)) as statuses:
                async for status in statuses:
                    await call_callback(on_update, status)
                    if isinstance(status, Completed):
                        return status
        raise handle.out_of_time(self._timeout or 0)

    async def _submit_in_time(self) -> AsyncRequestHandle:
        submission = _Submission(self._submit, cancel_on_exit=self._cancel_on_exit)
        with anyio.move_on_after(self._remaining()):
            return await submission.run()
        raise APITimeoutError(
            f"fal did not acknowledge the request within {self._timeout or 0:g} s; it may still be queued."
        )

    def _remaining(self) -> float | None:
        return None if self._deadline is None else max(0.0, self._deadline - time.monotonic())


class _Submission:
    """A submission that continues in the background if its caller is cancelled, to cancel the submitted request."""

    def __init__(self, submit: Callable[[], Awaitable[AsyncRequestHandle]], *, cancel_on_exit: bool) -> None:
        self._submit = submit
        self._cancel_on_exit = cancel_on_exit
        self._is_abandoned = False
        self._handle: AsyncRequestHandle | None = None
        self._error: Exception | None = None

    async def run(self) -> AsyncRequestHandle:
        if not self._cancel_on_exit:
            return await self._submit()
        self._finished = anyio.Event()
        BackgroundTask(self._run_in_background).start()
        try:
            await self._finished.wait()
        except BaseException:
            self._is_abandoned = True
            raise
        if self._handle is None:
            assert self._error is not None
            raise self._error
        return self._handle

    async def _run_in_background(self) -> None:
        try:
            self._handle = await self._submit()
        except Exception as exc:
            self._error = exc
        finally:
            self._finished.set()
        if self._is_abandoned and self._handle is not None:
            await self._handle.cancel_while_leaving()
