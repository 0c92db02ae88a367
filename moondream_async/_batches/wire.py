"""Build and parse the Batch API's lines and responses (pure)."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import attrs

from .._wire import responses
from .._wire.responses import Object, each_of, object_of, optional_text, text_of
from .._wire.skills import SKILLS, to_json
from ..errors import ConfigurationError
from .models import Batch, BatchOutput, BatchProgress, BatchUsage

MAX_BATCH_SIZE = 2_000_000_000
"""Maximum size of a batch's file, in bytes."""

MAX_LINE_SIZE = 10_000_000
"""Maximum size of one line in bytes, including its newline."""

MAX_LINES = 100_000
"""Maximum number of lines in a batch."""

BATCH_SKILLS = {name: skill for name, skill in SKILLS.items() if skill.batch is not None}
"""The skills that the Batch API supports, by name."""

_BASE64 = re.compile(r"[A-Za-z0-9+/]+={0,2}")
_BATCH_FIELDS = frozenset(field.name for field in attrs.fields(Batch)) - {"extra"}


def check_skill(skill: object) -> str:
    """Return the name of the skill.

    Raises:
        ConfigurationError: The Batch API does not support the skill.
    """
    if not isinstance(skill, str) or skill not in BATCH_SKILLS:
        raise ConfigurationError(f"{skill!r} is not a skill of the Batch API; use one of {', '.join(BATCH_SKILLS)}.")
    return skill


def arguments(skill: str, values: Mapping[str, Any], *, complete: bool = True) -> Object:
    """Validate a skill's arguments, and return them as fields of a line.

    Args:
        skill: The skill.
        values: The skill's arguments.
        complete: Whether required arguments must be present.

    Raises:
        ConfigurationError: An argument is unknown, missing or invalid.
    """
    for name in values:
        if name not in parameters(skill):
            raise ConfigurationError(f"{skill} in a batch takes no {name}=.")
    if complete and (required := missing(skill, values)) is not None:
        raise ConfigurationError(f"{skill} needs {required}=...")
    given = {name: value for name, value in values.items() if value is not None}
    return SKILLS[skill].check(given, complete=False)


def parameters(skill: str) -> tuple[str, ...]:
    """Return the parameters that the Batch API takes, except for the image."""
    return SKILLS[skill].batch or ()


def missing(skill: str, values: Mapping[str, Any]) -> str | None:
    """Return the name of the required argument if it is missing."""
    required = SKILLS[skill].required
    return required if required is not None and values.get(required) is None else None


def line(skill: str, fields: Object, images: Sequence[bytes], id: str | float) -> bytes:
    """Build a line, including its newline.

    Args:
        skill: The skill.
        fields: The validated arguments.
        images: Each image, in base64.
        id: The id that the result will have.

    Raises:
        ConfigurationError: The line is too long, or `fields` are not valid JSON.
    """
    head = to_json({"id": id, "skill": skill, **fields})
    # The base64 alphabet needs no JSON escaping.
    shown = b'"image":"%s"' % images[0] if len(images) == 1 else b'"images":["%s"]' % b'","'.join(images)
    whole = b"".join((head[:-1], b",", shown, b"}\n"))
    if len(whole) > MAX_LINE_SIZE:
        raise ConfigurationError(f"The item's line has {len(whole):,} bytes; the limit is {MAX_LINE_SIZE:,}.")
    return whole


def check_line(text: bytes) -> Object:
    """Validate a line of a ready file; return its `id`, `skill` and `arguments`, without the image.

    Raises:
        ConfigurationError: The service would reject the line; the text says why.
    """
    data = _json_of(text)
    skill = check_skill(data.get("skill"))
    if "image_url" in data:
        raise ConfigurationError("has 'image_url'; use 'image' with bare base64.")
    if "image" in data and "images" in data:
        raise ConfigurationError("has both 'image' and 'images'.")
    shown = data.get("images") if skill == "query" and "image" not in data else [data.get("image")]
    if not responses.is_list(shown) or not shown:
        raise ConfigurationError("has no 'image' (nor 'images').")
    for image in shown:
        _check_image(image)
    given = {name: data[name] for name in parameters(skill) if name in data}
    return {"id": data.get("id"), "skill": skill, "arguments": arguments(skill, given)}


def _json_of(text: bytes) -> Object:
    if not text.strip():
        raise ConfigurationError("is blank.")
    if len(text) > MAX_LINE_SIZE:
        raise ConfigurationError(f"has {len(text):,} bytes; the limit is {MAX_LINE_SIZE:,}.")
    try:
        data = json.loads(text.decode("utf-8"), parse_constant=responses.reject_number, parse_float=responses.finite)
    except UnicodeDecodeError:
        raise ConfigurationError("is not UTF-8.") from None
    except (ValueError, RecursionError) as exc:
        raise ConfigurationError(f"is not JSON: {exc}.") from None
    if not responses.is_object(data):
        raise ConfigurationError("is not a JSON object.")
    return data


def _check_image(image: object) -> None:
    if not isinstance(image, str) or not image:
        raise ConfigurationError("has no 'image', or one that is not a string.")
    if image[:5].lower() == "data:":
        raise ConfigurationError("has a data: URI as its image; use bare base64.")
    if len(image) % 4 or _BASE64.fullmatch(image) is None:
        raise ConfigurationError("has an image that is not base64.")


def batch(data: Any, _: object = None) -> Batch:
    """Parse a batch."""
    fields = object_of(data)
    rest = {name: value for name, value in fields.items() if name not in _BATCH_FIELDS}
    progress, usage, outputs = (fields.get(name) for name in ("progress", "usage", "outputs"))
    size = fields.get("size")
    return Batch(
        id=text_of(fields, "id"),
        status=text_of(fields, "status").lower(),
        progress=BatchProgress(**_counts(progress, BatchProgress)) if isinstance(progress, dict) else None,
        usage=BatchUsage(**_counts(usage, BatchUsage)) if isinstance(usage, dict) else None,
        outputs=None if outputs is None else each_of(fields, "outputs", _output),
        error=fields.get("error"),
        size=size if isinstance(size, int) else None,
        extra=rest,
        **{name: optional_text(fields, name) for name in ("model", "created_at", "completed_at", "expires_at")},
    )


def completed(data: Any, _: object = None) -> Batch:
    """Parse the response to `mpu-complete`; only its id matters."""
    fields = object_of(data)
    return batch({"status": "chunking", **fields})


def upload(data: Any, _: object = None) -> tuple[str, str]:
    """Parse the response to `mpu-create`; return the file id and the upload id."""
    fields = object_of(data)
    return text_of(fields, "fileId"), text_of(fields, "uploadId")


def etag(data: Any, _: object = None) -> str:
    """Parse the response to `mpu-uploadpart`; return the etag."""
    return text_of(object_of(data), "etag")


def _output(data: Any) -> BatchOutput:
    fields = object_of(data)
    index = fields.get("index")
    return BatchOutput(index=index if isinstance(index, int) else 0, url=text_of(fields, "url"))


def _counts(data: Any, kind: Any) -> dict[str, int]:
    fields = object_of(data)
    counts = {field.name: fields.get(field.name) for field in attrs.fields(kind)}
    return {
        name: int(count) for name, count in counts.items() if isinstance(count, (int, float)) and math.isfinite(count)
    }
