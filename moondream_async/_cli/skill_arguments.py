"""The arguments of skills on the command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import click

from .._batches.wire import BATCH_SKILLS
from .._wire.skills import SKILLS
from ..errors import ConfigurationError
from .arguments import Arguments
from .inputs import Inputs

_SETTINGS = ("temperature", "top_p", "max_tokens", "max_objects")


def settings_of(arguments: Arguments) -> dict[str, Any] | None:
    """Return the settings of the model; None if there are none."""
    return {name: getattr(arguments, name) for name in _SETTINGS if getattr(arguments, name) is not None} or None


def skill_arguments(arguments: Arguments) -> dict[str, Any]:
    """Collect the skill arguments that are options."""
    objects: list[str] = arguments.object
    options: dict[str, Any] = {
        "question": arguments.question,
        "object": objects[0] if len(objects) == 1 else objects or None,
        "length": arguments.length,
        "reasoning": arguments.reasoning,
        "settings": settings_of(arguments),
        "tiles": getattr(arguments, "tiles", None),
    }
    return {name: value for name, value in options.items() if value is not None}


def check_required(skills: Sequence[str], options: Mapping[str, Any], inputs: Inputs) -> None:
    """Raise `ConfigurationError` if a skill's required argument is neither an option nor can come with the inputs."""
    for skill in skills:
        required = SKILLS[skill].required
        if required and required not in options and not inputs.may_bring_arguments:
            raise ConfigurationError(f"{skill} requires --{required}.")


def move_skill(arguments: Arguments) -> None:
    """Without `--skill`, take the first of the inputs as the skill: `run detect photos`."""
    if arguments.skill:
        return
    name: str
    name, *rest = arguments.inputs
    context = click.get_current_context()
    if name not in SKILLS:
        near = get_close_matches(name, list(SKILLS))
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise click.UsageError(f"{name!r} is not a skill: choose one of {', '.join(SKILLS)}.{hint}", context)
    if not rest:
        raise click.UsageError("Missing argument 'INPUT...'.", context)
    arguments.skill, arguments.inputs = [name], rest


def move_batch_skill(arguments: Arguments) -> None:
    """Take the first of the inputs as the skill if it is one: `batch submit detect photos`."""
    name: str
    name, *rest = arguments.inputs
    if arguments.skill or name not in SKILLS:
        return
    context = click.get_current_context()
    if name not in BATCH_SKILLS:
        raise click.UsageError(
            f"Batches cannot {name}: choose one of {', '.join(BATCH_SKILLS)}, or use `run {name}`.", context
        )
    if not rest:
        raise click.UsageError("Missing argument 'INPUT...'.", context)
    arguments.skill, arguments.inputs = name, rest
