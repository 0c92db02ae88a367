"""Check the arguments of skills (reference: moondream-api.md 1.2)."""

from __future__ import annotations

import difflib
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, SupportsFloat, TypeGuard, cast, get_args

from .._scalars import to_python
from ..config import Length, SamplingSettings, SpatialRef
from ..errors import ConfigurationError
from ..types import BoundingBox, Point

_SETTINGS = (*SamplingSettings.__annotations__, "adapter")
_PATH = re.compile(r"[A-Za-z0-9._~-]+(?:/[A-Za-z0-9._~-]+)*")
_OWN_FIELDS = frozenset(
    ("image_url", "question", "object", "length", "stream", "settings", "reasoning", "spatial_refs", "model")
)
_MISSPELLED = 0.85  # similarity to a known setting from which a name is a mistake: "max_token" is, "top_k" is not

AnyRef = SpatialRef | BoundingBox | Point


def is_mapping(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Return whether a value is a mapping, such as a dict or a result."""
    return isinstance(value, Mapping)


def is_sequence(value: object) -> TypeGuard[Sequence[Any]]:
    """Return whether a value is a list or a tuple."""
    return isinstance(value, (list, tuple))


def text(name: str, value: object) -> str:
    """Return a string that is not empty.

    Raises:
        ConfigurationError: It is something else.
    """
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} must be a str, not {type(value).__name__}.")
    if not value.strip():
        raise ConfigurationError(f"{name} must not be empty.")
    return value


def caption_length(value: object) -> str:
    """Return the length of a caption.

    Raises:
        ConfigurationError: It is not a length.
    """
    if value not in get_args(Length):
        raise ConfigurationError(f"length must be 'short', 'normal' or 'long', not {value!r}.")
    return cast("str", value)


def flag(name: str, value: object) -> bool:
    """Return True or False.

    Raises:
        ConfigurationError: It is something else.
    """
    # Servers reject 0 and 1, and read "false" as true: only real booleans are sent.
    value = to_python(value)
    if not isinstance(value, bool):
        raise ConfigurationError(f"{name} must be True or False, not {value!r}.")
    return value


def settings(values: object) -> dict[str, Any]:
    """Return `settings` with their values checked; unknown settings are kept.

    Raises:
        ConfigurationError: They are not a dict, a name is misspelled, or a value is out of range.
    """
    if not isinstance(values, Mapping):
        raise ConfigurationError(f"settings must be a dict, not {type(values).__name__}.")
    checked: dict[str, Any] = {}
    for name, value in cast("Mapping[object, object]", values).items():
        if not isinstance(name, str):
            raise ConfigurationError(f"settings keys must be str, not {name!r}.")
        _reject_misspelled(name)
        if name in ("max_tokens", "max_objects"):
            checked[name] = _whole(name, value)
        elif name == "temperature":
            checked[name] = _number(name, value, low=0, high=math.inf)
        elif name == "top_p":
            checked[name] = _number(name, value, low=0, high=1)
            if checked[name] == 0:
                raise ConfigurationError("settings['top_p'] must be above 0.")
        else:
            checked[name] = to_python(value)
    return checked


def _reject_misspelled(name: str) -> None:
    """Reject a name that is almost a known one; the server may know any other."""
    if name in _SETTINGS:
        return
    plain = {re.sub(r"[^a-z]", "", known): known for known in _SETTINGS}
    close = difflib.get_close_matches(re.sub(r"[^a-z]", "", name.lower()), plain, n=1, cutoff=_MISSPELLED)
    if close:
        raise ConfigurationError(f"Unknown setting {name!r}. Did you mean {plain[close[0]]!r}?")


def _whole(name: str, value: object) -> int:
    value = to_python(value)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigurationError(f"settings[{name!r}] must be a whole number of at least 1, not {value!r}.")
    return value


def _number(name: str, value: object, *, low: float, high: float) -> float:
    number = real(value)
    if number is None or not low <= number <= high:
        limits = f"from {low} to {high}" if high < math.inf else f"of at least {low}"
        raise ConfigurationError(f"settings[{name!r}] must be a number {limits}, not {value!r}.")
    return number


def extra_body(value: object) -> dict[str, Any]:
    """Return more fields for a request's body, as a dict.

    Raises:
        ConfigurationError: It is not a mapping, or has a field with a parameter of its own.
    """
    if not is_mapping(value):
        raise ConfigurationError(f"extra_body must be a dict of fields, not {type(value).__name__}.")
    for name in value:
        if not isinstance(name, str):
            raise ConfigurationError(f"extra_body must have str keys, not {name!r}.")
        if name == "model":
            raise ConfigurationError("extra_body must not have 'model': use client.with_options(model=...).")
        if name in _OWN_FIELDS:
            raise ConfigurationError(f"extra_body must not have {name!r}, which has a parameter of its own.")
    json_bytes(dict(value), "extra_body must hold plain JSON values")
    return dict(value)


def check_path(path: object) -> str:
    """Return a path below the base URL, without a slash at its beginning.

    Raises:
        ConfigurationError: It is not a plain relative path.
    """
    text = path.removeprefix("/") if isinstance(path, str) else ""
    if not _PATH.fullmatch(text) or any(part in (".", "..") for part in text.split("/")):
        raise ConfigurationError(f"path must be one below the base URL, such as 'caption', not {path!r}.")
    return text


def json_bytes(value: object, rule: str) -> bytes:
    """Encode a value as JSON.

    Raises:
        ConfigurationError: JSON cannot hold it; the message begins with the rule.
    """
    try:
        return json.dumps(value, allow_nan=False).encode()
    except (TypeError, ValueError, RecursionError) as exc:
        raise ConfigurationError(f"{rule}: {exc}.") from None


def real(value: object) -> float | None:
    """Return a value as a finite float (NumPy scalars too), or None if it is not a number. Booleans are not numbers."""
    value = to_python(value)
    if not isinstance(value, Real) or isinstance(value, bool):
        return None
    try:
        number = float(cast("SupportsFloat", value))
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def spatial_refs(refs: object) -> list[list[float]]:
    """Return `spatial_refs` as lists of 2 or 4 numbers.

    Raises:
        ConfigurationError: One is not a point or a box in 0..1.
    """
    if isinstance(refs, (str, bytes, Mapping, BoundingBox, Point)) or not isinstance(refs, Iterable):
        raise ConfigurationError("spatial_refs must be a list of points [x, y] and boxes [x1, y1, x2, y2].")
    try:
        listed = list(cast("Iterable[object]", refs))
    except Exception as exc:
        raise ConfigurationError(f"spatial_refs cannot be read: {str(exc) or type(exc).__name__}.") from None
    return [_ref(index, ref) for index, ref in enumerate(listed)]


def _ref(index: int, ref: object) -> list[float]:
    if isinstance(ref, BoundingBox):
        values: list[object] = [ref.x_min, ref.y_min, ref.x_max, ref.y_max]
    elif isinstance(ref, Point):
        values = [ref.x, ref.y]
    elif isinstance(ref, Iterable) and not isinstance(ref, (str, bytes, Mapping)):
        values = list(cast("Iterable[object]", ref))
    else:
        values = []
    if len(values) not in (2, 4):
        raise ConfigurationError(f"spatial_refs[{index}] must hold 2 (point) or 4 (box) values, not {ref!r}.")
    numbers = [_coordinate(index, value) for value in values]
    if len(numbers) == 4 and (numbers[0] > numbers[2] or numbers[1] > numbers[3]):
        raise ConfigurationError(f"spatial_refs[{index}] must be [x_min, y_min, x_max, y_max], not {numbers}.")
    return numbers


def _coordinate(index: int, value: object) -> float:
    number = real(value)
    if number is None or not 0 <= number <= 1:
        raise ConfigurationError(
            f"spatial_refs[{index}] must hold numbers from 0 to 1 (parts of the width and height), not {value!r}."
        )
    return number
