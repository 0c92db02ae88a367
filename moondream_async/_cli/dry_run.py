"""`run --dry-run` and `batch submit --dry-run`: estimate size and cost; nothing is sent, and no key is needed."""

from __future__ import annotations

import json
import math
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs

from .._batches.job.manifest import Entry
from .._batches.validation import split_into_batches
from .._bulk.estimates import usage
from .._bulk.reading import read_records
from .._bulk.run import Run, fingerprint_of
from .._client.async_client import AsyncClient
from .._progress.durations import duration
from .._progress.money import dollars
from ..config import DEFAULT_BASE_URL
from ..errors import ConfigurationError
from ..prices import Prices, Usage, prices_of
from ..types import Metrics
from .arguments import Arguments
from .connection import Target, find_target
from .console import show, show_note
from .estimate import Estimate, estimate
from .inputs import Inputs, print_skipped


def dry_run(inputs: Inputs, options: Mapping[str, Any], arguments: Arguments, *, is_batch: bool = False) -> int:
    """Print an estimate of what a run or a batch would send and cost; return the exit code.

    Args:
        inputs: The images.
        options: The arguments of the skills.
        arguments: The command's options; `skill` is a list.
        is_batch: Whether it is a batch, at a batch's prices, and not a run.

    Raises:
        ConfigurationError: An argument is wrong, or the results file belongs to another run.
        ResultsFileError: The results file cannot be read.
    """
    target, prices = _prices(arguments, is_batch=is_batch)
    finished = 0 if is_batch else _count_finished(options, arguments, target)
    forecast = estimate(inputs, arguments.skill, options)
    print_skipped(inputs)
    finished = min(forecast.items, finished)
    forecast = _scaled(forecast, (forecast.items - finished) / max(1, forecast.items))
    cost = None if prices is None else prices.cost(forecast)
    limit = _describe_limit(cost, arguments.max_cost)
    if arguments.json:
        show(json.dumps({**attrs.asdict(forecast), "finished": finished, "cost": cost}))
        if limit:
            show_note(limit)
        return 0
    _print(forecast, finished, arguments)
    _print_cost(forecast, prices, target, arguments)
    if limit:
        show(f"limit        {limit}")
    rate: float | None = getattr(arguments, "rate", None)
    if rate:
        show(f"time         at least {duration((forecast.items - finished) / rate)}")
    return 0


def dry_run_ready_file(path: str, arguments: Arguments) -> int:
    """Print an estimate for a ready file of batch lines, after validating it; return the exit code.

    Raises:
        BatchInputError: The server would reject lines of the file.
    """
    counts: Counter[str] = Counter()
    input_tokens = output_tokens = 0

    def add(_batch: int, entry: Entry) -> None:
        nonlocal input_tokens, output_tokens
        counts[entry.skill] += 1
        tokens = usage({entry.skill: entry.arguments})
        input_tokens += tokens.input_tokens or 0
        output_tokens += tokens.output_tokens or 0

    batches = split_into_batches(Path(path), add)
    target, prices = _prices(arguments, is_batch=True)
    forecast = Metrics(input_tokens=input_tokens, output_tokens=output_tokens)
    if arguments.json:
        cost = None if prices is None else prices.cost(forecast)
        tokens = {"input_tokens": input_tokens, "output_tokens": output_tokens}
        show(json.dumps({"items": counts.total(), "batches": len(batches), **tokens, "cost": cost}))
        return 0
    skills = ", ".join(f"{count:,} {skill}" for skill, count in counts.most_common())
    show(f"lines        {counts.total():,} ({skills}), in {len(batches)} batch{'es' if len(batches) > 1 else ''}")
    show(f"upload       {_size(sum(batch.length for batch in batches))}")
    show(f"tokens       about {input_tokens:,} input and {output_tokens:,} output")
    _print_cost(forecast, prices, target, arguments)
    return 0


def _prices(arguments: Arguments, *, is_batch: bool) -> tuple[Target, Prices | None]:
    target = Target(None, arguments.model) if arguments.sandbox else find_target(arguments)
    prices: Prices | None = arguments.prices
    if prices is None and not arguments.sandbox:
        prices = prices_of(target.server, target.model)
    return target, prices.batch if is_batch and prices is not None else prices


def _print_cost(usage: Usage, prices: Prices | None, target: Target, arguments: Arguments) -> None:
    if prices is not None:
        as_of = f", prices as of {prices.as_of}" if prices.as_of else ""
        each = f"${prices.input:g} and ${prices.output:g} per million tokens{as_of}"
        show(f"cost         about {dollars(prices.cost(usage))} ({each})")
    elif target.server == DEFAULT_BASE_URL and not arguments.sandbox:
        show("cost         unknown: choose a model with a known price (--model), or pass --prices")


def _describe_limit(cost: float | None, max_cost: float | None) -> str:
    """Say that the estimated cost is above `--max-cost`, or cannot be compared with it; empty otherwise."""
    if max_cost is None:
        return ""
    if cost is None:
        return "--max-cost needs --prices IN,OUT, or a --model with known prices"
    return f"above --max-cost {max_cost:g}: not all items would be processed" if cost > max_cost else ""


def _print(forecast: Estimate, finished: int, arguments: Arguments) -> None:
    already = f", of which {finished:,} already in {arguments.out}" if finished else ""
    show(f"items        {forecast.items:,}{already}")
    if forecast.calls != forecast.items - finished:
        show(f"calls        about {forecast.calls:,}")
    show(f"on disk      {_size(forecast.nbytes)}")
    show(f"upload       about {_size(forecast.nbytes_sent)} (from {forecast.sample} of the images)")
    if forecast.unreadable:
        show(f"unreadable   {forecast.unreadable} of those {forecast.sample}")
    show(f"tokens       about {forecast.input_tokens:,} input and {forecast.output_tokens:,} output")


def _count_finished(options: Mapping[str, Any], arguments: Arguments, target: Target) -> int:
    """Count the items that the results file has; refuse the file of another run."""
    if not arguments.out or not os.path.exists(arguments.out):  # noqa: PTH110 - a name, not a Path
        return 0
    skill = arguments.skill[0] if len(arguments.skill) == 1 else arguments.skill
    client = AsyncClient("unused", base_url=target.base_url, model=target.model)
    name = fingerprint_of(Run(client, skill, [], arguments.out, arguments=options))
    count = 0
    for record in read_records(arguments.out):
        if count == 0 and record["run"] != name:
            raise ConfigurationError(
                f"--out {arguments.out!r} holds results of another run (skill, arguments or model differ)."
            )
        count += record["run"] == name
    return count


def _scaled(forecast: Estimate, fraction: float) -> Estimate:
    """Scale the estimated amounts to a fraction of the items; keep the counts."""
    names = ("calls", "nbytes_sent", "input_tokens", "output_tokens")
    return attrs.evolve(forecast, **{name: math.ceil(getattr(forecast, name) * fraction) for name in names})


def _size(nbytes: int) -> str:
    return f"{nbytes / 1e6:,.1f} MB" if nbytes >= 100_000 else f"{nbytes / 1e3:,.1f} KB"
