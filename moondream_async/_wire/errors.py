"""Convert error responses to typed errors: every envelope of moondream-api.md 1.5 and station-api.md."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from .. import errors
from .._hidden import without_query
from ..config import KEYS_URL, Secret
from ..errors import APIError
from .redact import Redactor
from .responses import is_list, is_object
from .retry import parse_retry_after

_CLASSES: dict[int, type[APIError]] = {
    400: errors.BadRequestError,
    401: errors.AuthenticationError,
    403: errors.PermissionDeniedError,
    404: errors.NotFoundError,
    409: errors.ConflictError,
    413: errors.PayloadTooLargeError,
    422: errors.UnprocessableEntityError,
    429: errors.RateLimitError,
}
_STATION_STATUSES = {"rejected": 429, "timeout": 504, "error": 500}
_MAX_MESSAGE = 500  # characters
_MAX_BODY = 4_000  # characters
_EMPTY_REDACTOR = Redactor()


def from_response(
    status: int, headers: Mapping[str, str], body: bytes, *, now: float, redactor: Redactor = _EMPTY_REDACTOR
) -> APIError:
    """Return the typed error for a response whose status is not 2xx.

    Args:
        status: The HTTP status.
        headers: The response headers, with names in lower case.
        body: The response body: JSON in any known envelope, plain text, or a gateway's HTML page.
        now: The time of day, as `time.time()`, to which a `Retry-After` date is compared.
        redactor: Keeps credentials out of the error.
    """
    data, headers = _decode(body, redactor), redactor.headers(headers)
    message = _message(data) or _default_message(status, headers)
    return _error(status, status, message, data, headers, now)


def from_success(status: int, headers: Mapping[str, str], data: Any, *, now: float) -> APIError | None:
    """Return the typed error that a response with a 2xx status reports, or None if it reports none.

    Moondream Station reports most failures with status 200 and `{"error": ...}`.
    """
    if not is_object(data) or not data.get("error"):
        return None
    message = _message(data) or "The server reported an error."
    return _error(status, implied_status(data), message, data, headers, now)


def from_event(status: int, headers: Mapping[str, str], event: Mapping[str, Any], *, now: float) -> APIError | None:
    """Return the typed error that a stream event reports, or None. The request was accepted, so the server failed."""
    return from_success(status, headers, {"status": "error", **event}, now=now)


def implied_status(body: Mapping[str, Any]) -> int:
    """Return the HTTP status that a Station error with status 200 corresponds to."""
    status = body.get("status")
    if isinstance(status, str) and status in _STATION_STATUSES:
        return _STATION_STATUSES[status]
    message = _message(body) or ""
    if re.search(r"\bnot (available|found)\b", message, re.IGNORECASE):
        return 404
    return 400


def effective_status(error: APIError) -> int:
    """Return the status that decides about a retry: the error's own, or the implied one of a Station error."""
    if error.status >= 300:
        return error.status
    return implied_status(error.body) if is_object(error.body) else error.status


def from_status(status: int, message: str, *, retry_after: float | None = None) -> APIError:
    """Return the typed error for a status, with this message."""
    return _class_of(status)(message, status=status, retry_after=retry_after)


def invalid_response(status: int, body: Any, problem: str, *, hint: str = "") -> APIError:
    """Return the error for a 2xx response that cannot be used.

    Args:
        status: The HTTP status.
        body: The body, as far as the error may show it.
        problem: What is wrong with it.
        hint: What the user can do about it.
    """
    message = f"The server's response cannot be used: {problem}."
    return APIError(f"{message} {hint}" if hint else message, status=status, body=body)


def _class_of(status: int) -> type[APIError]:
    return errors.ServerError if status >= 500 else _CLASSES.get(status, APIError)


def _error(status: int, implied: int, message: str, data: Any, headers: Mapping[str, str], now: float) -> APIError:
    details = _envelope(data)
    return _class_of(implied)(
        message,
        status=status,
        type=_text_field(details, "type") or _text_field(details, "error_type"),
        code=_text_field(details, "code"),
        param=_text_field(details, "param"),
        request_id=_request_id(data, headers),
        retry_after=parse_retry_after(headers, now=now),
        body=data,
    )


def start_of(body: bytes, redactor: Redactor) -> str:
    """Return the start of a body for an error; redacted before it is cut, so that no part of a key remains."""
    return redactor.text(body[: 8 * _MAX_BODY].decode("utf-8", "replace"))[:_MAX_BODY]


def to_text(value: object) -> str:
    """Return a JSON value as text; one that is nested too deeply is described by its type."""
    try:
        return str(value)
    except RecursionError:
        return f"a nested {type(value).__name__}"


def explain_refused_key(error: APIError, key: Secret | None, *, how_to_set: str, keys_url: str = KEYS_URL) -> None:
    """Add a hint to an error that says which key was refused, and where to get one.

    Args:
        error: The error; only 401 and 403 get a hint.
        key: The key that was sent, if any.
        how_to_set: How to set a key, if none was sent.
        keys_url: Where keys are created.
    """
    if error.status == 401:
        which = f"No key was sent: {how_to_set}" if key is None else f"The server refused {key.describe()}"
        error.hint = f"{which}. Keys: {keys_url}"
    elif error.status == 403 and key is not None:
        error.hint = f"The request was sent with {key.describe()}."


def _decode(body: bytes, redactor: Redactor) -> Any:
    try:
        return redactor.json(json.loads(body))
    except (ValueError, RecursionError):
        return start_of(body, redactor)


def _envelope(data: Any) -> dict[str, Any]:
    if not is_object(data):
        return {}
    inner = data.get("error")
    return inner if is_object(inner) else data


def _message(data: Any) -> str | None:
    if is_object(data):
        message = _message_of_object(data)
    elif isinstance(data, str):
        message = _message_of_text(data)
    else:
        message = None
    return message[:_MAX_MESSAGE] if message else None


def _message_of_object(data: dict[str, Any]) -> str | None:
    error, detail = data.get("error"), data.get("detail")
    if is_object(error):
        return _text_field(error, "message") or _text_field(error, "code") or _text_field(error, "type")
    if isinstance(error, str) and error:
        return f"{error}: {detail}" if isinstance(detail, str) and detail else error
    if is_list(detail):
        return "; ".join(_validation_message(item) for item in detail)
    return _text_field(data, "detail") or _text_field(data, "message")


def _validation_message(item: Any) -> str:
    if not is_object(item):
        return to_text(item)
    location = item.get("loc")
    where = ".".join(map(to_text, location)) if is_list(location) else ""
    message = to_text(item.get("msg"))
    return f"{where}: {message}" if where else message


def _message_of_text(text: str) -> str | None:
    title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    if title:
        return " ".join(title.group(1).split())
    if "<html" in text.lower() or text.lstrip().startswith("<!"):
        return None
    return " ".join(text.split()) or None


def _default_message(status: int, headers: Mapping[str, str]) -> str:
    if 300 <= status < 400:
        location = without_query(headers.get("location", "another address"))
        return f"The server redirects to {location}; redirects are not followed, to protect the key. Check base_url."
    return f"The server answered with status {status} and no message."


def _text_field(data: Mapping[str, Any], name: str) -> str | None:
    value = data.get(name)
    if isinstance(value, str) and value:
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _request_id(data: Any, headers: Mapping[str, str]) -> str | None:
    return (
        _text_field(data if is_object(data) else {}, "request_id")
        or _text_field(_envelope(data), "request_id")
        or next((headers[name] for name in ("x-request-id", "x-fal-request-id") if name in headers), None)
    )
