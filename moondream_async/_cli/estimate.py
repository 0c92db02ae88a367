"""Estimates of what a run would send and cost, made without a key or a request."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from .._bulk.estimates import count_calls, usage
from .._images.prepare import encode
from .._images.sources import is_url
from ..errors import ImageError
from . import inputs

_SAMPLE = 20  # images encoded to estimate the size of the requests


@attrs.frozen(kw_only=True)
class Estimate:
    """The size and usage of a run, estimated before it starts.

    Attributes:
        items: Number of items.
        nbytes: Size of the files on disk, in bytes.
        nbytes_sent: Estimated size of all requests, in bytes.
        unreadable: Number of images in the sample that cannot be read.
        sample: Number of images that were encoded for the estimate.
        input_tokens: Estimated input tokens.
        output_tokens: Estimated output tokens.
    """

    items: int
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
    calls = dict.fromkeys(skills, arguments)
    expected = usage(calls)
    sizes = [_size_sent(item) for item in sample]
    readable = [size for size in sizes if size]
    mean = sum(readable) / len(readable) if readable else 0.0
    return Estimate(
        items=count,
        nbytes=nbytes,
        nbytes_sent=math.ceil(mean * count * sum(count_calls(*call) for call in calls.items())),
        unreadable=sizes.count(0),
        sample=len(sample),
        input_tokens=count * (expected.input_tokens or 0),
        output_tokens=count * (expected.output_tokens or 0),
    )


def _size_sent(item: Any) -> int:
    """Return the size of an item's encoded image in bytes, or 0 if it cannot be read."""
    try:
        return len(encode(inputs.image_of(item)).uri)
    except ImageError:
        return 0
