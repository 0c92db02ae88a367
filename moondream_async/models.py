"""What each known model can do, with its source."""

from __future__ import annotations

from types import MappingProxyType

import attrs

from .errors import ConfigurationError

_OWN_PREFIX = "moondream/"  # of names in the chat API


@attrs.frozen(kw_only=True)
class ModelCapabilities:
    """What a model can do.

    Attributes:
        skills: The skills that it has.
        streams: Those of them that can stream.
        reasoning: Whether `query` can reason.
        lengths: The lengths of captions.
        default_max_objects: How many objects `detect` and `point` return without `max_objects`. It is that of the
            current engine; older servers allow 150.
        greatest_max_objects: The greatest `max_objects`; None if none is published.
        source: Where this is published; informational.
    """

    skills: tuple[str, ...]
    streams: tuple[str, ...]
    reasoning: bool
    lengths: tuple[str, ...]
    source: str
    default_max_objects: int | None = 50
    greatest_max_objects: int | None = None


_LENGTHS = ("short", "normal", "long")

MODELS = MappingProxyType(
    {
        "moondream3.1-9B-A2B": ModelCapabilities(
            skills=("query", "caption", "detect", "point"),
            streams=("query", "caption"),
            reasoning=True,
            lengths=_LENGTHS,
            source="https://huggingface.co/moondream/moondream3.1-9B-A2B",
        ),
        "moondream3-preview": ModelCapabilities(
            skills=("query", "caption", "detect", "point", "segment"),
            streams=("query", "caption", "segment"),
            reasoning=True,
            lengths=_LENGTHS,
            source="https://huggingface.co/moondream/moondream3-preview",
        ),
    }
)
"""The capabilities of Moondream Cloud's models by name. Their prices are `prices.MODEL_PRICES`."""


def capabilities_of(model: str | None) -> ModelCapabilities | None:
    """Return what a model can do; a finetune can do what its base can.

    Args:
        model: Its name, such as `"moondream3-preview"` or `"moondream3-preview/my-finetune@100"`.

    Returns:
        Its capabilities; None if they are not known, also for the server's default model (None).
    """
    name = (model or "").removeprefix(_OWN_PREFIX)
    return MODELS.get(name) or MODELS.get(name.partition("/")[0])


def check_skill(skill: str, model: str | None) -> None:
    """Check that a model has a skill. Unknown models pass.

    Raises:
        ConfigurationError: It does not; the message names a model that does.
    """
    capabilities = capabilities_of(model)
    if capabilities is not None and skill not in capabilities.skills:
        able = [name for name, each in MODELS.items() if skill in each.skills]
        raise ConfigurationError(f"{model} cannot {skill}; {' and '.join(able)} can.")
