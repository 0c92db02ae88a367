"""The outcomes of a job into a file of JSON lines such as `run` writes, whole after any kill."""

from __future__ import annotations

import functools
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from ..bulk import records
from ..bulk.items import Outcome
from ..bulk.journal import Journal, read_records
from ..bulk.records import Finished
from ..bulk.run import RunSummary
from ..errors import BatchLineError, ResultsFileError
from ..net.pump import Pumped
from ..net.threads import beside
from . import wire
from .manifest import Entry, Manifest, read_manifest
from .reading import Reading
from .types import BatchJob


async def save(reading: Reading, job: BatchJob, out: str, *, resume: bool) -> RunSummary:
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
    run = _fingerprint(job.ids) if job.folder is None else run_name(await beside(read_manifest, job.folder))
    has = await beside(_good_in, out)
    opened = functools.partial(Journal, resume=resume, retry_failed=True)
    journal = await anyio.to_thread.run_sync(opened, out, run)
    count: Counter[str] = Counter()
    try:
        async with Pumped(functools.partial(reading.told, job)) as told:
            async for entry, outcome in told:
                _write(journal, has, entry, outcome, run, count)
    finally:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(journal.close)
    return RunSummary(**count, elapsed=time.monotonic() - started)


def run_name(manifest: Manifest) -> str:
    """By what a file of results is known to be of a job, however many batches it has."""
    return _fingerprint(manifest.task)


def _fingerprint(task: object) -> str:
    return records.fingerprint(["batch", task])


def _write(
    journal: Journal, has: Counter[bytes], entry: Entry | None, outcome: Outcome[Any], run: str, count: Counter[str]
) -> None:
    """Write the line of an item, unless the file has it."""
    skill = entry.skill if entry is not None else wire.skill_of(outcome.result)
    arguments: dict[str, Mapping[str, Any]] = {skill: {} if entry is None else entry.arguments}
    key = records.key_of(outcome.id, arguments)
    if has[key]:
        has[key] -= 1
        count["skipped"] += 1
        return
    count["succeeded" if outcome.ok else "failed"] += 1
    if isinstance(outcome.error, BatchLineError) and outcome.error.code == "missing":
        return
    finished = Finished(outcome.id, arguments, outcome.result, outcome.error, outcome.attempts, outcome.elapsed)
    journal.add(key, records.to_line(finished, several=False, run=run))
    for metrics in records.metrics_of(outcome.result):
        count["input_tokens"] += metrics.input_tokens or 0
        count["output_tokens"] += metrics.output_tokens or 0


def _good_in(out: str) -> Counter[bytes]:
    """How often the file has a result of each item; what it is otherwise, the journal says."""
    if not Path(out).is_file():
        return Counter()
    try:
        return Counter(records.key_of_record(record) for record in read_records(out) if record["ok"])
    except ResultsFileError:
        return Counter()
