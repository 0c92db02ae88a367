"""Whether a webhook is fal.ai's: ED25519 over its headers and body, by the keys that fal publishes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, cast

from .._public import public
from .._wire.responses import InvalidResponse
from ..errors import ConfigurationError
from .models import WebhookEvent, WebhookVerificationError
from .wire import webhook_event

_NAMES = ("request-id", "user-id", "timestamp", "signature")
_WINDOW = 300  # seconds that a message may be old, or ahead
_LONGEST_VALUE = 1024  # characters of a header
_MAX_KEYS = 64
_SIGNATURE = re.compile(r"[0-9a-fA-F]{128}")


@public("fal")
def verify_webhook(
    headers: Mapping[str, str], body: bytes, keys: Sequence[bytes], *, now: float | None = None
) -> WebhookEvent:
    """Check a webhook by keys at hand; `client.verify_webhook` fetches and keeps them.

    Args:
        headers: The request's, names in any case; strings or bytes.
        body: The request's, as it came: not parsed and written anew.
        keys: fal's public keys, 32 bytes each.
        now: The time, as `time.time()`; None takes it.

    Returns:
        What the webhook tells.

    Raises:
        WebhookVerificationError: It is not fal's, was changed, or is older than 300 s.
        ConfigurationError: The extra `fal` is missing, `headers` is not a mapping, or `body` is not bytes.
    """
    if not isinstance(headers, Mapping):
        raise ConfigurationError(f"headers must be a mapping of names and values, not {type(headers).__name__}.")
    if not isinstance(body, (bytes, bytearray)):
        raise ConfigurationError(f"body must be the request's bytes as they came, not {type(body).__name__}.")
    lower = {_header_text(name).lower(): _header_text(value) for name, value in headers.items()}
    values = [lower.get(f"x-fal-webhook-{name}", "") for name in _NAMES]
    if not all(values):
        raise WebhookVerificationError("The request lacks fal's webhook headers.")
    if any(len(value) > _LONGEST_VALUE for value in values):
        raise WebhookVerificationError(f"A webhook header has more than {_LONGEST_VALUE} characters.")
    request_id, user_id, timestamp, signature = values
    _check_age(timestamp, time.time() if now is None else now)
    message = "\n".join([request_id, user_id, timestamp, hashlib.sha256(body).hexdigest()]).encode("utf-8", "replace")
    if not _is_signed(message, signature, keys):
        raise WebhookVerificationError("No key of fal's made the signature.")
    try:
        return webhook_event(bytes(body))
    except InvalidResponse as exc:
        problem = str(exc)
    raise WebhookVerificationError(f"The body cannot be used: {problem}.")


def keys_of(jwks: Any) -> list[bytes]:
    """The ED25519 keys of a JSON web key set; others are left out."""
    listed: Any = cast("dict[str, Any]", jwks).get("keys") if isinstance(jwks, dict) else None
    keys: list[bytes] = []
    for entry in cast("list[Any]", listed) if isinstance(listed, list) else []:
        fields = cast("dict[str, Any]", entry) if isinstance(entry, dict) else {}
        if fields.get("kty", "OKP") != "OKP" or fields.get("crv", "Ed25519") != "Ed25519":
            continue
        text: Any = fields.get("x")
        if not isinstance(text, str) or len(text) > _LONGEST_VALUE:
            continue
        try:
            key = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except (TypeError, ValueError, binascii.Error):
            continue
        if len(key) == 32:
            keys.append(key)
    return keys[:_MAX_KEYS]


def _header_text(value: object) -> str:
    """Read a header's name or value; what is neither a string nor bytes is as good as missing."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else ""


def _check_age(timestamp: str, now: float) -> None:
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16):
        raise WebhookVerificationError("The timestamp is not one.")
    if abs(now - int(timestamp)) > _WINDOW:
        raise WebhookVerificationError(f"The message is more than {_WINDOW} s old, or ahead of this clock.")


def _is_signed(message: bytes, signature: str, keys: Sequence[bytes]) -> bool:
    try:
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    except ImportError:
        raise ConfigurationError("Webhooks need the extra 'fal': pip install 'moondream-async[fal]'.") from None
    if not _SIGNATURE.fullmatch(signature):
        return False
    signed = bytes.fromhex(signature)
    for key in keys:
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signed, message)
        except (InvalidSignature, ValueError, TypeError):
            continue
        return True
    return False
