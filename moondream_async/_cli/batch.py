"""`moondream-async batch`: hand in, ask, wait, read the results; on the sync client."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .._batches import wire
from .._batches.job.folder import default_folder
from .._batches.job.manifest import MANIFEST, read_manifest
from .._batches.job_reader import is_batch_id, is_folder
from .._batches.models import FAILED, UNKNOWN, Batch, BatchJob, UploadProgress
from .._batches.results_file import run_name
from .._bulk.journal import read_records
from .._sync.client import Client
from ..errors import ConfigurationError, MoondreamError, ResultsFileError
from ..prices import prices_of
from .console import one_line, show
from .inputs import Inputs, say_skipped
from .progress import meter
from .run import SOME_FAILED, STOPPED, WRONG_USAGE, skill_arguments
from .target import base_url_of

Arguments = argparse.Namespace


def submit(client: Client, arguments: Arguments) -> int:
    """Hand in images, or a ready file; wait, and write the results, if that is asked for."""
    given = _given(arguments)
    source = _checked_inputs(arguments) if arguments.skill else _ready(arguments, given)
    with _folder_of(arguments) as folder:
        _check_out(arguments.out, folder)
        try:
            job = _hand_in(client, folder, source, given, arguments)
            waits = arguments.wait or arguments.out
            if not (waits and arguments.json):  # which prints it when all is over
                _print_job(job, arguments)
            code = _wait_for(client, job, arguments) if waits else 0
            return code or (_save(client, job, arguments) if arguments.out else 0)
        except (MoondreamError, KeyboardInterrupt):
            if (folder / MANIFEST).exists() and not arguments.sandbox:
                _say_how_to_go_on(folder, arguments)
            raise


def _hand_in(
    client: Client, folder: Path, source: Inputs | str, given: dict[str, Any], arguments: Arguments
) -> BatchJob:
    shows = meter()

    def told(now: UploadProgress) -> None:
        if now.sent:
            shows.update(now.sent / 1e6, now.size / 1e6, "uploading", unit="MB")
        else:
            shows.update(now.items, now.total, f"{now.refused:,} cannot be sent", unit="images prepared")

    with shows.shown():
        if isinstance(source, Inputs):
            job = client.batches.create(
                source,
                arguments.skill,
                folder=folder,
                progress=told,
                max_cost=arguments.max_cost,
                prices=arguments.prices,
                **given,
            )
            if job.cost_limit_reached:
                show(f"Stopped by --max-cost {arguments.max_cost:g}; raise it to add the other items.", file=sys.stderr)
        elif arguments.max_cost is not None:
            raise ConfigurationError("--max-cost is for images; a ready file of batch lines is sent as a whole.")
        else:
            job = client.batches.submit(source, folder=folder, progress=told)
    if any(batch.status == UNKNOWN for batch in job.batches):  # handed in by an earlier command
        with suppress(MoondreamError):
            job = client.batches.status(job)
    return job


def _checked_inputs(arguments: Arguments) -> Inputs:
    """Read all inputs once, so that one that cannot be read is found before anything is uploaded."""
    inputs = Inputs(arguments.inputs)
    if inputs.count() == 0:
        raise ConfigurationError(f"There are no images in {' '.join(arguments.inputs)}.")
    say_skipped(inputs)
    return inputs


@contextmanager
def _folder_of(arguments: Arguments) -> Generator[Path]:
    """Where the job is kept; a sandbox's, which ends with the command, only so long."""
    if arguments.job:
        yield Path(arguments.job)
    elif arguments.sandbox:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary, "job")
    else:
        folder = default_folder()
        show(f"job: {folder}", file=sys.stderr)
        yield folder


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
        show(json.dumps(told))
    return SOME_FAILED if failed else 0


def listing(client: Client, arguments: Arguments) -> int:
    """Print all batches, the newest first."""
    for batch in client.batches.list(limit=arguments.limit):
        show(json.dumps(batch.to_dict()) if arguments.json else _line(batch))
    return 0


def cancel(client: Client, arguments: Arguments) -> int:
    """Abort what is not handed in yet."""
    if client.batches.cancel(_job(arguments)):
        show("aborted")
        return 0
    show("moondream-async: what the server has accepted goes on: batches cannot be stopped.", file=sys.stderr)
    return STOPPED


def run(arguments: Arguments) -> int:
    """Do one of these; returns the exit code."""
    work: Callable[[Client, Arguments], int] = globals()[arguments.work]
    try:
        with base_url_of(arguments) as base_url, Client(base_url=base_url, model=arguments.model) as client:
            return work(client, arguments)
    except (ConfigurationError, ResultsFileError) as exc:
        show(f"moondream-async: {exc}", file=sys.stderr)
        return WRONG_USAGE


def _given(arguments: Arguments) -> dict[str, Any]:
    given = skill_arguments(arguments)
    needed = wire.missing(arguments.skill, given) if arguments.skill else None
    if needed and not Inputs(arguments.inputs).may_bring_arguments:
        raise ConfigurationError(f"{arguments.skill} needs --{needed}.")
    return given


def _ready(arguments: Arguments, given: dict[str, Any]) -> str:
    inputs: list[str] = arguments.inputs
    if len(inputs) != 1 or not inputs[0].lower().endswith((".jsonl", ".ndjson")):
        raise ConfigurationError("Without --skill, give one ready .jsonl file of batch lines.")
    if given:
        raise ConfigurationError("The lines of a ready file have their own arguments; leave out --question and such.")
    return inputs[0]


def _check_out(out: str | None, folder: Path) -> None:
    """Refuse now what would be found impossible when all is done, and billed."""
    if out is None:
        return
    try:
        parent = Path(out).absolute().parent
        if Path(out).is_dir() or not parent.is_dir():
            raise ConfigurationError(f"--out {out!r} is not the name of a file in a folder that is there.")
        if not os.access(out if Path(out).exists() else parent, os.W_OK):
            raise ConfigurationError(f"--out {out!r} cannot be written: permission denied.")
    except OSError as exc:  # a name that is too long
        raise ConfigurationError(f"--out {out!r} cannot be written: {exc.strerror}.") from None
    if Path(out).exists() and Path(out).stat().st_size:
        first = next(read_records(out), None)
        name = run_name(read_manifest(folder)) if (folder / MANIFEST).exists() else None
        if first is not None and first["run"] != name:
            raise ConfigurationError(f"--out {out!r} holds results of another run, or job.")


def _say_how_to_go_on(folder: Path, arguments: Arguments) -> None:
    words = list(arguments.words)
    command = words if arguments.job else [*words[:2], "--job", str(folder), *words[2:]]
    show(f"To go on: {shlex.join(['moondream-async', *command])}", file=sys.stderr)


def _job(arguments: Arguments) -> str:
    """A folder, or a batch's id."""
    name = str(arguments.job)
    if not is_folder(name) and (os.path.exists(name) or not is_batch_id(name)):  # noqa: PTH110 - of any text
        raise ConfigurationError(f"{name!r} is neither a job's folder nor a batch's id.")
    return name


def _wait_for(client: Client, job: BatchJob | str, arguments: Arguments) -> int:
    shows = meter()

    def told(now: BatchJob) -> None:
        done = now.progress.completed + now.progress.failed
        details = f"{now.status}, {now.progress.failed:,} failed"
        shows.update(done, now.progress.total or None, details, unit="lines")

    with shows.shown():
        job = client.batches.wait(job, timeout=arguments.timeout, progress=told)
    _print_job(job, arguments)
    prices = prices_of(client.base_url, arguments.model)
    cost = "" if prices is None else f", about ${prices.batch.cost(job.usage):.2f}"
    tokens = f"{job.usage.input_tokens:,} input and {job.usage.output_tokens:,} output tokens"
    show(tokens + cost, file=sys.stderr)
    return STOPPED if job.status in FAILED else 0


def _save(client: Client, job: BatchJob | str, arguments: Arguments) -> int:
    summary = client.batches.save(job, arguments.out)
    before = f", {summary.skipped:,} in the file already" if summary.skipped else ""
    show(f"{summary.succeeded:,} done, {summary.failed:,} failed{before}; results: {arguments.out}", file=sys.stderr)
    return SOME_FAILED if summary.failed else 0


def _print_job(job: BatchJob, arguments: Arguments) -> None:
    if arguments.json:
        told: dict[str, Any] = {"folder": None if job.folder is None else str(job.folder), "status": job.status}
        show(json.dumps({**told, "refused": job.refused, "batches": [batch.to_dict() for batch in job.batches]}))
        return
    for batch in job.batches:
        show(_line(batch))
    if job.refused:
        show(f"{job.refused:,} of {job.items:,} items cannot be sent; the results say why", file=sys.stderr)
    if job.folder is not None and not arguments.sandbox:
        show(f"job: {job.folder}")


def _line(batch: Batch) -> str:
    now = batch.progress
    told = [] if now is None else [f"{now.completed + now.failed:,} of {now.total:,} lines, {now.failed:,} failed"]
    why = [batch.error_code, batch.error_message] if batch.status in FAILED else []
    told += dict.fromkeys(filter(None, why))  # each once
    return one_line(f"{batch.id}  {batch.status:<10}  {batch.created_at or '':<24}  {'; '.join(told)}".rstrip())
