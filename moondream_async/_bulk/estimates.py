"""Estimate the tokens of calls before they are made (pure)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

from .._wire.skills import SKILLS
from ..tiles import Tiles
from ..types import Metrics

_IMAGE_TOKENS = 730  # of any image: 729, and the token that begins the prompt
_CHARACTERS_PER_TOKEN = 4  # of English text
_CAPTION_TOKENS = {"short": 40, "normal": 120, "long": 250}
_OUTPUT_TOKENS = {"query": 60, "detect": 10, "point": 7, "segment": 150}
"""Tokens of a typical answer; a box takes three, a point two. Rough guesses, replaced by real counts during a run."""
_TYPICAL_TILES = 20  # of a 12 MP photo
_MAX_TOKENS = 768  # of an answer; the server's default


def usage(calls: Mapping[str, Mapping[str, Any]], *, longest: bool = False) -> Metrics:
    """Return the estimated tokens of the calls for one item.

    Args:
        calls: The arguments of each skill, by skill.
        longest: Estimate the longest possible answers, not typical ones.
    """
    output = _longest_output if longest else _typical_output
    counts = {skill: count_calls(skill, arguments, longest=longest) for skill, arguments in calls.items()}
    return Metrics(
        input_tokens=sum(counts[skill] * _input_tokens(arguments) for skill, arguments in calls.items()),
        output_tokens=sum(counts[skill] * output(skill, arguments) for skill, arguments in calls.items()),
    )


def count_calls(skill: str, arguments: Mapping[str, Any], *, longest: bool = False) -> int:
    """Return the number of calls that a skill makes for one image: one per label and tile.

    Args:
        skill: Its name.
        arguments: Its arguments.
        longest: Count the most tiles that there can be, not those of a typical image.
    """
    labels = arguments.get("object")
    is_several = isinstance(labels, (list, tuple)) and SKILLS[skill].takes_labels
    return (len(cast("list[Any]", labels)) if is_several else 1) * _count_images(
        arguments.get("tiles"), longest=longest
    )


def _count_images(tiles: Any, *, longest: bool) -> int:
    """Return the number of tiles of an image, and of whole images, that are sent."""
    if tiles is None:
        return 1
    options = Tiles.of(tiles)
    count = options.max_tiles if longest else (options.columns or 1) * (options.rows or 1)
    if options.columns is None and not longest:
        count = min(_TYPICAL_TILES, options.max_tiles)
    return count + int(options.whole and count > 1)


def _input_tokens(arguments: Mapping[str, Any]) -> int:
    text = str(arguments.get("question") or arguments.get("object") or "")
    return _IMAGE_TOKENS + math.ceil(len(text) / _CHARACTERS_PER_TOKEN)


def _typical_output(skill: str, arguments: Mapping[str, Any]) -> int:
    length = str(arguments.get("length", "normal"))
    typical = _CAPTION_TOKENS.get(length, _MAX_TOKENS) if skill == "caption" else _OUTPUT_TOKENS[skill]
    return min(typical, _longest_output(skill, arguments))


def _longest_output(skill: str, arguments: Mapping[str, Any]) -> int:
    settings: Mapping[str, Any] = arguments.get("settings") or {}
    return int(settings.get("max_tokens", _MAX_TOKENS))
