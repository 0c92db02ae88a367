"""Batch jobs: chunked, answered line by line over time, with results in files."""

from __future__ import annotations

import datetime
import itertools
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

import anyio
import anyio.to_thread
import attrs

from ..faults import Faults
from ..validation import Fields
from . import lines
from .lines import BatchError, RunSkill

_GROUP_SIZE = 50  # lines


@attrs.define(eq=False)
class Job:
    """One batch.

    Attributes:
        id: The batch's id, which is also its upload's.
        input: File of the lines; deleted when the batch ends.
        outputs: Files of the results.
        ended: Unix time; None while the batch runs.
        retention: Seconds after `ended` until the results are deleted.
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
        """Whether the results have been deleted."""
        return self.ended is not None and time.time() > self.ended + self.retention


class Worker:
    """Processes batches.

    Args:
        run_skill: Runs a skill.
        knows_model: Returns whether a model exists.
    """

    def __init__(self, run_skill: RunSkill, knows_model: Callable[[str], bool]) -> None:
        self._run_skill = run_skill
        self._knows_model = knows_model

    async def run(self, job: Job, faults: Faults) -> None:
        """Process a batch to its end."""
        try:
            await anyio.sleep(faults.queue)
            job.total = await anyio.to_thread.run_sync(self._chunk, job)
            job.status = "processing"
            await self._process(job, faults)
        except BatchError as exc:
            job.status, job.error = "failed", {"code": exc.code, "message": exc.message}
        else:
            job.status = "completed"
        job.ended, job.retention = time.time(), faults.retention
        job.input.unlink(missing_ok=True)

    def _chunk(self, job: Job) -> int:
        """Validate all lines; return their number."""
        if not self._knows_model(job.model):
            raise BatchError("invalid_model", f"There is no model {job.model!r}")
        if job.input.stat().st_size > 2 * 1024**3:
            raise BatchError("limit_exceeded", "A batch has at most 2 GB")
        number = 0
        with job.input.open("rb") as file:
            for number, line in enumerate(_read_lines(file), 1):
                lines.check(number, line)
        if not number:
            raise BatchError("empty_batch", "There are no valid lines")
        return number

    async def _process(self, job: Job, faults: Faults) -> None:
        group_size = min(_GROUP_SIZE, faults.chunk)
        pause = faults.work / -(-job.total // group_size)
        with job.input.open("rb") as file:
            numbered = enumerate(_read_lines(file))
            while group := list(itertools.islice(numbered, group_size)):
                if faults.batch_error and job.completed + job.failed + len(group) > job.total // 2:
                    raise BatchError(faults.batch_error, "The batch was to fail")
                await anyio.to_thread.run_sync(self._answer_group, job, group, faults)
                await anyio.sleep(pause)

    def _answer_group(self, job: Job, group: list[tuple[int, bytes]], faults: Faults) -> None:
        """Answer some lines; write the results in reverse, because the API promises no order."""
        index = (job.completed + job.failed) // faults.chunk
        results = [lines.answer(n, line, self._run_skill, broken=n == faults.broken_line) for n, line in group]
        job.failed += sum(result["status"] == "error" for result in results)
        job.completed += sum(result["status"] == "ok" for result in results)
        for result in results:
            for name, count in result.get("usage", {}).items():
                job.usage[name] += count
        if len(job.outputs) <= index:
            job.outputs.append(job.input.with_name(f"{job.input.name}.results-{len(job.outputs)}"))
        with job.outputs[index].open("ab") as out:
            for result in reversed(results):
                out.write(json.dumps(result).encode() + b"\n")


def to_json(job: Job) -> Fields:
    """Return the response fields of a batch, without its outputs."""
    fields: Fields = {"id": job.id, "status": job.status, "model": job.model, "created_at": _timestamp(job.created)}
    if job.status != "chunking" and job.total:
        fields["progress"] = {"total": job.total, "completed": job.completed}
    if job.status == "completed":
        fields["progress"]["failed"] = job.failed
        fields["usage"] = job.usage
    if job.error is not None:
        fields["error"] = job.error
    if job.ended is not None:
        fields |= {"completed_at": _timestamp(job.ended), "expires_at": _timestamp(job.ended + job.retention)}
    return fields


def _timestamp(seconds: float) -> str:
    return (
        datetime.datetime.fromtimestamp(seconds, datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def _read_lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(lines.MAX_LINE_BYTES + 2):
        yield line
