"""Decode images that are passed as text: `data:` URIs, in every form that browsers accept, and bare base64 (pure)."""

from __future__ import annotations

import base64
from urllib.parse import unquote_to_bytes

from ..errors import ImageError
from . import formats

_MAX_HEADER = 1024  # characters of a data: URI before its comma
_MAX_PERCENT_ENCODED = 8 * 1024 * 1024  # characters of a payload; percent decoding is slow
_MIN_BASE64 = 32  # characters; no image is smaller
_URL_SAFE = str.maketrans("-_", "+/")
_BASE64_ESCAPES = {"%2b": "+", "%2f": "/", "%3d": "=", "%2d": "-", "%5f": "_", "%0a": "", "%0d": "", "%20": ""}


def from_data_uri(uri: str) -> bytes:
    """Decode a `data:` URI.

    Raises:
        ImageError: The URI is damaged.
    """
    uri = uri.lstrip()
    header, comma, _ = uri[:_MAX_HEADER].partition(",")
    if not comma:
        raise ImageError("The data: URI has no comma before its data.")
    payload = uri[len(header) + 1 :].partition("#")[0]
    parameters = [parameter.strip().lower() for parameter in header.split(";")[1:]]
    if "base64" not in parameters:
        return _percent_decode("".join(payload.rstrip().translate({9: None, 10: None, 13: None})))
    if "%" in payload:
        payload = _unescape_base64(payload)
    if "%" in payload:
        payload = _percent_decode(payload).decode("latin-1")
    try:
        return _decode("".join(payload.split()))
    except ValueError as exc:
        problem = str(exc)
    raise ImageError(f"The data: URI contains damaged base64: {problem}.")


def from_base64(text: str) -> bytes | None:
    """Decode bare base64; return None if it does not contain an image."""
    try:
        start = _decode("".join(text[:_MAX_HEADER].split())[:64])
        if len(text) < _MIN_BASE64 or formats.detect_format(start) is None:
            return None
        return _decode("".join(text.split()))
    except ValueError:
        return None


def _unescape_base64(payload: str) -> str:
    """Replace the escapes that occur in base64, which is fast for payloads of any length."""
    for escape, character in _BASE64_ESCAPES.items():
        payload = payload.replace(escape, character).replace(escape.upper(), character)
    return payload


def _percent_decode(payload: str) -> bytes:
    if len(payload) > _MAX_PERCENT_ENCODED:
        raise ImageError("The data: URI is too large for percent encoding; use ;base64.")
    return unquote_to_bytes(payload.encode("utf-8", "surrogatepass"))


def _decode(encoded: str) -> bytes:
    """Decode base64, URL-safe or not, with or without padding.

    Raises:
        ValueError: It is damaged.
    """
    encoded = encoded.rstrip("=").translate(_URL_SAFE)
    if len(encoded) % 4 == 1:
        raise ValueError("it is truncated, or a character is missing")
    return base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
