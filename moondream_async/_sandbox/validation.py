"""Validate requests as the engine does, with its error messages."""

from __future__ import annotations

import base64
import binascii
import json
import re
from typing import Any, NoReturn

from .._wire.responses import is_list, is_object, reject_number
from .pixels import Scene, analyze

MAX_IMAGE_BYTES = 10 * 1024 * 1024

Fields = dict[str, Any]


class RequestError(Exception):
    """The request is answered with this error: message, status, and the envelope's `code` and `param`."""

    def __init__(
        self, message: str, param: str | None = None, *, status: int = 400, code: str = "invalid_request"
    ) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.status = status
        self.code = code


def parse_object(body: bytes) -> Fields:
    """Parse a body that must be a JSON object."""
    try:
        data = json.loads(body, parse_constant=reject_number)
    except (ValueError, RecursionError):
        raise RequestError("Invalid JSON body", code="invalid_json") from None
    if not is_object(data):
        raise RequestError("Request body must be a JSON object", code="invalid_json")
    return data


def require_text(data: Fields, name: str) -> str:
    """Return a required string that is not blank."""
    value = data.get(name)
    if not isinstance(value, str) or not value.strip():
        _reject(name, "must be a non-empty string")
    return value


def parse_flag(data: Fields, name: str) -> bool:
    """Return an optional boolean, by default False."""
    value = data.get(name, False)
    if not isinstance(value, bool):
        _reject(name, "must be a boolean")
    return value


def parse_length(data: Fields) -> str:
    """Return the caption's length, by default `normal`."""
    value = data.get("length", "normal")
    if value not in ("short", "normal", "long"):
        _reject("length", "must be one of 'short', 'normal', 'long'")
    return str(value)


def parse_settings(data: Fields) -> Fields:
    """Return the sampling settings, validated."""
    settings = data.get("settings")
    if settings is None:
        return {}
    if not is_object(settings):
        _reject("settings", "must be an object if provided")
    for name in ("max_tokens", "max_objects"):
        if name in settings and (not isinstance(settings[name], int) or settings[name] is True or settings[name] < 1):
            _reject(f"settings.{name}", "must be an integer of at least 1")
    for name, low, high in (("temperature", 0, float("inf")), ("top_p", 1e-9, 1)):
        number = settings.get(name, 1)
        if not isinstance(number, (int, float)) or not low <= number <= high:
            _reject(f"settings.{name}", "is out of range")
    return settings


def parse_spatial_refs(data: Fields) -> list[list[float]]:
    """Return the points (2 values) and boxes (4 values) that the request refers to, 0..1."""
    value = data.get("spatial_refs")
    if value is None:
        return []
    if not data.get("image_url"):
        raise RequestError("Field 'spatial_refs' requires image_url", "spatial_refs")
    if not is_list(value):
        _reject("spatial_refs", "must be an array")
    return [_parse_ref(index, ref) for index, ref in enumerate(value)]


def load_scene(data: Fields) -> Scene:
    """Return the analyzed image of the request."""
    value = data.get("image_url")
    if not isinstance(value, str) or not value:
        _reject("image_url", "must be a non-empty string")
    image = _image_bytes(value)
    if len(image) > MAX_IMAGE_BYTES:
        raise RequestError("Image size exceeds limits", "image_url", status=413, code="image_too_large")
    try:
        return analyze(image)
    except Exception as exc:
        raise RequestError(f"Image cannot be decoded: {exc}", "image_url", code="image_decode_failed") from None


def _image_bytes(value: str) -> bytes:
    if re.match(r"https?://", value, re.IGNORECASE):
        raise RequestError("image_url must be a data URI, not a URL", "image_url", code="invalid_image_url")
    payload = value.partition(",")[2] if value.startswith("data:") else value
    try:
        return base64.b64decode(payload, validate=True)
    except (binascii.Error, ValueError):
        raise RequestError("Invalid base64 image data", "image_url", code="invalid_image") from None


def _parse_ref(index: int, ref: Any) -> list[float]:
    name = f"spatial_refs[{index}]"
    if not is_list(ref) or len(ref) not in (2, 4):
        raise RequestError(f"{name} must contain 2 (point) or 4 (bbox) values", name)
    if not all(isinstance(v, (int, float)) and 0 <= v <= 1 for v in ref):
        raise RequestError(f"{name} values must be between 0 and 1", name)
    if len(ref) == 4 and (ref[0] > ref[2] or ref[1] > ref[3]):
        raise RequestError(f"{name} must have x_min <= x_max and y_min <= y_max", name)
    return [float(v) for v in ref]


def _reject(name: str, problem: str) -> NoReturn:
    raise RequestError(f"Field '{name}' {problem}", name)
