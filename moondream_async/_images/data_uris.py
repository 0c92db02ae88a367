"""Decode images that are given as text: `data:` URIs, in every form a browser reads, and bare base64 (pure)."""

from __future__ import annotations

import base64
import binascii
from urllib.parse import unquote_to_bytes

from ..errors import ImageError
from . import formats

_MAX_HEAD = 1024  # characters of a data: URI before its comma
_MAX_QUOTED = 8 * 1024 * 1024  # characters of a payload in percents, which are read slowly
_MIN_BASE64 = 32  # characters; no image is smaller
_URL_SAFE = str.maketrans("-_", "+/")
_COMMON_QUOTES = {"%2b": "+", "%2f": "/", "%3d": "=", "%2d": "-", "%5f": "_", "%0a": "", "%0d": "", "%20": ""}


def from_data_uri(uri: str) -> bytes:
    """Decode a `data:` URI.

    Raises:
        ImageError: It is damaged.
    """
    uri = uri.lstrip()
    head, comma, _ = uri[:_MAX_HEAD].partition(",")
    if not comma:
        raise ImageError("The data: URI has no comma before its data.")
    payload = uri[len(head) + 1 :].partition("#")[0]
    parameters = [parameter.strip().lower() for parameter in head.split(";")[1:]]
    if "base64" not in parameters:
        return _unquoted("".join(payload.rstrip().translate({9: None, 10: None, 13: None})))
    if "%" in payload:
        payload = _without_common_quotes(payload)
    if "%" in payload:
        payload = _unquoted(payload).decode("latin-1")
    return _from_payload("".join(payload.split()))


def from_base64(text: str) -> bytes | None:
    """Decode bare base64; None if that does not hold an image."""
    start = _decoded("".join(text[:_MAX_HEAD].split())[:64])
    if len(text) < _MIN_BASE64 or start is None or formats.kind_of(start) is None:
        return None
    return _decoded("".join(text.split()))


def _without_common_quotes(payload: str) -> str:
    """Replace the escapes that base64 needs: fast, however long it is."""
    for quoted, plain in _COMMON_QUOTES.items():
        payload = payload.replace(quoted, plain).replace(quoted.upper(), plain)
    return payload


def _unquoted(payload: str) -> bytes:
    if len(payload) > _MAX_QUOTED:
        raise ImageError("The data: URI is too large for percent encoding; use ;base64.")
    return unquote_to_bytes(payload.encode("utf-8", "surrogatepass"))


def _from_payload(packed: str) -> bytes:
    packed = packed.rstrip("=").translate(_URL_SAFE)
    if len(packed) % 4 == 1:
        raise ImageError("The data: URI holds damaged base64: it is cut off, or a character is missing.")
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError) as exc:
        problem = str(exc)
    raise ImageError(f"The data: URI holds damaged base64: {problem}.")


def _decoded(text: str) -> bytes | None:
    packed = text.rstrip("=").translate(_URL_SAFE)
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None
