"""What a run would send and cost: counted and estimated, without a key or a request."""

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

_SAMPLE = 20  # images that are prepared, to tell how large they are when sent


@attrs.frozen(kw_only=True)
class Estimate:
    """What is known of a run before it.

    Attributes:
        items: How many.
        nbytes: Of the files, on the disk.
        nbytes_sent: Of all requests, about.
        unreadable: How many of the sample cannot be read.
        sample: How many were prepared.
        input_tokens: About.
        output_tokens: About.
    """

    items: int
    nbytes: int
    nbytes_sent: int
    unreadable: int
    sample: int
    input_tokens: int
    output_tokens: int


def estimate(items: Iterable[Any], skills: Sequence[str], arguments: Mapping[str, Any]) -> Estimate:
    """Look at all items, and prepare some of them."""
    count = nbytes = 0
    sample: list[Any] = []
    dice = random.Random(0)  # noqa: S311
    for count, item in enumerate(items, 1):
        nbytes += inputs.nbytes(item)
        if is_url(inputs.image_of(item)):  # nothing is fetched
            continue
        if len(sample) < _SAMPLE:
            sample.append(item)
        elif (place := dice.randrange(count)) < _SAMPLE:
            sample[place] = item
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
    """Bytes of an item's image in a request; 0 if it cannot be read."""
    try:
        return len(encode(inputs.image_of(item)).uri)
    except ImageError:
        return 0
