"""`moondream-async run`: run skills over many images and save the results to a resumable file."""

from __future__ import annotations

import json
import logging
import math
import shlex
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import anyio
import anyio.to_thread
import attrs

from .._bulk.budget import Budget
from .._bulk.run import Run
from .._client.async_client import AsyncClient
from .._log import log
from .._progress.displays import Display
from .._progress.durations import duration
from .._progress.figures import Progress, RunSummary
from .._progress.money import dollars
from .._progress.reporter import show_items
from ..errors import APIConnectionError, AuthenticationError, ConfigurationError, MoondreamError, ResultsFileError
from ..hooks import Hooks, RetryInfo
from .arguments import Arguments
from .connection import connection, describe_wait
from .console import show, show_error, show_note
from .dry_run import dry_run
from .exit_codes import SIGNALED, SOME_FAILED, STOPPED, WRONG_USAGE
from .failures import list_failed_items, print_failures
from .inputs import Inputs, print_skipped
from .progress import meter
from .skill_arguments import check_required, move_skill, skill_arguments
from .stopping import run_until_signal

_CONCURRENCY, _RATE_WINDOW = 32, 4  # items; seconds
_SILENCE, _WAIT_INTERVAL = 2.0, 10.0  # seconds without a finished item, and between two notes about waits
_CONDITIONS = (
    (APIConnectionError, " once the server can be reached"),
    (AuthenticationError, " with a valid key"),
)
_MANAGED_OPTIONS = ("--resume", "--retry-failed", "--fresh")


def run(arguments: Arguments) -> int:
    """Run the skills, or with `--dry-run` print an estimate. Return the exit code."""
    try:
        return _run(arguments)
    except (ConfigurationError, ResultsFileError) as exc:
        show_error(exc)
        return WRONG_USAGE


def _run(arguments: Arguments) -> int:
    move_skill(arguments)
    inputs = Inputs(arguments.inputs, fps=arguments.fps)
    options = skill_arguments(arguments)
    check_required(arguments.skill, options, inputs)
    if arguments.fresh and (arguments.resume or arguments.retry_failed):
        raise ConfigurationError("--fresh starts a new file: it cannot be used with --resume or --retry-failed.")
    if arguments.dry_run:
        return dry_run(inputs, options, arguments)
    if not arguments.out:
        raise ConfigurationError("run requires --out FILE or --dry-run.")
    return anyio.run(_execute, inputs, options, arguments)


async def _execute(inputs: Inputs, options: dict[str, Any], arguments: Arguments) -> int:
    total = await anyio.to_thread.run_sync(inputs.count)
    print_skipped(inputs)
    if total == 0:
        raise ConfigurationError(f"No images found in {' '.join(arguments.inputs)}.")
    display = _Display(arguments)
    with connection(arguments, rate_limit=arguments.rate, hooks=Hooks(retry=display.on_retry)) as target:
        client = AsyncClient(**target)
        run = Run(
            client,
            arguments.skill[0] if len(arguments.skill) == 1 else arguments.skill,
            inputs,
            arguments.out,
            concurrency=_concurrency(arguments),
            max_failures=arguments.max_failures,
            max_cost=arguments.max_cost,
            resume=not arguments.fresh,
            retry_failed=arguments.retry_failed,
            progress=display.on_progress,
            prices=arguments.prices,
            total=total,
            arguments=options,
        )
        async with client:
            with display.bar, _without_budget_warning():
                error, stopped_by = await run_until_signal(run, display.bar.say)
    summary = run.summary
    if error is not None and not summary.seen:
        show_error(error)
        return WRONG_USAGE if isinstance(error, (ConfigurationError, ResultsFileError)) else STOPPED
    _print_summary(summary, arguments)
    print_failures(run, stopped_by=error)
    await anyio.to_thread.run_sync(list_failed_items, arguments.out, summary)
    return _report_outcome(summary, error, stopped_by, arguments)


@contextmanager
def _without_budget_warning() -> Generator[None]:
    """Drop the library's warning about `max_cost`; the command prints its own."""

    def is_other(record: logging.LogRecord) -> bool:
        return not (isinstance(record.args, tuple) and any(isinstance(value, Budget) for value in record.args))

    log.addFilter(is_other)
    try:
        yield
    finally:
        log.removeFilter(is_other)


class _Display:
    """Shows the progress of a run, and the reason if it waits."""

    def __init__(self, arguments: Arguments) -> None:
        self.bar: Display = meter()
        self._rate_is_set = arguments.rate is not None
        self._seen, self._last_item, self._last_wait = 0, time.monotonic(), -math.inf

    def on_progress(self, now: Progress) -> None:
        """Update the bar."""
        if now.seen != self._seen:
            self._seen, self._last_item = now.seen, time.monotonic()
        show_items(self.bar, attrs.evolve(now, limited_by="--rate") if self._rate_is_set else now)

    def on_retry(self, wait: RetryInfo) -> None:
        """Say that calls wait, if no item finishes for a while; not for each of them."""
        now = time.monotonic()
        if now + wait.delay - self._last_item >= _SILENCE and now - self._last_wait >= _WAIT_INTERVAL:
            self._last_wait = now
            self.bar.say(describe_wait(wait))


def _report_outcome(
    summary: RunSummary, error: MoondreamError | None, stopped_by: int | None, arguments: Arguments
) -> int:
    """Print how to resume, if items remain. Return the exit code."""
    code = SOME_FAILED if summary.failed + summary.failed_before else 0
    if error is not None:
        show_error(error)
        code = STOPPED
    elif stopped_by is not None:
        code = SIGNALED + stopped_by
    elif summary.cost_limit_reached:
        left = "" if summary.remaining is None else f" {summary.remaining:,} items remain."
        spent = "" if summary.cost is None else f", after about {dollars(summary.cost)}"
        text = f"Stopped by --max-cost {arguments.max_cost:g}{spent}.{left} Raise the limit to continue."
        show(text, file=sys.stderr)
        code = STOPPED
    if code:
        _print_resume_command(arguments, summary, error, is_over=code == SOME_FAILED)
    return code


def _print_resume_command(
    arguments: Arguments, summary: RunSummary, error: MoondreamError | None, *, is_over: bool
) -> None:
    """Print the command that processes the remaining items, including failed ones."""
    words = [word for word in arguments.words if word not in _MANAGED_OPTIONS]
    if summary.failed + summary.failed_before:
        words.insert(words.index("run") + 1, "--retry-failed")
    purpose = "To retry failed items" if is_over else "To resume"
    when = next((text for kind, text in _CONDITIONS if isinstance(error, kind)), "")
    show_note(f"{purpose}{when}: {shlex.join(['moondream-async', *words])}")


def _concurrency(arguments: Arguments) -> int:
    """Return `--concurrency`, or a default bounded by `--rate`, so that Ctrl-C does not wait long."""
    if arguments.concurrency is not None:
        return int(arguments.concurrency)
    return (
        _CONCURRENCY if arguments.rate is None else min(_CONCURRENCY, max(2, math.ceil(arguments.rate * _RATE_WINDOW)))
    )


def _print_summary(summary: RunSummary, arguments: Arguments) -> None:
    if arguments.json:
        show(json.dumps(attrs.asdict(summary)))
        return
    if arguments.quiet:
        return
    done = f"{summary.succeeded:,} done, {summary.failed:,} failed"
    before = f"already in the file ({summary.failed_before:,} of them failed)"
    for number, label in ((summary.skipped, before), (summary.repeated, "duplicates")):
        done += f", {number:,} {label}" if number else ""
    show(f"{done}; {duration(summary.elapsed)}" + (f", {summary.rate:.1f}/s" if summary.rate else ""))
    tokens = f"{summary.input_tokens:,} input and {summary.output_tokens:,} output tokens"
    show(tokens + (f", about {dollars(summary.cost)}" if summary.cost is not None else ""))
    show(f"results: {arguments.out}")
    if summary.damaged_lines:
        show_note(f"{summary.damaged_lines:,} damaged lines in it were skipped")
