"""`moondream-async run`: skills over many images, into a file that any stop leaves ready to go on with."""

from __future__ import annotations

import argparse
import json
import math
import os
import shlex
import signal
import sys
import time
from typing import Any

import anyio
import anyio.to_thread
import attrs

from .._bulk.journal import read_records
from .._bulk.run import Run, RunSummary
from .._client.async_client import AsyncClient
from ..config import DEFAULT_BASE_URL, normalise_base_url
from ..errors import ConfigurationError, MoondreamError, ResultsFileError
from ..prices import Prices, prices_of
from .console import one_line, show
from .estimate import Estimate, estimate
from .inputs import Inputs, say_skipped
from .progress import Reporter, duration
from .target import base_url_of

STOPPED, WRONG_USAGE, SOME_FAILED = 1, 2, 3
_ASKS = {"query": "question", "detect": "object", "point": "object", "segment": "object"}
_AT_ONCE, _WORTH = 32, 4  # items; seconds
_FAILURES_SHOWN = 3
_SAME_SIGNAL = 0.5  # seconds in which a shell may pass on the same Ctrl-C again
_SETTINGS = ("temperature", "top_p", "max_tokens", "max_objects")


def run(arguments: argparse.Namespace) -> int:
    """Do the run, or with `--dry-run` say what it would be; returns the exit code."""
    try:
        return _run(arguments)
    except (ConfigurationError, ResultsFileError) as exc:
        show(f"moondream-async: {exc}", file=sys.stderr)
        return WRONG_USAGE


def _run(arguments: argparse.Namespace) -> int:
    inputs = Inputs(arguments.inputs)
    given = skill_arguments(arguments)
    for skill in arguments.skill:
        wanted = _ASKS.get(skill)
        if wanted and wanted not in given and not inputs.may_bring_arguments:
            raise ConfigurationError(f"{skill} needs --{wanted}.")
    if arguments.dry_run:
        return _dry_run(inputs, given, arguments)
    if not arguments.out:
        raise ConfigurationError("run needs --out FILE, or --dry-run.")
    return anyio.run(_go, inputs, given, arguments)


async def _go(inputs: Inputs, given: dict[str, Any], arguments: argparse.Namespace) -> int:
    total = await anyio.to_thread.run_sync(inputs.count)
    say_skipped(inputs)
    if total == 0:
        raise ConfigurationError(f"There are no images in {' '.join(arguments.inputs)}.")
    shows = Reporter()
    with base_url_of(arguments) as base_url:
        client = AsyncClient(base_url=base_url, model=arguments.model, rate_limit=arguments.rate)
        work = Run(
            client,
            arguments.skill[0] if len(arguments.skill) == 1 else arguments.skill,
            inputs,
            arguments.out,
            concurrency=_concurrency(arguments),
            max_failures=arguments.max_failures,
            max_cost=arguments.max_cost,
            resume=arguments.resume or arguments.retry_failed,
            retry_failed=arguments.retry_failed,
            progress=shows,
            prices=arguments.prices,
            total=total,
            arguments=given,
        )
        async with client:
            with shows.shown():
                error, stopped_by = await _until_done(work, shows)
    summary = work.summary
    if error is not None and not summary.seen:
        show(f"moondream-async: {error}", file=sys.stderr)
        return WRONG_USAGE if isinstance(error, (ConfigurationError, ResultsFileError)) else STOPPED
    _print_summary(summary, arguments)
    _print_failures(work, summary)
    return _verdict(summary, error, stopped_by, arguments)


async def _until_done(work: Run, shows: Reporter) -> tuple[MoondreamError | None, int | None]:
    """Run it; returns what stopped it: an error, a signal, or nothing."""
    error: MoondreamError | None = None
    signals: list[tuple[int, float]] = []

    async def listen() -> None:
        if sys.platform == "win32":  # Ctrl-C stops at once
            return
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as received:
            async for number in received:
                now = time.monotonic()
                if not signals:
                    work.finish()
                    shows.say("Finishing what is in flight; once more to stop at once.")
                elif now > signals[-1][1] + _SAME_SIGNAL:
                    tasks.cancel_scope.cancel()
                signals.append((number, now))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(listen)
        try:
            await work.run()
        except MoondreamError as exc:
            error = exc
        tasks.cancel_scope.cancel()
    return error, signals[0][0] if signals else None


def _verdict(
    summary: RunSummary, error: MoondreamError | None, stopped_by: int | None, arguments: argparse.Namespace
) -> int:
    """Say how to go on, if there is anything left; returns the exit code."""
    if error is not None:
        show(f"moondream-async: {error}", file=sys.stderr)
        _say_how_to_go_on(arguments, summary, is_over=False)
        return STOPPED
    if stopped_by is not None:
        _say_how_to_go_on(arguments, summary, is_over=False)
        return 128 + stopped_by
    if summary.cost_limit_reached:
        left = "" if summary.remaining is None else f" {summary.remaining:,} items are left."
        show(f"Stopped by --max-cost {arguments.max_cost:g}.{left} Raise it to go on.", file=sys.stderr)
        _say_how_to_go_on(arguments, summary, is_over=False)
        return STOPPED
    if summary.failed + summary.failed_before:
        _say_how_to_go_on(arguments, summary, is_over=True)
        return SOME_FAILED
    return 0


def _say_how_to_go_on(arguments: argparse.Namespace, summary: RunSummary, *, is_over: bool) -> None:
    """Name the command that does what is left, items that failed included."""
    command, *words = [word for word in arguments.words if word not in ("--resume", "--retry-failed")]
    has_failed = summary.failed + summary.failed_before > 0
    what = "To try the failed ones again" if is_over else "To go on"
    option = "--retry-failed" if has_failed else "--resume"
    show(f"{what}: {shlex.join(['moondream-async', command, option, *words])}", file=sys.stderr)


def _concurrency(arguments: argparse.Namespace) -> int:
    """As asked for; else no more than some seconds' worth of `--rate`, so that Ctrl-C need not wait for their turns."""
    if arguments.concurrency is not None:
        return int(arguments.concurrency)
    return _AT_ONCE if arguments.rate is None else min(_AT_ONCE, max(2, math.ceil(arguments.rate * _WORTH)))


def _print_failures(work: Run, summary: RunSummary) -> None:
    shown = work.failures[:_FAILURES_SHOWN]
    for name, error in shown:
        show(f"failed: {one_line(name)}: {one_line(error)}", file=sys.stderr)
    if summary.failed > len(shown):
        show(f"... and {summary.failed - len(shown):,} more", file=sys.stderr)


def _print_summary(summary: RunSummary, arguments: argparse.Namespace) -> None:
    if arguments.json:
        show(json.dumps(attrs.asdict(summary)))
        return
    done = f"{summary.succeeded:,} done, {summary.failed:,} failed"
    before = f"in the file already ({summary.failed_before:,} of them failed)"
    for number, what in ((summary.skipped, before), (summary.repeated, "repeated")):
        done += f", {number:,} {what}" if number else ""
    show(f"{done}; {duration(summary.elapsed)}" + (f", {summary.rate:.1f}/s" if summary.rate else ""))
    tokens = f"{summary.input_tokens:,} input and {summary.output_tokens:,} output tokens"
    show(tokens + (f", about ${summary.cost:.2f}" if summary.cost is not None else ""))
    show(f"results: {arguments.out}")
    if summary.damaged_lines:
        show(f"{summary.damaged_lines:,} damaged lines in it were passed over", file=sys.stderr)


def _dry_run(inputs: Inputs, given: dict[str, Any], arguments: argparse.Namespace) -> int:
    found = estimate(inputs, arguments.skill, given)
    say_skipped(inputs)
    base_url = arguments.base_url or os.getenv("MOONDREAM_BASE_URL") or os.getenv("MOONDREAM_ENDPOINT")
    server = normalise_base_url(base_url) if base_url else DEFAULT_BASE_URL
    prices: Prices | None = arguments.prices or (None if arguments.sandbox else prices_of(server, arguments.model))
    finished = min(found.items, _finished(arguments))
    found = _scaled(found, (found.items - finished) / max(1, found.items))
    cost = None if prices is None else prices.cost(found)
    if arguments.json:
        show(json.dumps({**attrs.asdict(found), "finished": finished, "cost": cost}))
        return 0
    show(f"items        {found.items:,}" + (f", of which {finished:,} in {arguments.out} already" if finished else ""))
    show(f"on the disk  {_size(found.nbytes)}")
    show(f"to be sent   about {_size(found.nbytes_sent)} (from {found.sample} of the images)")
    if found.unreadable:
        show(f"unreadable   {found.unreadable} of those {found.sample}")
    show(f"tokens       about {found.input_tokens:,} input and {found.output_tokens:,} output")
    if prices is not None and cost is not None:
        as_of = f", prices as of {prices.as_of}" if prices.as_of else ""
        show(f"cost         about ${cost:.2f} (${prices.input:g} and ${prices.output:g} a million tokens{as_of})")
    elif not arguments.sandbox and server == DEFAULT_BASE_URL:
        show("cost         unknown: name a model whose price is known (--model), or give --prices")
    if arguments.rate:
        show(f"time         at least {duration(found.items / arguments.rate)}")
    return 0


def _finished(arguments: argparse.Namespace) -> int:
    """How many items of these skills the file has."""
    if not arguments.out or not os.path.exists(arguments.out):  # noqa: PTH110 - a name, not a Path
        return 0
    skill = arguments.skill[0] if len(arguments.skill) == 1 else arguments.skill
    return sum(1 for record in read_records(arguments.out) if record["skill"] == skill)


def _scaled(found: Estimate, part: float) -> Estimate:
    """The estimate for a part of the items; the counts of what there is stay."""
    names = ("nbytes_sent", "input_tokens", "output_tokens")
    return attrs.evolve(found, **{name: math.ceil(getattr(found, name) * part) for name in names})


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e6:,.1f} MB" if nbytes >= 100_000 else f"{nbytes / 1e3:,.1f} KB"


def skill_arguments(arguments: argparse.Namespace) -> dict[str, Any]:
    """What the skills are given, as far as the command line says it."""
    settings = {name: getattr(arguments, name) for name in _SETTINGS if getattr(arguments, name) is not None}
    objects: list[str] = arguments.object or []
    given: dict[str, Any] = {
        "question": arguments.question,
        "object": objects[0] if len(objects) == 1 else objects or None,
        "length": arguments.length,
        "reasoning": arguments.reasoning,
        "settings": settings or None,
    }
    return {name: value for name, value in given.items() if value is not None}
