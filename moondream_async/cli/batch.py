"""`moondream-async batch`: hand in, ask, wait, read the results; on the sync client."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..batches.types import Batch, BatchJob, UploadProgress
from ..errors import ConfigurationError, ResultsFileError
from ..prices import BATCH_PART, prices_of
from ..sync import Client
from .inputs import Inputs
from .progress import meter
from .run import SOME_FAILED, STOPPED, WRONG_USAGE, skill_arguments
from .server import base_url_of

Arguments = argparse.Namespace


def submit(client: Client, arguments: Arguments) -> int:
    """Hand in images, or a ready file; wait, and write the results, if that is asked for."""
    shows = meter()

    def told(now: UploadProgress) -> None:
        if now.sent:
            shows.update(now.sent / 1e6, now.size / 1e6, "uploading", unit="MB")
        else:
            shows.update(now.items, now.total, f"{now.refused:,} cannot be sent", unit="images prepared")

    with shows.shown():
        if arguments.skill:
            inputs = Inputs(arguments.inputs)
            given = skill_arguments(arguments)
            job = client.batches.create(inputs, arguments.skill, folder=arguments.job, progress=told, **given)
        else:
            job = client.batches.submit(_ready(arguments), folder=arguments.job, progress=told)
    _print_job(job, arguments)
    if arguments.out:
        return _wait_for(client, job, arguments) or _save(client, job, arguments)
    return _wait_for(client, job, arguments) if arguments.wait else 0


def status(client: Client, arguments: Arguments) -> int:
    """Ask once."""
    _print_job(client.batches.status(_job(arguments)), arguments)
    return 0


def wait(client: Client, arguments: Arguments) -> int:
    """Ask until it is finished."""
    return _wait_for(client, _job(arguments), arguments)


def results(client: Client, arguments: Arguments) -> int:
    """Write the results to a file, or print them."""
    job = _job(arguments)
    if arguments.out:
        return _save(client, job, arguments)
    failed = 0
    for outcome in client.batches.results(job):
        failed += not outcome.ok
        told: dict[str, Any] = {"id": outcome.id, "ok": outcome.ok}
        told |= {"result": outcome.unwrap().to_dict()} if outcome.ok else {"error": str(outcome.error)}
        print(json.dumps(told))
    return SOME_FAILED if failed else 0


def listing(client: Client, arguments: Arguments) -> int:
    """Print all batches, the newest first."""
    for batch in client.batches.list(limit=arguments.limit):
        print(json.dumps(batch.to_dict()) if arguments.json else _line(batch))
    return 0


def cancel(client: Client, arguments: Arguments) -> int:
    """Abort what is not handed in yet."""
    if client.batches.cancel(_job(arguments)):
        print("aborted")
        return 0
    print("moondream-async: what the server has accepted goes on; batches cannot be stopped.", file=sys.stderr)
    return STOPPED


def run(arguments: Arguments) -> int:
    """Do one of these; returns the exit code."""
    work: Callable[[Client, Arguments], int] = globals()[arguments.work]
    try:
        with base_url_of(arguments) as base_url, Client(base_url=base_url, model=arguments.model) as client:
            return work(client, arguments)
    except (ConfigurationError, ResultsFileError) as exc:
        print(f"moondream-async: {exc}", file=sys.stderr)
        return WRONG_USAGE


def _ready(arguments: Arguments) -> str:
    inputs: list[str] = arguments.inputs
    if len(inputs) != 1 or not inputs[0].lower().endswith((".jsonl", ".ndjson")):
        raise ConfigurationError("Without --skill, give one ready .jsonl file of batch lines.")
    if skill_arguments(arguments):
        raise ConfigurationError("The lines of a ready file have their own arguments; leave out --question and such.")
    return inputs[0]


def _job(arguments: Arguments) -> str | Path:
    """A folder, if there is one; else a batch's id."""
    return Path(arguments.job) if Path(arguments.job).is_dir() else str(arguments.job)


def _wait_for(client: Client, job: BatchJob | str | Path, arguments: Arguments) -> int:
    shows = meter()

    def told(now: BatchJob) -> None:
        done = now.progress.completed + now.progress.failed
        details = f"{now.status}, {now.progress.failed:,} failed"
        shows.update(done, now.progress.total or None, details, unit="lines")

    with shows.shown():
        job = client.batches.wait(job, timeout=arguments.timeout, progress=told)
    _print_job(job, arguments)
    prices = prices_of(client.base_url, arguments.model)
    cost = "" if prices is None else f", about ${BATCH_PART * prices.cost(job.usage):.2f} (half the usual price)"
    tokens = f"{job.usage.input_tokens:,} input and {job.usage.output_tokens:,} output tokens"
    print(tokens + cost, file=sys.stderr)
    return STOPPED if job.status == "failed" else 0


def _save(client: Client, job: BatchJob | str | Path, arguments: Arguments) -> int:
    summary = client.batches.save(job, arguments.out)
    before = f", {summary.skipped:,} in the file already" if summary.skipped else ""
    print(f"{summary.succeeded:,} done, {summary.failed:,} failed{before}; results: {arguments.out}", file=sys.stderr)
    return SOME_FAILED if summary.failed else 0


def _print_job(job: BatchJob, arguments: Arguments) -> None:
    if arguments.json:
        told: dict[str, Any] = {"folder": None if job.folder is None else str(job.folder), "status": job.status}
        print(json.dumps({**told, "refused": job.refused, "batches": [batch.to_dict() for batch in job.batches]}))
        return
    for batch in job.batches:
        print(_line(batch))
    if job.refused:
        print(f"{job.refused:,} of {job.items:,} items cannot be sent; the results say why", file=sys.stderr)
    if job.folder is not None:
        print(f"job: {job.folder}")


def _line(batch: Batch) -> str:
    now = batch.progress
    told = "" if now is None else f"{now.completed + now.failed:,} of {now.total:,} lines, {now.failed:,} failed"
    why = f"{batch.error_code or ''} {batch.error_message or ''}".strip() if batch.status == "failed" else ""
    return f"{batch.id}  {batch.status:<10}  {batch.created_at or '':<24}  {told}{why}".rstrip()
