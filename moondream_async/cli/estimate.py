"""What a run would send and cost: counted and estimated, without a key or a request."""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import attrs

from ..errors import ImageError
from ..images.prepare import encode
from ..images.sources import is_url
from . import inputs

_SAMPLE = 20  # images that are prepared, to tell how large they are when sent
_IMAGE_TOKENS = 730  # of any image: 729, and one that begins the prompt
_CHARACTERS_A_TOKEN = 4  # of English
_CAPTION_TOKENS = {"short": 40, "normal": 120, "long": 250}
_OUTPUT_TOKENS = {"query": 60, "detect": 10, "point": 7, "segment": 150}
"""What an answer typically has: three tokens for a box, two for a point. Guesses; the run itself counts."""


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
    calls = [calls_of(skill, arguments) for skill in skills]
    sizes = [_size_sent(item) for item in sample]
    readable = [size for size in sizes if size]
    mean = sum(readable) / len(readable) if readable else 0.0
    return Estimate(
        items=count,
        nbytes=nbytes,
        nbytes_sent=math.ceil(mean * count * sum(calls)),
        unreadable=sizes.count(0),
        sample=len(sample),
        input_tokens=count * sum(each * _input_tokens(arguments) for each in calls),
        output_tokens=count * sum(n * _output_tokens(skill, arguments) for n, skill in zip(calls, skills, strict=True)),
    )


def calls_of(skill: str, arguments: Mapping[str, Any]) -> int:
    """How many calls a skill makes for one image."""
    wanted = arguments.get("object")
    return len(wanted) if isinstance(wanted, list) and skill in ("detect", "point") else 1  # pyright: ignore[reportUnknownArgumentType]


def _size_sent(item: Any) -> int:
    """Bytes of an item's image in a request; 0 if it cannot be read."""
    try:
        return len(encode(inputs.image_of(item)).uri)
    except ImageError:
        return 0


def _input_tokens(arguments: Mapping[str, Any]) -> int:
    text = str(arguments.get("question") or arguments.get("object") or "")
    return _IMAGE_TOKENS + math.ceil(len(text) / _CHARACTERS_A_TOKEN)


def _output_tokens(skill: str, arguments: Mapping[str, Any]) -> int:
    typical = _CAPTION_TOKENS[arguments.get("length", "normal")] if skill == "caption" else _OUTPUT_TOKENS[skill]
    settings: Mapping[str, Any] = arguments.get("settings") or {}
    return min(typical, int(settings.get("max_tokens", typical)))
