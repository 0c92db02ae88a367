"""Verify fal.ai's webhooks: an Ed25519 signature of headers and body, checked with the keys that fal publishes."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any, Self

import attrs

from .._extras import import_extra
from .._public import public
from .._wire.responses import InvalidResponse, is_list, is_object
from ..errors import ConfigurationError
from .models import WebhookEvent, WebhookVerificationError
from .wire import parse_webhook

_HEADERS = ("request-id", "user-id", "timestamp", "signature")
_MAX_CLOCK_DIFFERENCE = 300  # seconds
_MAX_VALUE_LENGTH = 1024  # characters of a header or key
_MAX_KEYS = 64
_SIGNATURE = re.compile(r"[0-9a-fA-F]{128}")


@attrs.frozen
class SignedWebhook:
    """A webhook that has fal's headers and is recent; its signature is not verified yet.

    Attributes:
        signed: The bytes that fal signs.
        signature: The signature, in hexadecimal.
        body: The request's body.
    """

    signed: bytes = attrs.field(repr=False)
    signature: str
    body: bytes = attrs.field(repr=False)

    @classmethod
    def of(cls, headers: Mapping[str, str], body: bytes, *, now: float | None = None) -> Self:
        """Read the headers.

        Raises:
            WebhookVerificationError: A header is missing or invalid, or the webhook is older than 300 s.
            ConfigurationError: `headers` is not a mapping, or `body` is not bytes.
        """
        if not isinstance(headers, Mapping):
            raise ConfigurationError(f"headers must be a mapping of names and values, not {type(headers).__name__}.")
        if not isinstance(body, (bytes, bytearray)):
            raise ConfigurationError(f"body must be the request's unchanged bytes, not {type(body).__name__}.")
        lower = {_header_text(name).lower(): _header_text(value) for name, value in headers.items()}
        values = [lower.get(f"x-fal-webhook-{name}", "") for name in _HEADERS]
        if not all(values):
            raise WebhookVerificationError("The request lacks fal's webhook headers.")
        if any(len(value) > _MAX_VALUE_LENGTH for value in values):
            raise WebhookVerificationError(f"A webhook header has more than {_MAX_VALUE_LENGTH} characters.")
        request_id, user_id, timestamp, signature = values
        _check_age(timestamp, time.time() if now is None else now)
        signed = "\n".join([request_id, user_id, timestamp, hashlib.sha256(body).hexdigest()])
        return cls(signed.encode("utf-8", "replace"), signature, bytes(body))

    def is_signed_by(self, keys: Sequence[bytes]) -> bool:
        """Return whether one of the keys made the signature."""
        purpose = "Webhook verification"
        exceptions = import_extra("cryptography.exceptions", "fal", purpose)
        ed25519 = import_extra("cryptography.hazmat.primitives.asymmetric.ed25519", "fal", purpose)
        if not _SIGNATURE.fullmatch(self.signature):
            return False
        signature = bytes.fromhex(self.signature)
        for key in keys:
            try:
                ed25519.Ed25519PublicKey.from_public_bytes(key).verify(signature, self.signed)
            except (exceptions.InvalidSignature, ValueError, TypeError):
                continue
            return True
        return False

    def verify(self, keys: Sequence[bytes]) -> WebhookEvent:
        """Verify the signature and parse the body.

        Raises:
            WebhookVerificationError: None of the keys made the signature, or the body is invalid.
        """
        if not self.is_signed_by(keys):
            raise WebhookVerificationError("Invalid webhook signature.")
        try:
            return parse_webhook(self.body)
        except InvalidResponse as exc:
            raise WebhookVerificationError(f"Invalid webhook body: {exc}.") from None


@public("fal")
def verify_webhook(
    headers: Mapping[str, str], body: bytes, keys: Sequence[bytes], *, now: float | None = None
) -> WebhookEvent:
    """Verify a webhook with keys that you have; `client.verify_webhook` fetches and caches the keys.

    Args:
        headers: The request's headers, names in any case; strings or bytes.
        body: The request's body, unchanged: not parsed and serialized again.
        keys: fal's public keys, 32 bytes each.
        now: The current time, as from `time.time()`. Default: the clock's.

    Returns:
        The webhook's content.

    Raises:
        WebhookVerificationError: The webhook is not from fal, was changed, or is older than 300 s.
        ConfigurationError: The extra `fal` is missing, `headers` is not a mapping, or `body` is not bytes.
    """
    return SignedWebhook.of(headers, body, now=now).verify(keys)


def keys_of(jwks: Any) -> list[bytes]:
    """Return the Ed25519 keys of a JSON Web Key Set (JWKS), skipping other keys."""
    entries = jwks.get("keys") if is_object(jwks) else None
    keys: list[bytes] = []
    for entry in entries if is_list(entries) else []:
        fields = entry if is_object(entry) else {}
        if fields.get("kty", "OKP") != "OKP" or fields.get("crv", "Ed25519") != "Ed25519":
            continue
        text: Any = fields.get("x")
        if not isinstance(text, str) or len(text) > _MAX_VALUE_LENGTH:
            continue
        try:
            key = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        except (TypeError, ValueError, binascii.Error):
            continue
        if len(key) == 32:
            keys.append(key)
    return keys[:_MAX_KEYS]


def _header_text(value: object) -> str:
    """Return a header's name or value as text; empty if it is neither a string nor bytes."""
    if isinstance(value, bytes):
        return value.decode("latin-1")
    return value if isinstance(value, str) else ""


def _check_age(timestamp: str, now: float) -> None:
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) < 16):
        raise WebhookVerificationError("Invalid webhook timestamp.")
    if abs(now - int(timestamp)) > _MAX_CLOCK_DIFFERENCE:
        raise WebhookVerificationError(
            f"The webhook is more than {_MAX_CLOCK_DIFFERENCE} s old, or ahead of this machine's clock."
        )
