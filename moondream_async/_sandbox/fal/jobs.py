"""The queue: requests wait for a runner, are worked on, write a log, and are kept."""

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

_RUNNERS = 2  # requests that are worked on at once, as in a new account
_LINES = ("Runner assigned", "Loading the image", "Running the model")
_LOG_KEPT = 50  # lines; older ones fall out of the window

CANCELLED = Reply(499, {"detail": "Request was cancelled", "error_type": "client_cancelled"})
BROKEN = Reply(500, {"detail": [{"loc": ["body"], "msg": "Internal server error", "type": "internal_server_error"}]})
NOT_STARTED = Reply(504, {"detail": "Request timed out", "error_type": "request_timeout"})


@attrs.define(eq=False)
class Job:
    """One request.

    Attributes:
        endpoint: Its full id.
        arguments: Its input.
        webhook: Where the result is posted.
        id: Its name.
        state: `IN_QUEUE`, `IN_PROGRESS` or `COMPLETED`.
        log: Its lines.
        reply: What it answers, when it is completed.
        version: Counts changes.
        task: What works on it.
    """

    endpoint: str
    arguments: Any
    webhook: str | None = None
    id: str = attrs.field(factory=lambda: str(uuid.uuid4()))
    state: str = "IN_QUEUE"
    log: list[dict[str, str]] = attrs.field(factory=list[dict[str, str]])
    reply: Reply | None = None
    version: int = 0
    task: asyncio.Task[None] | None = None

    def say(self, message: str) -> None:
        """Write a line into its log."""
        now = datetime.datetime.now(datetime.UTC).isoformat()
        self.log.append({"timestamp": now, "message": message, "level": "INFO", "source": "USER"})
        del self.log[:-_LOG_KEPT]
        self.version += 1


class Queue:
    """All requests of one sandbox.

    Args:
        work: Does a request's work; blocking, and so called in a thread.
        finished: Is told of each completed request.
    """

    def __init__(self, work: Callable[[Job], Reply], finished: Callable[[Job], Awaitable[None]]) -> None:
        self.jobs: dict[str, Job] = {}
        self._waiting: list[Job] = []
        self._work = work
        self._finished = finished
        self._runners = _RUNNERS
        self._change = asyncio.Event()

    def add(self, job: Job, *, queue: float, work: float, start_within: float | None) -> None:
        """Take a request; it waits at least `queue` seconds, and then for a runner; its work takes `work` seconds."""
        self.jobs[job.id] = job
        self._waiting.append(job)
        job.task = asyncio.get_running_loop().create_task(self._run(job, queue, work, start_within))
        self._changed(job)

    def position(self, job: Job) -> int:
        """How many are before it."""
        return self._waiting.index(job) if job in self._waiting else 0

    def __len__(self) -> int:
        return len(self._waiting)

    def cancel(self, job: Job) -> bool:
        """Stop a request; False if it is completed."""
        if job.state == "COMPLETED" or job.task is None:
            return False
        job.task.cancel()
        return True

    async def next_change(self) -> None:
        """Wait until any request is not as it was."""
        await self._change.wait()

    async def _run(self, job: Job, queue: float, work: float, start_within: float | None) -> None:
        try:
            try:
                async with asyncio.timeout(start_within):
                    await self._turn(job, queue)
            except TimeoutError:
                reply = NOT_STARTED
            else:
                reply = await self._working(job, work)
        except asyncio.CancelledError:
            reply = CANCELLED
        except Exception:
            logger.exception("a request of fal's queue failed unexpectedly")
            reply = BROKEN
        if job in self._waiting:
            self._waiting.remove(job)
        job.state, job.reply = "COMPLETED", reply
        self._changed(job)
        await self._finished(job)

    async def _turn(self, job: Job, seconds: float) -> None:
        await asyncio.sleep(seconds)
        while not self._runners or self._waiting[0] is not job:
            await self._change.wait()

    async def _working(self, job: Job, seconds: float) -> Reply:
        self._waiting.remove(job)
        self._runners -= 1
        job.state = "IN_PROGRESS"
        self._changed(job)
        try:
            for line in _LINES:
                job.say(line)
                self._changed(job)
                await asyncio.sleep(seconds / len(_LINES))
            return await asyncio.to_thread(self._work, job)
        finally:
            self._runners += 1
            self._changed(job)

    def _changed(self, job: Job) -> None:
        job.version += 1
        change, self._change = self._change, asyncio.Event()
        change.set()
