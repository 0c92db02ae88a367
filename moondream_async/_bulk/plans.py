"""Plan a call: how many requests it makes for an image, and what they cost."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from .._api import ApiClient
from ..errors import ConfigurationError
from ..prices import Prices
from ..tiles import Plan, Tiles
from .estimates import count_calls, usage
from .skill_runner import SkillRunner


async def make_plan(
    api: ApiClient, skill: str, image: Any, arguments: Mapping[str, Any], prices: Prices | None
) -> Plan:
    """Return the plan of a skill's call for an image.

    Args:
        api: Reads the image.
        skill: The skill's name.
        image: Any image that the skills accept; needed only for tiles.
        arguments: The skill's arguments.
        prices: Token prices; None if not known.

    Raises:
        ConfigurationError: The skill or an argument is not valid.
        ImageError: The image cannot be read.
    """
    if not isinstance(skill, str):
        raise ConfigurationError(f"skill must be the name of one skill, not {skill!r}.")
    (known,) = SkillRunner(api, skill, arguments).calls.values()
    columns = rows = 1
    if known.get("tiles") is not None:
        columns, rows = await api.tile_grid(image, Tiles.of(known["tiles"]))
        known = with_grid(known, columns, rows)
    tokens = usage({skill: known})
    return Plan(
        calls=count_calls(skill, known),
        columns=columns,
        rows=rows,
        input_tokens=tokens.input_tokens or 0,
        output_tokens=tokens.output_tokens or 0,
        cost=None if prices is None else prices.cost(tokens),
    )


def with_grid(arguments: Mapping[str, Any], columns: int, rows: int) -> dict[str, Any]:
    """Return the arguments with the tiles of one image."""
    return {**arguments, "tiles": attrs.evolve(Tiles.of(arguments["tiles"]), columns=columns, rows=rows)}
