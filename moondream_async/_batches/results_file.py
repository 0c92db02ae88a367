"""Save the outcomes of a job to a JSON Lines file in the format of `run`. The file survives a kill at any moment."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio

from .._bulk import records
from .._bulk.journal import Journal
from .._bulk.outcomes import Outcome
from .._bulk.reading import read_records
from .._bulk.records import Finished
from .._concurrency.closing import Closing
from .._concurrency.prefetch import PrefetchIterator
from .._concurrency.threads import run_in_thread
from .._progress.figures import RunSummary
from ..errors import BatchLineError, ResultsFileError
from .job.manifest import Entry, Manifest, read_manifest
from .job_reader import JobReader
from .models import BatchJob
from .resource_thread import ResourceThread
from .result_lines import skill_of
from .results import EntryOutcome

_BATCH_SIZE = 32  # outcomes that are written together


async def save(reader: JobReader, job: BatchJob, out: str, *, resume: bool) -> RunSummary:
    """Write the outcomes that the file lacks, and those of items that had failed.

    Args:
        reader: Reads the outcomes.
        job: The job.
        out: Path of the file.
        resume: Whether to continue a file that holds results of this job.

    Raises:
        ResultsFileError: The file cannot be read or written, or holds other results.
    """
    started = time.monotonic()
    run = _fingerprint(job.ids) if job.folder is None else run_name(await run_in_thread(read_manifest, job.folder))
    thread = ResourceThread(
        out,
        functools.partial(_ResultsFile, out, run, resume=resume),
        ResultsFileError(f"{out!r} cannot be used: another call in this process is writing it."),
    )
    try:
        file = await thread.open()
        await _write_all(reader, job, file, thread)
    finally:
        await thread.aclose()
    counts: dict[str, Any] = dict(file.count)
    return RunSummary(**counts, elapsed=time.monotonic() - started)


async def _write_all(
    reader: JobReader, job: BatchJob, file: _ResultsFile, thread: ResourceThread[_ResultsFile]
) -> None:
    pending: list[EntryOutcome] = []
    try:
        async with PrefetchIterator(functools.partial(reader.entry_outcomes, job)) as outcomes:
            async for outcome in outcomes:
                pending.append(outcome)
                if len(pending) == _BATCH_SIZE:
                    full, pending = pending, []
                    await thread.run(file.add, full)
    finally:  # write what was read, even if reading failed
        with anyio.CancelScope(shield=True):
            await thread.run(file.add, pending)


def run_name(manifest: Manifest) -> str:
    """Return the name of a job in a results file, whatever the number of its batches."""
    return _fingerprint(manifest.task)


def _fingerprint(task: object) -> str:
    return records.fingerprint(["batch", task])


class _ResultsFile(Closing):
    """A file that outcomes are saved to; blocking."""

    def __init__(self, out: str, run: str, *, resume: bool) -> None:
        self.count: Counter[str] = Counter()
        self._run = run
        self._existing = _count_successes(out)
        self._journal = Journal(out, run, resume=resume, retry_failed=True)

    def close(self) -> None:
        """Flush everything to disk, and close the file."""
        self._journal.close()

    def add(self, outcomes: list[EntryOutcome]) -> None:
        """Write the outcomes that the file lacks."""
        for entry, outcome in outcomes:
            self._add(entry, outcome)

    def _add(self, entry: Entry | None, outcome: Outcome[Any]) -> None:
        skill = entry.skill if entry is not None else skill_of(outcome.result)
        arguments: dict[str, Mapping[str, Any]] = {skill: {} if entry is None else entry.arguments}
        key = records.key_of(outcome.id, arguments)
        if self._existing[key]:
            self._existing[key] -= 1
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


def _count_successes(out: str) -> Counter[bytes]:
    """Return how many successful results the file has per item. An invalid file has none; the journal reports it."""
    try:
        if not Path(out).is_file():
            return Counter()
        return Counter(records.key_of_record(record) for record in read_records(out) if record["ok"])
    except (ResultsFileError, OSError, ValueError):
        return Counter()
