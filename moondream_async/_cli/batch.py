"""`moondream-async batch`: submit jobs, check and await them, and read their results, with the sync client."""

from __future__ import annotations

import json
import os
import shlex
import tempfile
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from .._batches.displaying import show_job, show_upload
from .._batches.job.folder import default_folder
from .._batches.job.manifest import MANIFEST, read_manifest
from .._batches.job_reader import is_batch_id, is_folder
from .._batches.models import FAILED, UNKNOWN, Batch, BatchJob, UploadProgress
from .._batches.results_file import run_name
from .._bulk.reading import read_records
from .._printable import one_line
from .._progress.money import dollars
from .._sync.client import Client
from ..errors import ConfigurationError, MoondreamError, ResultsFileError
from ..prices import prices_of
from .arguments import Arguments
from .connection import connection
from .console import show, show_error, show_note
from .dry_run import dry_run, dry_run_ready_file
from .exit_codes import SOME_FAILED, STOPPED, WRONG_USAGE
from .inputs import Inputs, print_skipped
from .progress import meter
from .skill_arguments import check_required, move_batch_skill, skill_arguments


def submit(client: Client, arguments: Arguments) -> int:
    """Submit images or a ready file; with `--wait` or `--out`, wait and save the results."""
    options = skill_arguments(arguments)
    source = _checked_inputs(arguments, options) if arguments.skill else _ready_file(arguments, options)
    with _job_folder(arguments) as folder:
        _check_output(arguments.out, folder)
        try:
            job = _submit(client, folder, source, options, arguments)
            should_wait = arguments.wait or arguments.out
            if not (should_wait and arguments.json):  # then the job is printed once, when it is finished
                _print_job(job, arguments, is_over=not should_wait)
            code = _wait_for(client, job, arguments) if should_wait else 0
            if not should_wait and not arguments.sandbox and not arguments.json:
                show_note(f"Next: moondream-async batch wait {shlex.quote(str(folder))}")
            return code or (_save(client, job, arguments) if arguments.out else 0)
        except (MoondreamError, KeyboardInterrupt):
            if (folder / MANIFEST).exists() and not arguments.sandbox:
                _print_resume_command(folder, arguments)
            raise


def _submit(
    client: Client, folder: Path, source: Inputs | str, options: dict[str, Any], arguments: Arguments
) -> BatchJob:
    bar = meter()
    total = source.count() if isinstance(source, Inputs) else None

    def on_progress(now: UploadProgress) -> None:
        show_upload(bar, now if now.total else attrs.evolve(now, total=total))

    with bar:
        if isinstance(source, Inputs):
            job = client.batches.create(
                source,
                arguments.skill,
                folder=folder,
                progress=on_progress,
                max_cost=arguments.max_cost,
                prices=arguments.prices,
                **options,
            )
            if job.cost_limit_reached:
                show_note(f"Stopped by --max-cost {arguments.max_cost:g}; raise the limit to add the remaining items.")
        else:
            job = client.batches.submit(source, folder=folder, progress=on_progress)
    if any(batch.status == UNKNOWN for batch in job.batches):  # submitted by an earlier command
        with suppress(MoondreamError):
            job = client.batches.status(job)
    return job


def _checked_inputs(arguments: Arguments, options: dict[str, Any]) -> Inputs:
    """Read all inputs once, so that an unreadable one fails before anything is uploaded."""
    inputs = Inputs(arguments.inputs, fps=arguments.fps)
    check_required([arguments.skill], options, inputs)
    if inputs.count() == 0:
        raise ConfigurationError(f"No images found in {' '.join(arguments.inputs)}.")
    print_skipped(inputs)
    return inputs


@contextmanager
def _job_folder(arguments: Arguments) -> Generator[Path]:
    """Yield the job's folder; with `--sandbox`, a temporary one, because the sandbox ends with the command."""
    if arguments.job:
        yield Path(arguments.job)
    elif arguments.sandbox:
        with tempfile.TemporaryDirectory() as temporary:
            yield Path(temporary, "job")
    else:
        folder = default_folder()
        show_note(f"job: {folder}")
        yield folder


def _dry_run(arguments: Arguments) -> int:
    """Print the number of images or lines of a batch, and its price."""
    options = skill_arguments(arguments)
    if arguments.skill:
        inputs = _checked_inputs(arguments, options)
        arguments.skill = [arguments.skill]
        return dry_run(inputs, options, arguments, is_batch=True)
    return dry_run_ready_file(_ready_file(arguments, options), arguments)


def status(client: Client, arguments: Arguments) -> int:
    """Print the current status of a job."""
    _print_job(client.batches.status(_job(arguments)), arguments)
    return 0


def wait(client: Client, arguments: Arguments) -> int:
    """Wait until a job is finished."""
    return _wait_for(client, _job(arguments), arguments)


def results(client: Client, arguments: Arguments) -> int:
    """Write the results of a job to a file, or print them."""
    job = _job(arguments)
    if arguments.out:
        return _save(client, job, arguments)
    failed = 0
    for outcome in client.batches.results(job):
        failed += not outcome.ok
        record: dict[str, Any] = {"id": outcome.id, "ok": outcome.ok}
        record |= {"result": outcome.unwrap().to_dict()} if outcome.ok else {"error": str(outcome.error)}
        show(json.dumps(record))
    return SOME_FAILED if failed else 0


def listing(client: Client, arguments: Arguments) -> int:
    """List all batches, newest first."""
    for batch in client.batches.list(limit=arguments.limit):
        show(json.dumps(batch.to_dict()) if arguments.json else _line(batch))
    return 0


def cancel(client: Client, arguments: Arguments) -> int:
    """Cancel the uploads of a job that the server has not accepted yet."""
    if client.batches.cancel(_job(arguments)):
        show("canceled")
        return 0
    show_error("nothing to cancel: a batch continues once the server has accepted it.")
    return STOPPED


_ACTIONS: dict[str, Callable[[Client, Arguments], int]] = {
    "submit": submit,
    "status": status,
    "wait": wait,
    "results": results,
    "cancel": cancel,
    "list": listing,
}


def run(arguments: Arguments) -> int:
    """Run the action that the command line names and return the exit code."""
    action = _ACTIONS[arguments.action]
    try:
        if arguments.action == "submit":
            _check_words(arguments)
            if arguments.dry_run:
                return _dry_run(arguments)
        with connection(arguments) as target, Client(**target) as client:
            return action(client, arguments)
    except (ConfigurationError, ResultsFileError) as exc:
        show_error(exc)
        return WRONG_USAGE


def _check_words(arguments: Arguments) -> None:
    """Check the skill or the ready file before a key is needed."""
    move_batch_skill(arguments)
    if not arguments.skill:
        _ready_file(arguments, skill_arguments(arguments))


def _ready_file(arguments: Arguments, options: dict[str, Any]) -> str:
    inputs: list[str] = arguments.inputs
    if len(inputs) != 1 or not inputs[0].lower().endswith((".jsonl", ".ndjson")):
        raise ConfigurationError(
            "Name a skill first, such as `batch submit caption photos`; or pass one ready .jsonl file of batch lines."
        )
    if arguments.max_cost is not None:
        raise ConfigurationError(
            "--max-cost works only with images; a ready file of batch lines is submitted as a whole."
        )
    if options:
        raise ConfigurationError(
            "The lines of a ready file carry their own arguments; omit --question and similar options."
        )
    return inputs[0]


def _check_output(out: str | None, folder: Path) -> None:
    """Check that the results can be written, before anything is submitted and billed."""
    if out is None:
        return
    try:
        parent = Path(out).absolute().parent
        if Path(out).is_dir() or not parent.is_dir():
            raise ConfigurationError(f"--out {out!r} is not a file name in an existing folder.")
        if not os.access(out if Path(out).exists() else parent, os.W_OK):
            raise ConfigurationError(f"--out {out!r} cannot be written: permission denied.")
    except OSError as exc:  # for example, the name is too long
        raise ConfigurationError(f"--out {out!r} cannot be written: {exc.strerror}.") from None
    if Path(out).exists() and Path(out).stat().st_size:
        first = next(read_records(out), None)
        name = run_name(read_manifest(folder)) if (folder / MANIFEST).exists() else None
        if first is not None and first["run"] != name:
            raise ConfigurationError(f"--out {out!r} contains the results of another run or job.")


def _print_resume_command(folder: Path, arguments: Arguments) -> None:
    words = list(arguments.words)
    at = words.index("submit") + 1
    command = words if arguments.job else [*words[:at], "--job", str(folder), *words[at:]]
    show_note(f"To resume: {shlex.join(['moondream-async', *command])}")


def _job(arguments: Arguments) -> str:
    """Return the job's folder or batch id, checked."""
    name = str(arguments.job)
    if not is_folder(name) and (os.path.exists(name) or not is_batch_id(name)):  # noqa: PTH110 - accepts any text
        raise ConfigurationError(f"{name!r} is neither a job folder nor a batch id.")
    return name


def _wait_for(client: Client, job: BatchJob | str, arguments: Arguments) -> int:
    with meter() as bar:
        job = client.batches.wait(job, timeout=arguments.timeout, progress=partial(show_job, bar))
    _print_job(job, arguments)
    prices = prices_of(client.base_url, client.model)
    cost = "" if prices is None else f", about {dollars(prices.batch.cost(job.usage))}"
    tokens = f"{job.usage.input_tokens:,} input and {job.usage.output_tokens:,} output tokens"
    show_note(tokens + cost)
    return STOPPED if job.status in FAILED else 0


def _save(client: Client, job: BatchJob | str, arguments: Arguments) -> int:
    summary = client.batches.save(job, arguments.out)
    before = f", {summary.skipped:,} already in the file" if summary.skipped else ""
    show_note(f"{summary.succeeded:,} done, {summary.failed:,} failed{before}; results: {arguments.out}")
    return SOME_FAILED if summary.failed else 0


def _print_job(job: BatchJob, arguments: Arguments, *, is_over: bool = True) -> None:
    if arguments.json:
        record: dict[str, Any] = {"folder": None if job.folder is None else str(job.folder), "status": job.status}
        show(json.dumps({**record, "refused": job.refused, "batches": [batch.to_dict() for batch in job.batches]}))
        return
    for batch in job.batches:
        show(_line(batch))
    if job.refused and is_over:
        show_note(f"{job.refused:,} of {job.items:,} items were rejected; the results say why")
    if job.folder is not None and not arguments.sandbox:
        show(f"job: {job.folder}")


def _line(batch: Batch) -> str:
    now = batch.progress
    details = [] if now is None else [f"{now.completed + now.failed:,} of {now.total:,} lines, {now.failed:,} failed"]
    why = [batch.error_code, batch.error_message] if batch.status in FAILED else []
    details += dict.fromkeys(filter(None, why))  # without duplicates
    return one_line(f"{batch.id}  {batch.status:<10}  {batch.created_at or '':<24}  {'; '.join(details)}".rstrip())
