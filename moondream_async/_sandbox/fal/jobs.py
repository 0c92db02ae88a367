"""The queue: requests wait for a runner, are processed, write a log, and are kept."""

from __future__ import annotations

import asyncio
import datetime
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any

import attrs

from .models import Reply

logger = logging.getLogger("moondream_async.sandbox")

_MAX_RUNNERS = 2  # requests processed concurrently, as in a new account
_LOG_LINES = ("Runner assigned", "Loading the image", "Running the model")
_MAX_LOG_LINES = 50  # older ones are dropped

CANCELLED = Reply(499, {"detail": "Request was cancelled", "error_type": "client_cancelled"})
INTERNAL_ERROR = Reply(
    500, {"detail": [{"loc": ["body"], "msg": "Internal server error", "type": "internal_server_error"}]}
)
NOT_STARTED = Reply(504, {"detail": "Request timed out", "error_type": "request_timeout"})


@attrs.define(eq=False)
class Job:
    """A request in the queue.

    Attributes:
        endpoint: Full id of the endpoint.
        arguments: Input of the endpoint.
        webhook: URL that the result is posted to.
        id: Id of the request.
        state: `IN_QUEUE`, `IN_PROGRESS` or `COMPLETED`.
        log: Entries of the log.
        reply: The result; None until the request is completed.
        task: Task that processes the request.
    """

    endpoint: str
    arguments: Any
    webhook: str | None = None
    id: str = attrs.field(factory=lambda: str(uuid.uuid4()))
    state: str = "IN_QUEUE"
    log: list[dict[str, str]] = attrs.field(factory=list[dict[str, str]])
    reply: Reply | None = None

    task: asyncio.Task[None] | None = None

    def add_log(self, message: str) -> None:
        """Append an entry to the log."""
        now = datetime.datetime.now(datetime.UTC).isoformat()
        self.log.append({"timestamp": now, "message": message, "level": "INFO", "source": "USER"})
        del self.log[:-_MAX_LOG_LINES]


class Queue:
    """The queue of one sandbox.

    Args:
        process: Computes a request's result; blocking, so it is called in a thread.
        on_completed: Called with each completed request.
    """

    def __init__(self, process: Callable[[Job], Reply], on_completed: Callable[[Job], Awaitable[None]]) -> None:
        self.jobs: dict[str, Job] = {}
        self._waiting: list[Job] = []
        self._process = process
        self._on_completed = on_completed
        self._free_runners = _MAX_RUNNERS
        self._changed = asyncio.Event()

    def add(self, job: Job, *, queue: float, work: float, start_within: float | None) -> None:
        """Enqueue a request.

        Args:
            job: The request.
            queue: Minimum time in the queue, in seconds.
            work: Minimum processing time, in seconds.
            start_within: Seconds after which a request that has not started fails; None for no limit.
        """
        self.jobs[job.id] = job
        self._waiting.append(job)
        job.task = asyncio.get_running_loop().create_task(self._run(job, queue, work, start_within))
        self._notify()

    def position(self, job: Job) -> int:
        """Return the number of requests ahead of this one."""
        return self._waiting.index(job) if job in self._waiting else 0

    def __len__(self) -> int:
        return len(self._waiting)

    def cancel(self, job: Job) -> bool:
        """Cancel a request; return False if it is completed."""
        if job.state == "COMPLETED" or job.task is None:
            return False
        job.task.cancel()
        return True

    async def next_change(self) -> None:
        """Wait until the state or log of any request changes."""
        await self._changed.wait()

    async def _run(self, job: Job, queue: float, work: float, start_within: float | None) -> None:
        try:
            try:
                async with asyncio.timeout(start_within):
                    await self._wait_for_runner(job, queue)
            except TimeoutError:
                reply = NOT_STARTED
            else:
                reply = await self._execute(job, work)
        except asyncio.CancelledError:
            reply = CANCELLED
        except Exception:
            logger.exception("a request of fal's queue failed unexpectedly")
            reply = INTERNAL_ERROR
        if job in self._waiting:
            self._waiting.remove(job)
        job.state, job.reply = "COMPLETED", reply
        self._notify()
        await self._on_completed(job)

    async def _wait_for_runner(self, job: Job, seconds: float) -> None:
        await asyncio.sleep(seconds)
        while not self._free_runners or self._waiting[0] is not job:
            await self._changed.wait()

    async def _execute(self, job: Job, seconds: float) -> Reply:
        self._waiting.remove(job)
        self._free_runners -= 1
        job.state = "IN_PROGRESS"
        self._notify()
        try:
            for line in _LOG_LINES:
                job.add_log(line)
                self._notify()
                await asyncio.sleep(seconds / len(_LOG_LINES))
            return await asyncio.to_thread(self._process, job)
        finally:
            self._free_runners += 1
            self._notify()

    def _notify(self) -> None:
        change, self._changed = self._changed, asyncio.Event()
        change.set()
