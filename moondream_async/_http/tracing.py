"""Keep credentials that a server repeats in its headers out of the DEBUG logs of httpcore and httpcore2."""

from __future__ import annotations

import logging
from typing import Any, cast

import httpx

from .._hidden import HiddenBytes
from .._wire.redact import Redactor, secrets_in_header

_LOGS = tuple(
    logging.getLogger(f"{library}.{protocol}")
    for library in ("httpcore", "httpcore2")  # httpcore2 is below a user's own httpx2 client
    for protocol in ("http11", "http2")
)


def trace_extension(headers: httpx.Headers) -> dict[str, Any]:
    """Return httpcore's request extension that redacts response headers before they are logged.

    Args:
        headers: The headers of the request; their hidden values are redacted.

    Returns:
        An empty dict if these logs are off, as the extension costs a call at each step of a request.
    """
    if not any(log.isEnabledFor(logging.DEBUG) for log in _LOGS):
        return {}
    hidden = [value.decode("ascii") for _, value in headers.raw if isinstance(value, HiddenBytes)]
    redactor = Redactor(secret for value in hidden for secret in secrets_in_header(value))

    async def trace(event: str, info: dict[str, Any]) -> None:
        if event.endswith(".receive_response_headers.complete"):
            for part in cast("tuple[Any, ...]", info["return_value"]):
                if isinstance(part, list):  # httpcore logs this list, and builds the response from it
                    _redact(cast("list[tuple[bytes, bytes]]", part), redactor)

    return {"trace": trace}


def _redact(headers: list[tuple[bytes, bytes]], redactor: Redactor) -> None:
    for index, (name, value) in enumerate(headers):
        headers[index] = name, redactor.text(value.decode("latin-1")).encode("latin-1", "replace")
