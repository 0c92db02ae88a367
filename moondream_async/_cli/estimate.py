"""Estimates of what a run would send and cost, made without a key or a request."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from .._bulk.estimates import count_calls, usage
from .._bulk.plans import with_grid
from .._images.prepare import encode
from .._images.sources import is_url
from .._tiles.cutting import planned_grid
from ..errors import ImageError
from ..tiles import Tiles
from . import inputs

_SAMPLE = 20  # images encoded to estimate the size of the requests


@attrs.frozen(kw_only=True)
class Estimate:
    """The size and usage of a run, estimated before it starts.

    Attributes:
        items: Number of items.
        calls: Estimated number of calls.
        nbytes: Size of the files on disk, in bytes.
        nbytes_sent: Estimated size of all requests, in bytes.
        unreadable: Number of images in the sample that cannot be read.
        sample: Number of images that were encoded for the estimate.
        input_tokens: Estimated input tokens.
        output_tokens: Estimated output tokens.
    """

    items: int
    calls: int
    nbytes: int
    nbytes_sent: int
    unreadable: int
    sample: int
    input_tokens: int
    output_tokens: int


def estimate(items: Iterable[Any], skills: Sequence[str], arguments: Mapping[str, Any]) -> Estimate:
    """Count all items and encode a random sample of their images."""
    count = nbytes = 0
    sample: list[Any] = []
    rng = random.Random(0)  # noqa: S311
    for count, item in enumerate(items, 1):
        nbytes += inputs.nbytes(item)
        if is_url(inputs.image_of(item)):  # an estimate downloads nothing
            continue
        if len(sample) < _SAMPLE:
            sample.append(item)
        elif (position := rng.randrange(count)) < _SAMPLE:
            sample[position] = item
    expected = [_expect(item, skills, arguments) for item in sample]
    readable = [each for each in expected if each is not None]
    one = _mean(readable) if readable else _usage(dict.fromkeys(skills, arguments), 0)
    return Estimate(
        items=count,
        calls=math.ceil(count * one.calls),
        nbytes=nbytes,
        nbytes_sent=math.ceil(count * one.nbytes_sent),
        unreadable=len(expected) - len(readable),
        sample=len(sample),
        input_tokens=math.ceil(count * one.input_tokens),
        output_tokens=math.ceil(count * one.output_tokens),
    )


@attrs.frozen
class _Usage:
    """What one item takes: calls, bytes and tokens."""

    calls: float
    nbytes_sent: float
    input_tokens: float
    output_tokens: float


def _mean(usages: Sequence[_Usage]) -> _Usage:
    columns = zip(*(attrs.astuple(each) for each in usages), strict=True)
    return _Usage(*(sum(column) / len(usages) for column in columns))


def _expect(item: Any, skills: Sequence[str], arguments: Mapping[str, Any]) -> _Usage | None:
    """Return what an item is expected to take; None if its image cannot be read."""
    image = inputs.image_of(item)
    calls = dict.fromkeys(skills, arguments)
    try:
        if arguments.get("tiles") is not None:
            grid = planned_grid(image, Tiles.of(arguments["tiles"]))
            calls = dict.fromkeys(skills, with_grid(arguments, *grid))
        return _usage(calls, len(encode(image).uri))
    except ImageError:
        return None


def _usage(calls: Mapping[str, Mapping[str, Any]], nbytes: int) -> _Usage:
    count = sum(count_calls(*call) for call in calls.items())
    tokens = usage(calls)
    return _Usage(count, nbytes * count, tokens.input_tokens or 0, tokens.output_tokens or 0)
