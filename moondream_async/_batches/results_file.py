"""The outcomes of a job into a file of JSON lines such as `run` writes, whole after any kill."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio

from .._bulk import records
from .._bulk.items import Outcome
from .._bulk.journal import Journal, read_records
from .._bulk.records import Finished
from .._bulk.run import RunSummary
from .._concurrency.prefetch import PrefetchIterator
from .._concurrency.threads import run_in_thread
from ..errors import BatchLineError, ResultsFileError
from .job.manifest import Entry, Manifest, read_manifest
from .job_reader import JobReader, Told
from .models import BatchJob
from .resource_thread import ResourceThread
from .result_lines import skill_of

_AT_ONCE = 32  # outcomes that are written together


async def save(reading: JobReader, job: BatchJob, out: str, *, resume: bool) -> RunSummary:
    """Write what the file does not have; what it has as failed, is written as it is now.

    Args:
        reading: Reads the outcomes.
        job: The job.
        out: The file.
        resume: Whether to go on with a file that holds results of this job.

    Raises:
        ResultsFileError: The file cannot be used, or written.
    """
    started = time.monotonic()
    run = _fingerprint(job.ids) if job.folder is None else run_name(await run_in_thread(read_manifest, job.folder))
    thread = ResourceThread(
        out,
        functools.partial(_ResultsFile, out, run, resume=resume),
        ResultsFileError(f"{out!r} cannot be used: another call in this process writes it."),
    )
    try:
        file = await thread.open()
        await _write_all(reading, job, file, thread)
    finally:
        await thread.aclose()
    counts: dict[str, Any] = dict(file.count)
    return RunSummary(**counts, elapsed=time.monotonic() - started)


async def _write_all(
    reading: JobReader, job: BatchJob, file: _ResultsFile, thread: ResourceThread[_ResultsFile]
) -> None:
    waiting: list[Told] = []
    try:
        async with PrefetchIterator(functools.partial(reading.told, job)) as told:
            async for one in told:
                waiting.append(one)
                if len(waiting) == _AT_ONCE:
                    written, waiting = waiting, []
                    await thread.run(file.add, written)
    finally:  # what was read is written, even if nothing more can be read
        with anyio.CancelScope(shield=True):
            await thread.run(file.add, waiting)


def run_name(manifest: Manifest) -> str:
    """By what a file of results is known to be of a job, however many batches it has."""
    return _fingerprint(manifest.task)


def _fingerprint(task: object) -> str:
    return records.fingerprint(["batch", task])


class _ResultsFile:
    """The file that outcomes are saved to; blocking."""

    def __init__(self, out: str, run: str, *, resume: bool) -> None:
        self.count: Counter[str] = Counter()
        self._run = run
        self._has = _good_in(out)
        self._journal = Journal(out, run, resume=resume, retry_failed=True)

    def close(self) -> None:
        """Close it, with all that was added on the disk."""
        self._journal.close()

    def add(self, outcomes: list[Told]) -> None:
        """Write the lines of outcomes, but for those that the file has."""
        for entry, outcome in outcomes:
            self._add(entry, outcome)

    def _add(self, entry: Entry | None, outcome: Outcome[Any]) -> None:
        skill = entry.skill if entry is not None else skill_of(outcome.result)
        arguments: dict[str, Mapping[str, Any]] = {skill: {} if entry is None else entry.arguments}
        key = records.key_of(outcome.id, arguments)
        if self._has[key]:
            self._has[key] -= 1
            self.count["skipped"] += 1
            return
        self.count["succeeded" if outcome.ok else "failed"] += 1
        if isinstance(outcome.error, BatchLineError) and outcome.error.code == "missing":
            return
        finished = Finished(outcome.id, arguments, outcome.result, outcome.error, outcome.attempts, outcome.elapsed)
        self._journal.add(key, records.to_line(finished, several=False, run=self._run))
        for metrics in records.metrics_of(outcome.result):
            self.count["input_tokens"] += _whole(metrics.input_tokens)
            self.count["output_tokens"] += _whole(metrics.output_tokens)


def _whole(count: object) -> int:
    return count if isinstance(count, int) else 0


def _good_in(out: str) -> Counter[bytes]:
    """How often the file has a result of each item; what it is otherwise, the journal says."""
    try:
        if not Path(out).is_file():
            return Counter()
        return Counter(records.key_of_record(record) for record in read_records(out) if record["ok"])
    except (ResultsFileError, OSError, ValueError):
        return Counter()
