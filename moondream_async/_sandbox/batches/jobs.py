"""Batches at work: chunked, answered line by line over time, written to files of results."""

from __future__ import annotations

import datetime
import itertools
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import anyio
import anyio.to_thread
import attrs

from ..faults import Faults
from ..reading import Fields
from . import lines
from .lines import Answer, BatchRefusal

_AT_A_TIME = 50  # lines


@attrs.define(eq=False)
class Job:
    """One batch.

    Attributes:
        id: Its name, which its upload has too.
        input: Its lines; deleted when they are done.
        outputs: Files of results.
    """

    id: str
    model: str
    input: Path
    outputs: list[Path] = attrs.field(factory=list[Path])
    status: str = "chunking"
    total: int = 0
    completed: int = 0
    failed: int = 0
    usage: dict[str, int] = attrs.field(factory=lambda: {"input_tokens": 0, "output_tokens": 0})
    error: Fields | None = None
    created: float = attrs.field(factory=time.time)
    ended: float | None = None
    retention: float = 0.0

    @property
    def is_purged(self) -> bool:
        """Whether its results have been deleted."""
        return self.ended is not None and time.time() > self.ended + self.retention


class Worker:
    """Works on batches.

    Args:
        answer: Does the skills.
        models: Those that there are.
    """

    def __init__(self, answer: Answer, models: Any) -> None:
        self._answer = answer
        self._models = models

    async def run(self, job: Job, faults: Faults) -> None:
        """One batch, from its beginning to its end."""
        try:
            await anyio.sleep(faults.queue)
            job.total = await anyio.to_thread.run_sync(self._chunk, job)
            job.status = "processing"
            await self._process(job, faults)
        except BatchRefusal as refusal:
            job.status, job.error = "failed", {"code": refusal.code, "message": refusal.message}
        else:
            job.status = "completed"
        job.ended, job.retention = time.time(), faults.retention
        job.input.unlink(missing_ok=True)

    def _chunk(self, job: Job) -> int:
        """Look at all lines; returns how many there are."""
        if not self._models(job.model):
            raise BatchRefusal("invalid_model", f"There is no model {job.model!r}")
        if job.input.stat().st_size > 2 * 1024**3:
            raise BatchRefusal("limit_exceeded", "A batch has at most 2 GB")
        number = 0
        with job.input.open("rb") as file:
            for number, line in enumerate(_lines(file), 1):
                lines.check(number, line)
        if not number:
            raise BatchRefusal("empty_batch", "There are no valid lines")
        return number

    async def _process(self, job: Job, faults: Faults) -> None:
        at_a_time = min(_AT_A_TIME, faults.chunk)
        pause = faults.work / -(-job.total // at_a_time)
        with job.input.open("rb") as file:
            numbered = enumerate(_lines(file))
            while group := list(itertools.islice(numbered, at_a_time)):
                if faults.batch_error and job.completed + job.failed + len(group) > job.total // 2:
                    raise BatchRefusal(faults.batch_error, "The batch was to fail")
                await anyio.to_thread.run_sync(self._work_on, job, group, faults)
                await anyio.sleep(pause)

    def _work_on(self, job: Job, group: list[tuple[int, bytes]], faults: Faults) -> None:
        """Some lines; their results are written in another order, as none is promised."""
        place = (job.completed + job.failed) // faults.chunk
        told = [lines.answer(n, line, self._answer, broken=n == faults.broken_line) for n, line in group]
        job.failed += sum(one["status"] == "error" for one in told)
        job.completed += sum(one["status"] == "ok" for one in told)
        for one in told:
            for name, count in one.get("usage", {}).items():
                job.usage[name] += count
        if len(job.outputs) <= place:
            job.outputs.append(job.input.with_name(f"{job.input.name}.results-{len(job.outputs)}"))
        with job.outputs[place].open("ab") as out:
            for one in reversed(told):
                out.write(json.dumps(one).encode() + b"\n")


def told(job: Job) -> Fields:
    """A batch as it is on the wire, its outputs apart."""
    fields: Fields = {"id": job.id, "status": job.status, "model": job.model, "created_at": _moment(job.created)}
    if job.status != "chunking" and job.total:
        fields["progress"] = {"total": job.total, "completed": job.completed}
    if job.status == "completed":
        fields["progress"]["failed"] = job.failed
        fields["usage"] = job.usage
    if job.error is not None:
        fields["error"] = job.error
    if job.ended is not None:
        fields |= {"completed_at": _moment(job.ended), "expires_at": _moment(job.ended + job.retention)}
    return fields


def _moment(seconds: float) -> str:
    return (
        datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(lines.LARGEST_LINE + 2):
        yield line
