"""Error answers -> typed errors: every envelope of moondream-api.md 1.5 and station-api.md."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, cast

from .. import errors
from .._hidden import without_query
from ..config import KEYS_URL, Secret
from ..errors import APIError
from .redact import Redactor
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
_LONGEST_MESSAGE = 500
_LONGEST_BODY = 4_000
_NOTHING_TO_HIDE = Redactor()


def from_response(
    status: int, headers: Mapping[str, str], body: bytes, *, now: float, redactor: Redactor = _NOTHING_TO_HIDE
) -> APIError:
    """Make the typed error of an answer whose status is not 2xx.

    Args:
        status: The HTTP status.
        headers: The answer's headers, names in lower case.
        body: The answer's body: JSON in any known envelope, plain text, or a gateway's HTML page.
        now: The time of day, as `time.time()`, to read a `Retry-After` date against.
        redactor: Keeps credentials out of everything that the error holds.
    """
    data, headers = _decode(body, redactor), redactor.headers(headers)
    message = _message(data) or _status_words(status, headers)
    return _error(status, status, message, data, headers, now)


def from_success(status: int, headers: Mapping[str, str], data: Any, *, now: float) -> APIError | None:
    """The typed error inside an answer with a 2xx status, or None if it is none.

    Moondream Station answers most failures with 200 and `{"error": ...}`.
    """
    if not isinstance(data, dict):
        return None
    body = cast("dict[str, Any]", data)
    if not body.get("error"):
        return None
    message = _message(body) or "The server reported an error."
    return _error(status, implied_status(body), message, body, headers, now)


def from_event(status: int, headers: Mapping[str, str], event: Mapping[str, Any], *, now: float) -> APIError | None:
    """The typed error that a stream event is, or None. The request was accepted, so the server failed."""
    return from_success(status, headers, {"status": "error", **event}, now=now)


def implied_status(body: Mapping[str, Any]) -> int:
    """The HTTP status that a Station error with status 200 stands for."""
    by_word = {"rejected": 429, "timeout": 504, "error": 500}
    word = body.get("status")
    if isinstance(word, str) and word in by_word:
        return by_word[word]
    message = _message(body) or ""
    if re.search(r"\bnot (available|found)\b", message, re.IGNORECASE):
        return 404
    return 400


def effective_status(error: APIError) -> int:
    """The status a retry goes by: the error's own, or the one that a Station error with 200 stands for."""
    if error.status >= 300:
        return error.status
    body: Any = error.body
    return implied_status(cast("dict[str, Any]", body)) if isinstance(body, dict) else error.status


def of_status(status: int, message: str, *, retry_after: float | None = None) -> APIError:
    """The typed error for a status, in our words."""
    kind = errors.ServerError if status >= 500 else _CLASSES.get(status, APIError)
    return kind(message, status=status, retry_after=retry_after)


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


def _error(status: int, meaning: int, message: str, data: Any, headers: Mapping[str, str], now: float) -> APIError:
    kind = errors.ServerError if meaning >= 500 else _CLASSES.get(meaning, APIError)
    details = _envelope(data)
    return kind(
        message,
        status=status,
        type=_word(details, "type") or _word(details, "error_type"),
        code=_word(details, "code"),
        param=_word(details, "param"),
        request_id=_request_id(data, headers),
        retry_after=parse_retry_after(headers, now=now),
        body=data,
    )


def start_of(body: bytes, redactor: Redactor) -> str:
    """Decode the start of a body, for an error to show; redacted before it is cut, so that no part of a key is left."""
    return redactor.text(body[: 8 * _LONGEST_BODY].decode("utf-8", "replace"))[:_LONGEST_BODY]


def text_of(value: object) -> str:
    """Show a JSON value; one that is nested too deeply to be shown is named by its type."""
    try:
        return str(value)
    except RecursionError:
        return f"a nested {type(value).__name__}"


def explain_refused_key(error: APIError, key: Secret | None, *, given_by: str, keys_url: str = KEYS_URL) -> None:
    """Say which key was refused, and where to get one.

    Args:
        error: A 401 or 403; others are left as they are.
        key: The key that was sent.
        given_by: How a key is given, for an error that has none.
        keys_url: Where keys are made.
    """
    if error.status == 401:
        which = f"No key was sent: {given_by}" if key is None else f"The server refused {key.describe()}"
        error.hint = f"{which}. Keys: {keys_url}"
    elif error.status == 403 and key is not None:
        error.hint = f"The request was sent with {key.describe()}."


def _decode(body: bytes, redactor: Redactor) -> Any:
    try:
        return redactor.json(json.loads(body))
    except (ValueError, RecursionError):
        return start_of(body, redactor)


def _envelope(data: Any) -> dict[str, Any]:
    if isinstance(data, dict):
        inner = cast("dict[str, Any]", data).get("error")
        return cast("dict[str, Any]", inner if isinstance(inner, dict) else data)
    return {}


def _message(data: Any) -> str | None:
    if isinstance(data, dict):
        found = _message_of_object(cast("dict[str, Any]", data))
    elif isinstance(data, str):
        found = _message_of_text(data)
    else:
        found = None
    return found[:_LONGEST_MESSAGE] if found else None


def _message_of_object(data: dict[str, Any]) -> str | None:
    error, detail = data.get("error"), data.get("detail")
    if isinstance(error, dict):
        inner = cast("dict[str, Any]", error)
        return _word(inner, "message") or _word(inner, "code") or _word(inner, "type")
    if isinstance(error, str) and error:
        return f"{error}: {detail}" if isinstance(detail, str) and detail else error
    if isinstance(detail, list):
        return "; ".join(_validation_item(item) for item in cast("list[Any]", detail))
    return _word(data, "detail") or _word(data, "message")


def _validation_item(item: Any) -> str:
    if not isinstance(item, dict):
        return text_of(item)
    entry = cast("dict[str, Any]", item)
    location = entry.get("loc")
    where = ".".join(map(text_of, cast("list[Any]", location))) if isinstance(location, list) else ""
    message = text_of(entry.get("msg"))
    return f"{where}: {message}" if where else message


def _message_of_text(text: str) -> str | None:
    title = re.search(r"<title[^>]*>(.*?)</title>", text, re.IGNORECASE | re.DOTALL)
    if title:
        return " ".join(title.group(1).split())
    if "<html" in text.lower() or text.lstrip().startswith("<!"):
        return None
    return " ".join(text.split()) or None


def _status_words(status: int, headers: Mapping[str, str]) -> str:
    if 300 <= status < 400:
        where = without_query(headers.get("location", "another address"))
        return f"The server redirects to {where}; the client does not follow, so that the key stays. Check base_url."
    return f"The server answered with status {status} and no message."


def _word(data: Mapping[str, Any], name: str) -> str | None:
    value = data.get(name)
    if isinstance(value, str) and value:
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def _request_id(data: Any, headers: Mapping[str, str]) -> str | None:
    body = cast("dict[str, Any]", data) if isinstance(data, dict) else {}
    return (
        _word(body, "request_id")
        or _word(_envelope(data), "request_id")
        or next((headers[name] for name in ("x-request-id", "x-fal-request-id") if name in headers), None)
    )
