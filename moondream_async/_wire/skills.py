"""The five skills: parameters, request bodies, parsers, and what the Batch, tuning and fal APIs take of them.

Everything that depends on which skill it is reads these declarations (reference: moondream-api.md 1.2).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

import attrs

from ..config import check_model
from ..errors import ConfigurationError
from ..models import check_skill
from ..tiles import Tiles
from ..types import CaptionResult, DetectResult, Meta, PointResult, QueryResult, Result, SegmentResult
from . import checks, responses
from .events import SegmentReducer, TextReducer

R = TypeVar("R", bound=Result)
Object = dict[str, Any]

CHECKS: dict[str, Callable[[Any], Any]] = {
    "question": lambda value: checks.text("question", value),
    "object": lambda value: checks.text("object", value),
    "length": checks.caption_length,
    "settings": checks.settings,
    "reasoning": lambda value: checks.flag("reasoning", value),
    "spatial_refs": checks.spatial_refs,
    "stream": lambda value: checks.flag("stream", value),
    "extra_body": checks.extra_body,
    "tiles": lambda value: Tiles.of(value).to_dict(),
}
"""The check of each parameter: returns the value as JSON has it, or raises `ConfigurationError`."""


_ENCODER = json.JSONEncoder(allow_nan=False)

OPTIONAL = frozenset(("settings", "reasoning", "spatial_refs", "extra_body", "tiles"))
"""Parameters that are not sent if they are None."""


@attrs.frozen(eq=False, kw_only=True)
class Skill(Generic[R]):
    """A skill.

    Attributes:
        name: Its name, and its path below the base URL.
        parameters: Names of its parameters, except for the image and `stream`.
        required: The parameter that must be given, besides the image.
        defaults: Arguments of calls that omit them.
        field: The field of the response that holds its result.
        parse: Builds the result from the decoded response.
        reducer: Makes the reducer of its event stream from the image's size; None if it does not stream.
        needs_image: Whether it always needs an image.
        takes_labels: Whether `object` may be a list of labels, and the image may be cut into tiles.
        full_resolution: Whether its image is sent with more pixels.
        batch: The parameters that the Batch API takes; None if it does not support the skill.
        tuning: The parameters that the tuning API takes; None if the skill cannot be finetuned.
        fal_settings: The settings that fal.ai takes.
    """

    name: str
    parameters: tuple[str, ...]
    required: str | None
    field: str
    parse: Callable[[Any, Meta], R]
    defaults: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    reducer: Callable[[tuple[int, int] | None], Any] | None = None
    needs_image: bool = True
    takes_labels: bool = False
    full_resolution: bool = False
    batch: tuple[str, ...] | None = None
    tuning: tuple[str, ...] | None = None
    fal_settings: tuple[str, ...] = ()

    def check(self, arguments: Mapping[str, Any], *, complete: bool = True) -> Object:
        """Return the arguments as JSON has them, without the optional ones that are None.

        Args:
            arguments: Values by parameter; `stream` is allowed, too.
            complete: Whether the required one must be there.

        Raises:
            ConfigurationError: An argument is invalid or missing.
        """
        if complete and self.required is not None:
            arguments = {self.required: None, **arguments}
        omitted = OPTIONAL if complete else {*OPTIONAL, self.required}
        return {
            name: CHECKS[name](value) for name, value in arguments.items() if value is not None or name not in omitted
        }

    def body(self, arguments: Mapping[str, Any], *, model: str | None, has_image: bool) -> bytes:
        """Return the request body as JSON, without its image; `with_image` adds it.

        Args:
            arguments: Values by parameter; `stream` is allowed, too.
            model: The model; None for the server's default.
            has_image: Whether an image will be added.

        Raises:
            ConfigurationError: An argument is invalid or missing.
        """
        fields = self.check(arguments)
        extra = fields.pop("extra_body", {})
        fields.pop("tiles", None)  # not on the wire
        if "spatial_refs" in fields and not has_image:
            raise ConfigurationError("spatial_refs point into an image, and no image was given.")
        if (name := check_model(model)) is not None:
            check_skill(self.name, name)
            fields["model"] = name
        return to_json({**fields, **extra} if extra else fields)


def to_json(fields: Object) -> bytes:
    """Encode checked fields as JSON.

    Raises:
        ConfigurationError: The settings cannot be encoded.
    """
    try:
        return _ENCODER.encode(fields).encode("ascii")
    except (TypeError, ValueError, RecursionError) as exc:
        raise ConfigurationError(f"settings must hold plain JSON values: {exc}") from None


def with_image(body: bytes, image: bytes) -> bytes:
    """Return a body with an image added.

    Args:
        body: A JSON object that is not empty.
        image: The image as a data URI.
    """
    # The base64 alphabet needs no JSON escaping, so the image's bytes are joined in once, as they are.
    return b"".join((b'{"image_url":"', image, b'",', body[1:]))


QUERY = Skill[QueryResult](
    name="query",
    parameters=("question", "settings", "reasoning", "spatial_refs", "extra_body"),
    required="question",
    field="answer",
    parse=responses.query,
    reducer=lambda size: TextReducer("answer", responses.query, size),
    needs_image=False,
    batch=("question", "reasoning", "settings"),
    tuning=("question", "settings", "reasoning", "spatial_refs"),
    fal_settings=("temperature", "top_p"),
)
CAPTION = Skill[CaptionResult](
    name="caption",
    parameters=("length", "settings", "extra_body"),
    required=None,
    defaults={"length": "normal"},
    field="caption",
    parse=responses.caption,
    reducer=lambda size: TextReducer("caption", responses.caption, size),
    batch=("length", "settings"),
    fal_settings=("temperature", "top_p"),
)
DETECT = Skill[DetectResult](
    name="detect",
    parameters=("object", "settings", "extra_body", "tiles"),
    required="object",
    field="objects",
    parse=responses.detect,
    takes_labels=True,
    batch=("object",),
    tuning=("object", "settings"),
)
POINT = Skill[PointResult](
    name="point",
    parameters=("object", "settings", "spatial_refs", "extra_body", "tiles"),
    required="object",
    field="points",
    parse=responses.point,
    takes_labels=True,
    batch=("object",),
    tuning=("object", "settings"),
)
SEGMENT = Skill[SegmentResult](
    name="segment",
    parameters=("object", "spatial_refs", "settings", "extra_body"),
    required="object",
    field="path",
    parse=responses.segment,
    reducer=SegmentReducer,
    full_resolution=True,
    fal_settings=("temperature", "top_p", "max_tokens"),
)

SKILLS: dict[str, Skill[Any]] = {skill.name: skill for skill in (QUERY, CAPTION, DETECT, POINT, SEGMENT)}
"""All skills, by name."""
