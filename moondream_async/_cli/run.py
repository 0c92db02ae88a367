"""`moondream-async run`: run skills over many images and save the results to a resumable file."""

from __future__ import annotations

import json
import math
import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import anyio.to_thread
import attrs

from .._bulk.reading import read_records
from .._bulk.run import Run, RunSummary
from .._client.async_client import AsyncClient
from .._wire.skills import SKILLS
from ..config import DEFAULT_BASE_URL, normalise_base_url
from ..errors import ConfigurationError, MoondreamError, ResultsFileError
from ..prices import Prices, prices_of
from .arguments import Arguments
from .console import one_line, show
from .estimate import Estimate, estimate
from .inputs import Inputs, print_skipped
from .progress import Bar, Lines, details, duration, meter
from .target import base_url_of

STOPPED, WRONG_USAGE, SOME_FAILED = 1, 2, 3
_CONCURRENCY, _RATE_WINDOW = 32, 4  # items; seconds
_FAILURES_SHOWN = 3
_SIGNAL_REPEAT = 0.5  # seconds within which a shell may deliver the same Ctrl-C again
_SETTINGS = ("temperature", "top_p", "max_tokens", "max_objects")


def run(arguments: Arguments) -> int:
    """Run the skills, or with `--dry-run` print an estimate. Return the exit code."""
    try:
        return _run(arguments)
    except (ConfigurationError, ResultsFileError) as exc:
        show(f"moondream-async: {exc}", file=sys.stderr)
        return WRONG_USAGE


def _run(arguments: Arguments) -> int:
    inputs = Inputs(arguments.inputs)
    options = skill_arguments(arguments)
    check_required(arguments.skill, options, inputs)
    if arguments.dry_run:
        return _dry_run(inputs, options, arguments)
    if not arguments.out:
        raise ConfigurationError("run requires --out FILE or --dry-run.")
    return anyio.run(_execute, inputs, options, arguments)


async def _execute(inputs: Inputs, options: dict[str, Any], arguments: Arguments) -> int:
    total = await anyio.to_thread.run_sync(inputs.count)
    print_skipped(inputs)
    if total == 0:
        raise ConfigurationError(f"No images found in {' '.join(arguments.inputs)}.")
    bar = meter()

    def on_progress(summary: RunSummary) -> None:
        bar.update(summary.seen, summary.total, details(summary), unit="items")

    with base_url_of(arguments) as base_url:
        client = AsyncClient(base_url=base_url, model=arguments.model, rate_limit=arguments.rate)
        run = Run(
            client,
            arguments.skill[0] if len(arguments.skill) == 1 else arguments.skill,
            inputs,
            arguments.out,
            concurrency=_concurrency(arguments),
            max_failures=arguments.max_failures,
            max_cost=arguments.max_cost,
            resume=arguments.resume or arguments.retry_failed,
            retry_failed=arguments.retry_failed,
            progress=on_progress,
            prices=arguments.prices,
            total=total,
            arguments=options,
        )
        async with client:
            with bar.shown():
                error, stopped_by = await _until_done(run, bar)
    summary = run.summary
    if error is not None and not summary.seen:
        show(f"moondream-async: {error}", file=sys.stderr)
        return WRONG_USAGE if isinstance(error, (ConfigurationError, ResultsFileError)) else STOPPED
    _print_summary(summary, arguments)
    _print_failures(run, summary)
    return _report_outcome(summary, error, stopped_by, arguments)


async def _until_done(run: Run, bar: Lines | Bar) -> tuple[MoondreamError | None, int | None]:
    """Run until done. Return what stopped the run: an error, a signal, or neither."""
    error: MoondreamError | None = None
    signals: list[tuple[int, float]] = []

    async def listen() -> None:
        if sys.platform == "win32":  # Ctrl-C stops immediately
            return
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as received:
            async for number in received:
                now = time.monotonic()
                if not signals:
                    run.finish()
                    bar.say("Finishing in-flight items. Interrupt again to stop immediately.")
                elif now > signals[-1][1] + _SIGNAL_REPEAT:
                    tasks.cancel_scope.cancel()
                signals.append((number, now))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        try:
            await run.run()
        except MoondreamError as exc:
            error = exc
        tasks.cancel_scope.cancel()
    return error, signals[0][0] if signals else None


def _report_outcome(
    summary: RunSummary, error: MoondreamError | None, stopped_by: int | None, arguments: Arguments
) -> int:
    """Print how to resume, if items remain. Return the exit code."""
    code = SOME_FAILED if summary.failed + summary.failed_before else 0
    if error is not None:
        show(f"moondream-async: {error}", file=sys.stderr)
        code = STOPPED
    elif stopped_by is not None:
        code = 128 + stopped_by
    elif summary.cost_limit_reached:
        left = "" if summary.remaining is None else f" {summary.remaining:,} items remain."
        show(f"Stopped by --max-cost {arguments.max_cost:g}.{left} Raise the limit to continue.", file=sys.stderr)
        code = STOPPED
    if code:
        _print_resume_command(arguments, summary, is_over=code == SOME_FAILED)
    return code


def _print_resume_command(arguments: Arguments, summary: RunSummary, *, is_over: bool) -> None:
    """Print the command that processes the remaining items, including failed ones."""
    command, *words = [word for word in arguments.words if word not in ("--resume", "--retry-failed")]
    has_failed = summary.failed + summary.failed_before > 0
    purpose = "To retry failed items" if is_over else "To resume"
    option = "--retry-failed" if has_failed else "--resume"
    show(f"{purpose}: {shlex.join(['moondream-async', command, option, *words])}", file=sys.stderr)


def _concurrency(arguments: Arguments) -> int:
    """Return `--concurrency`, or a default bounded by `--rate`, so that Ctrl-C does not wait long."""
    if arguments.concurrency is not None:
        return int(arguments.concurrency)
    return (
        _CONCURRENCY if arguments.rate is None else min(_CONCURRENCY, max(2, math.ceil(arguments.rate * _RATE_WINDOW)))
    )


def _print_failures(run: Run, summary: RunSummary) -> None:
    shown = run.failures[:_FAILURES_SHOWN]
    for name, error in shown:
        show(f"failed: {one_line(name)}: {one_line(error)}", file=sys.stderr)
    if summary.failed > len(shown):
        show(f"... and {summary.failed - len(shown):,} more", file=sys.stderr)


def _print_summary(summary: RunSummary, arguments: Arguments) -> None:
    if arguments.json:
        show(json.dumps(attrs.asdict(summary)))
        return
    done = f"{summary.succeeded:,} done, {summary.failed:,} failed"
    before = f"already in the file ({summary.failed_before:,} of them failed)"
    for number, label in ((summary.skipped, before), (summary.repeated, "duplicates")):
        done += f", {number:,} {label}" if number else ""
    show(f"{done}; {duration(summary.elapsed)}" + (f", {summary.rate:.1f}/s" if summary.rate else ""))
    tokens = f"{summary.input_tokens:,} input and {summary.output_tokens:,} output tokens"
    show(tokens + (f", about ${summary.cost:.2f}" if summary.cost is not None else ""))
    show(f"results: {arguments.out}")
    if summary.damaged_lines:
        show(f"{summary.damaged_lines:,} damaged lines in it were skipped", file=sys.stderr)


def _dry_run(inputs: Inputs, options: dict[str, Any], arguments: Arguments) -> int:
    forecast = estimate(inputs, arguments.skill, options)
    print_skipped(inputs)
    base_url = arguments.base_url or os.getenv("MOONDREAM_BASE_URL") or os.getenv("MOONDREAM_ENDPOINT")
    server = normalise_base_url(base_url) if base_url else DEFAULT_BASE_URL
    prices: Prices | None = arguments.prices or (None if arguments.sandbox else prices_of(server, arguments.model))
    finished = min(forecast.items, _finished(arguments))
    forecast = _scaled(forecast, (forecast.items - finished) / max(1, forecast.items))
    cost = None if prices is None else prices.cost(forecast)
    if arguments.json:
        show(json.dumps({**attrs.asdict(forecast), "finished": finished, "cost": cost}))
        return 0
    show(
        f"items        {forecast.items:,}" + (f", of which {finished:,} already in {arguments.out}" if finished else "")
    )
    show(f"on disk      {_size(forecast.nbytes)}")
    show(f"upload       about {_size(forecast.nbytes_sent)} (from {forecast.sample} of the images)")
    if forecast.unreadable:
        show(f"unreadable   {forecast.unreadable} of those {forecast.sample}")
    show(f"tokens       about {forecast.input_tokens:,} input and {forecast.output_tokens:,} output")
    if prices is not None and cost is not None:
        as_of = f", prices as of {prices.as_of}" if prices.as_of else ""
        show(f"cost         about ${cost:.2f} (${prices.input:g} and ${prices.output:g} per million tokens{as_of})")
    elif not arguments.sandbox and server == DEFAULT_BASE_URL:
        show("cost         unknown: choose a model with a known price (--model), or pass --prices")
    if arguments.rate:
        show(f"time         at least {duration(forecast.items / arguments.rate)}")
    return 0


def _finished(arguments: Arguments) -> int:
    """Count the items of these skills in the results file."""
    if not arguments.out or not os.path.exists(arguments.out):  # noqa: PTH110 - a name, not a Path
        return 0
    skill = arguments.skill[0] if len(arguments.skill) == 1 else arguments.skill
    return sum(1 for record in read_records(arguments.out) if record["skill"] == skill)


def _scaled(forecast: Estimate, fraction: float) -> Estimate:
    """Scale the estimated amounts to a fraction of the items; keep the counts."""
    names = ("nbytes_sent", "input_tokens", "output_tokens")
    return attrs.evolve(forecast, **{name: math.ceil(getattr(forecast, name) * fraction) for name in names})


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e6:,.1f} MB" if nbytes >= 100_000 else f"{nbytes / 1e3:,.1f} KB"


def check_required(skills: Sequence[str], options: Mapping[str, Any], inputs: Inputs) -> None:
    """Raise `ConfigurationError` if a skill's required argument is neither an option nor can come with the inputs."""
    for skill in skills:
        required = SKILLS[skill].required
        if required and required not in options and not inputs.may_bring_arguments:
            raise ConfigurationError(f"{skill} requires --{required}.")


def skill_arguments(arguments: Arguments) -> dict[str, Any]:
    """Collect the skill arguments from the command line."""
    settings = {name: getattr(arguments, name) for name in _SETTINGS if getattr(arguments, name) is not None}
    objects = list(arguments.object)
    options: dict[str, Any] = {
        "question": arguments.question,
        "object": objects[0] if len(objects) == 1 else objects or None,
        "length": arguments.length,
        "reasoning": arguments.reasoning,
        "settings": settings or None,
    }
    return {name: value for name, value in options.items() if value is not None}
