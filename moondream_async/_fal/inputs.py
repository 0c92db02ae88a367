"""The arguments of fal.ai's Moondream endpoints: checked, in fal's words (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from .._wire import requests
from .._wire.requests import AnyRef
from ..config import SamplingSettings
from ..errors import ConfigurationError

Object = dict[str, Any]

BATCHED_MODELS = ("vikhyatk/moondream2", "fal-ai/moondream2-docci")


def query(question: str | None, settings: SamplingSettings | None, reasoning: bool | None) -> Object:
    """For `moondream3-preview/query`."""
    fields: Object = {"prompt": requests.text("question", question)}
    if reasoning is not None:
        fields["reasoning"] = requests.flag("reasoning", reasoning)
    return fields | _sampling("query", settings, "temperature", "top_p")


def caption(length: str, settings: SamplingSettings | None) -> Object:
    """For `moondream3-preview/caption`."""
    return {"length": requests.length_of(length), **_sampling("caption", settings, "temperature", "top_p")}


def find(skill: str, object: object, settings: SamplingSettings | None) -> Object:
    """For `moondream3-preview/detect` and `/point`."""
    return {"prompt": requests.text("object", object), **_sampling(skill, settings)}


def segment(object: object, spatial_refs: Sequence[AnyRef] | None, settings: SamplingSettings | None) -> Object:
    """For `moondream3-preview/segment`."""
    fields: Object = {"object": requests.text("object", object)}
    if spatial_refs is not None:
        fields["spatial_references"] = requests.refs(spatial_refs)
    chosen = _sampling("segment", settings, "temperature", "top_p", "max_tokens")
    return fields | ({"settings": chosen} if chosen else {})


def batched(
    prompts: Iterable[str | None],
    *,
    model_id: str | None,
    max_tokens: int,
    temperature: float,
    top_p: float,
    repetition_penalty: float,
) -> Object:
    """For `moondream/batched`, but the images, which go into each of `inputs`."""
    if model_id is not None and model_id not in BATCHED_MODELS:
        raise ConfigurationError(f"model_id must be one of {', '.join(BATCHED_MODELS)}, not {model_id!r}.")
    settings = {"max_tokens": max_tokens, "temperature": temperature, "top_p": top_p}
    penalty = requests.real(repetition_penalty)
    if penalty is None or penalty <= 0:
        raise ConfigurationError(f"repetition_penalty must be a number above 0, not {repetition_penalty!r}.")
    inputs = [{} if prompt is None else {"prompt": requests.text("prompt", prompt)} for prompt in prompts]
    if not inputs:
        raise ConfigurationError("inputs must hold at least one image.")
    fields: Object = {"inputs": inputs, **requests.sampling(settings), "repetition_penalty": penalty}
    return fields if model_id is None else {"model_id": model_id, **fields}


def read_input(number: int, value: Any) -> tuple[Any, str | None]:
    """The image and the prompt of one of `batched`'s inputs: an image, `(image, prompt)`, or fal's own object.

    Raises:
        ConfigurationError: It is none of these.
    """
    if isinstance(value, Mapping):
        fields = dict(cast("Mapping[str, Any]", value))
        image, prompt = fields.pop("image_url", None), fields.pop("prompt", None)
        if image is None or fields:
            raise ConfigurationError(f"Input {number} must have an 'image_url', and may have a 'prompt'; no more.")
        return image, prompt
    if isinstance(value, tuple):
        pair = cast("tuple[Any, ...]", value)
        if len(pair) != 2:
            raise ConfigurationError(f"Input {number} must be an image or (image, prompt), not a tuple of {len(pair)}.")
        return pair[0], pair[1]
    return value, None


def _sampling(skill: str, settings: SamplingSettings | None, *known: str) -> Object:
    checked = requests.sampling(settings) if settings is not None else {}
    for name in checked:
        if name not in known:
            what = f"only {' and '.join(known)}" if known else "no settings"
            raise ConfigurationError(f"fal.ai's {skill} takes {what}, not {name!r}.")
    return checked


def refuse(skill: str, **given: Any) -> None:
    """Say that fal.ai has no such parameter, where one is used.

    Raises:
        ConfigurationError: One is.
    """
    for name, value in given.items():
        if value is not None and value is not False:
            raise ConfigurationError(f"fal.ai's {skill} knows no {name}.")
