"""Check the arguments of fal.ai's Moondream endpoints and give them fal's names (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, cast

from .._wire import checks
from .._wire.skills import SEGMENT, Skill
from ..errors import ConfigurationError

Object = dict[str, Any]

_NAMES = {"question": "prompt", "object": "prompt"}
_SEGMENT_NAMES = {"spatial_refs": "spatial_references"}
"""fal's names for the parameters of the skills."""

BATCHED_MODELS = ("vikhyatk/moondream2", "fal-ai/moondream2-docci")


def skill_arguments(skill: Skill[Any], arguments: Mapping[str, Any]) -> Object:
    """Return the arguments of `moondream3-preview/{skill}`, without the image.

    Args:
        skill: The skill.
        arguments: Values by the skill's parameters.

    Raises:
        ConfigurationError: An argument is invalid or missing, or fal.ai does not support it.
    """
    fields = skill.check(arguments)
    settings: Object = fields.pop("settings", {})
    for name in settings:
        if name not in skill.fal_settings:
            allowed = f"only {' and '.join(skill.fal_settings)}" if skill.fal_settings else "no settings"
            raise ConfigurationError(f"fal.ai's {skill.name} takes {allowed}, not {name!r}.")
    names = _SEGMENT_NAMES if skill is SEGMENT else _NAMES
    renamed = {names.get(name, name): value for name, value in fields.items()}
    if skill is SEGMENT:
        return renamed | ({"settings": settings} if settings else {})
    return renamed | settings


def batched(prompts: Iterable[str | None], model_id: str | None, settings: Object, repetition_penalty: float) -> Object:
    """Return the arguments of `moondream/batched`; the caller adds an image to each of `inputs`."""
    if model_id is not None and model_id not in BATCHED_MODELS:
        raise ConfigurationError(f"model_id must be one of {', '.join(BATCHED_MODELS)}, not {model_id!r}.")
    penalty = checks.real(repetition_penalty)
    if penalty is None or penalty <= 0:
        raise ConfigurationError(f"repetition_penalty must be a number above 0, not {repetition_penalty!r}.")
    inputs = [{} if prompt is None else {"prompt": checks.text("prompt", prompt)} for prompt in prompts]
    if not inputs:
        raise ConfigurationError("inputs must have at least one image.")
    fields: Object = {"inputs": inputs, **checks.settings(settings), "repetition_penalty": penalty}
    return fields if model_id is None else {"model_id": model_id, **fields}


def read_input(number: int, value: Any) -> tuple[Any, str | None]:
    """Return image and prompt of an input of `batched`: an image, `(image, prompt)`, or fal's own object.

    Raises:
        ConfigurationError: The input has another form.
    """
    if checks.is_mapping(value):
        fields = dict(value)
        image, prompt = fields.pop("image_url", None), fields.pop("prompt", None)
        if image is None or fields:
            raise ConfigurationError(f"Input {number} must have an 'image_url' and at most a 'prompt' besides.")
        return image, prompt
    if not isinstance(value, tuple):
        return value, None
    pair = cast("tuple[Any, ...]", value)
    if len(pair) != 2:
        raise ConfigurationError(f"Input {number} must be an image or (image, prompt), not a tuple of {len(pair)}.")
    return pair[0], pair[1]


def reject(skill: str, **arguments: Any) -> None:
    """Raise if a parameter that fal.ai does not have is used.

    Raises:
        ConfigurationError: An argument is not None or False.
    """
    for name, value in arguments.items():
        if value is not None and value is not False:
            raise ConfigurationError(f"fal.ai's {skill} has no {name}.")
