"""Reading requests as the engine does: types checked, with its messages, in the documented envelope."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, NoReturn, cast

from .pixels import Scene, analyse

LARGEST_IMAGE = 10 * 1024 * 1024

Fields = dict[str, Any]


class Refusal(Exception):
    """An error answer: status, message, and the machine-readable parts."""

    def __init__(self, status: int, message: str, *, code: str, param: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.param = param


def fields(body: bytes) -> Fields:
    """The JSON object of a request."""
    try:
        data = json.loads(body, parse_constant=_no_number)
    except (ValueError, RecursionError):
        raise Refusal(400, "Invalid JSON body", code="invalid_json") from None
    if not isinstance(data, dict):
        raise Refusal(400, "Request body must be a JSON object", code="invalid_json")
    return cast("Fields", data)


def _no_number(word: str) -> float:
    raise ValueError(f"{word} is not JSON")


def text(data: Fields, name: str) -> str:
    """A required, non-empty text."""
    value = data.get(name)
    if not isinstance(value, str) or not value.strip():
        _refuse(name, "must be a non-empty string")
    return value


def flag(data: Fields, name: str) -> bool:
    """An optional boolean."""
    value = data.get(name, False)
    if not isinstance(value, bool):
        _refuse(name, "must be a boolean")
    return value


def length(data: Fields) -> str:
    """The caption's length."""
    value = data.get("length", "normal")
    if value not in ("short", "normal", "long"):
        _refuse("length", "must be one of 'short', 'normal', 'long'")
    return str(value)


def settings(data: Fields) -> Fields:
    """The sampling settings, checked."""
    value = data.get("settings")
    if value is None:
        return {}
    if not isinstance(value, dict):
        _refuse("settings", "must be an object if provided")
    given = cast("Fields", value)
    for name in ("max_tokens", "max_objects"):
        if name in given and (not isinstance(given[name], int) or given[name] is True or given[name] < 1):
            _refuse(f"settings.{name}", "must be an integer of at least 1")
    for name, least, most in (("temperature", 0, float("inf")), ("top_p", 1e-9, 1)):
        number = given.get(name, 1)
        if not isinstance(number, (int, float)) or not least <= number <= most:
            _refuse(f"settings.{name}", "is out of range")
    return given


def spatial_refs(data: Fields) -> list[list[float]]:
    """The points and boxes the request refers to."""
    value = data.get("spatial_refs")
    if value is None:
        return []
    if not data.get("image_url"):
        raise Refusal(400, "Field 'spatial_refs' requires image_url", code="invalid_request", param="spatial_refs")
    if not isinstance(value, list):
        _refuse("spatial_refs", "must be an array")
    return [_ref(index, ref) for index, ref in enumerate(cast("list[Any]", value))]


def scene(data: Fields, *, required: bool = True) -> Scene | None:
    """The analysed image of the request; None if there is none and none is required."""
    value = data.get("image_url")
    if value is None and not required:
        return None
    if not isinstance(value, str) or not value:
        _refuse("image_url", "must be a non-empty string")
    image = _image_bytes(value)
    if len(image) > LARGEST_IMAGE:
        raise Refusal(413, "Image size exceeds limits", code="image_too_large", param="image_url")
    try:
        return analyse(image)
    except Exception as exc:
        message = f"Image cannot be decoded: {exc}"
    raise Refusal(400, message, code="image_decode_failed", param="image_url")


def _image_bytes(value: str) -> bytes:
    if re.match(r"https?://", value, re.IGNORECASE):
        raise Refusal(400, "image_url must be a data URI, not a URL", code="invalid_image_url", param="image_url")
    payload = value.partition(",")[2] if value.startswith("data:") else value
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise Refusal(400, "Invalid base64 image data", code="invalid_image", param="image_url") from None


def _ref(index: int, ref: Any) -> list[float]:
    name = f"spatial_refs[{index}]"
    if not isinstance(ref, list) or len(cast("list[Any]", ref)) not in (2, 4):
        raise Refusal(400, f"{name} must contain 2 (point) or 4 (bbox) values", code="invalid_request", param=name)
    values = cast("list[Any]", ref)
    if not all(isinstance(v, (int, float)) and 0 <= v <= 1 for v in values):
        raise Refusal(400, f"{name} values must be between 0 and 1", code="invalid_request", param=name)
    if len(values) == 4 and (values[0] > values[2] or values[1] > values[3]):
        raise Refusal(400, f"{name} must have x_min <= x_max and y_min <= y_max", code="invalid_request", param=name)
    return [float(v) for v in values]


def _refuse(name: str, problem: str) -> NoReturn:
    raise Refusal(400, f"Field '{name}' {problem}", code="invalid_request", param=name)
