"""fal.ai's wire, pure: addresses, statuses, errors, what may be sent again, Moondream's inputs and outputs there."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, cast
from urllib.parse import SplitResult, urlsplit, urlunsplit

import attrs

from .._wire import errors, responses
from .._wire.redact import Redactor
from .._wire.retry import RetryCause
from ..config import quoted
from ..errors import APIError, ConfigurationError, MoondreamError, PermissionDeniedError, ServerError
from .models import BatchedResult, Completed, InProgress, Log, Queued, Status, WebhookEvent

Object = dict[str, Any]

PREVIEW = "fal-ai/moondream3-preview"
BATCHED = "fal-ai/moondream/batched"

_NAMESPACES = ("workflows", "comfy")
_PART = re.compile(r"[A-Za-z0-9._~-]+")
_REQUEST_ID = re.compile(r"[^\s/?#%\\\x00-\x1f]{1,256}")
_BACKUPS = ("falrun.com", "queue.falrun.com", "v3b.fal.media")
_INGRESS = (502, 503, 504)
_ANY_TIME = (408, 409, 425, 429)


@attrs.frozen
class Hosts:
    """Where fal.ai is: base URLs with no slash at their ends."""

    queue: str = "https://queue.fal.run"
    run: str = "https://fal.run"
    rest: str = "https://rest.fal.ai"
    cdn: str = "https://v3.fal.media"

    @classmethod
    def at(cls, base_url: str) -> Hosts:
        """All of them under one address, as the sandbox has it."""
        parts = _split(base_url)
        if (
            parts is None
            or parts.scheme not in ("http", "https")
            or not parts.hostname
            or parts.query
            or parts.username
        ):
            raise ConfigurationError(
                "base_url must be an http(s) URL such as 'https://host', with no user name, password or query."
            )
        base = base_url.rstrip("/")
        return cls(f"{base}/queue", f"{base}/run", f"{base}/rest", f"{base}/cdn")

    def may_have_key(self, url: str) -> bool:
        """Whether the URL is one of fal's own: no other host is ever sent the key."""
        parts = _split(url)
        if parts is None:
            return False
        ours = [urlsplit(base) for base in (self.queue, self.run, self.rest)]
        if any((parts.scheme, parts.netloc) == (own.scheme, own.netloc) for own in ours):
            return True
        return self.queue == Hosts().queue and parts.scheme == "https" and parts.netloc in _BACKUPS[:2]

    def is_cdn(self, url: str) -> bool:
        """Whether the URL is of fal's file store: no other host is ever sent its token."""
        parts, own = _split(url), urlsplit(self.cdn)
        if parts is None:
            return False
        if (parts.scheme, parts.netloc) == (own.scheme, own.netloc):
            return True
        is_stores = re.fullmatch(r"[a-z0-9-]+\.fal\.media", parts.netloc) is not None
        return self.cdn == Hosts().cdn and parts.scheme == "https" and is_stores


@attrs.frozen
class Endpoint:
    """An endpoint such as `fal-ai/moondream/batched`.

    Attributes:
        id: All of it; what is submitted to.
        app: Without its sub-path: what statuses and results are asked of.
    """

    id: str
    app: str

    @classmethod
    def of(cls, text: object) -> Endpoint:
        """Read an id.

        Raises:
            ConfigurationError: It is none.
        """
        parts = text.strip("/").split("/") if isinstance(text, str) else []
        if len(parts) == 1 and re.fullmatch(r"[0-9]+-[A-Za-z0-9-]+", parts[0]):  # the old form of one word
            return cls(parts[0], parts[0].replace("-", "/", 1))
        at_least = 3 if parts and parts[0] in _NAMESPACES else 2
        if len(parts) < at_least or not all(_PART.fullmatch(part) and part not in (".", "..") for part in parts):
            raise ConfigurationError(f"An endpoint is named like 'fal-ai/moondream/batched', not {text!r}.")
        return cls("/".join(parts), "/".join(parts[:at_least]))

    def submit_url(self, hosts: Hosts, path: str, query: Mapping[str, str]) -> str:
        """Where to POST the arguments."""
        below = "/" + quoted("path", path, safe="/").lstrip("/") if path else ""
        asked = "&".join(f"{name}={quoted(name, value)}" for name, value in query.items())
        return f"{hosts.queue}/{self.id}{below}" + (f"?{asked}" if asked else "")

    def request_url(self, hosts: Hosts, request_id: str) -> str:
        """Where a request's result is; `/status` and `/cancel` come after it.

        Raises:
            ConfigurationError: The id cannot be one.
        """
        if not isinstance(request_id, str) or not _REQUEST_ID.fullmatch(request_id) or request_id in (".", ".."):
            raise ConfigurationError(f"{request_id!r} is no request id.")
        return f"{hosts.queue}/{self.app}/requests/{quoted('request_id', request_id)}"


def below(url: str, path: str, query: str = "") -> str:
    """An address below another one, whose query stays."""
    parts = urlsplit(url)
    asked = "&".join(part for part in (parts.query, query) if part)
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") + path, asked, ""))


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:  # odd brackets; letters that become slashes
        return None


def status_of(data: Any, request_id: str) -> Status:
    """Read a status; what is missing is left out.

    Raises:
        Unusable: There is no such state.
    """
    fields = cast("Object", data) if isinstance(data, dict) else {}
    word = fields.get("status")
    if word == "IN_QUEUE":
        position = fields.get("queue_position")
        return Queued(request_id=request_id, position=position if isinstance(position, int) else None)
    lines: list[Any] = fields.get("logs") or []
    logs = tuple(_log(cast("Object", line)) for line in lines if isinstance(line, dict))
    if word == "IN_PROGRESS":
        return InProgress(request_id=request_id, logs=logs)
    if word == "COMPLETED":
        return Completed(
            request_id=request_id,
            logs=logs,
            metrics=fields.get("metrics") or {},
            error=_text(fields.get("error") or None),
            error_type=_text(fields.get("error_type") or None),
        )
    raise responses.InvalidResponse(f"{word!r} is no state of a request")


class NewLogs:
    """Tells new lines from those that were told: fal sends a sliding window of them, or only the newest."""

    def __init__(self) -> None:
        self._told: Counter[Log] = Counter()

    def only_new(self, status: Status) -> Status:
        """The status, with the lines that no status had before it."""
        if isinstance(status, Queued) or not status.logs:
            return status
        now: Counter[Log] = Counter()
        fresh: list[Log] = []
        for log in status.logs:
            now[log] += 1  # a line may truly come twice
            if now[log] > self._told[log]:
                fresh.append(log)
        self._told |= now
        return attrs.evolve(status, logs=tuple(fresh))


def error_of(
    status: int, headers: Mapping[str, str], body: bytes, *, now: float, redactor: Redactor | None = None
) -> APIError:
    """Make the typed error of an answer, with fal's own words for what to do where the status misleads."""
    error = errors.from_response(status, headers, body, now=now, redactor=redactor or Redactor())
    if isinstance(error, PermissionDeniedError) and "locked" in error.message.lower():
        error.message += " (This is about the account's balance, not about the key.)"
    answer: Any = error.body
    detail: Any = cast("Object", answer).get("detail") if isinstance(answer, dict) else None
    first = cast("list[Any]", detail)[0] if isinstance(detail, list) and detail else None
    if isinstance(first, dict):
        entry = cast("Object", first)
        where = entry.get("loc")
        error.type = _text(entry.get("type")) or error.type
        error.param = (
            ".".join(map(errors.text_of, cast("list[Any]", where))) if isinstance(where, list) else error.param
        )
    error.type = error.type or headers.get("x-fal-error-type")
    return error


def failure_of(
    error: APIError, headers: Mapping[str, str], *, last_word: bool, non_idempotent: bool
) -> RetryCause | None:
    """How a retry sees an error; None: never again.

    Args:
        error: The answer's.
        headers: The answer's, names in lower case.
        last_word: Whether an answer with `x-fal-request-id` is the endpoint's own: fal's queue has tried ten times.
        non_idempotent: Whether sending it twice could be billed twice.
    """
    if not last_word and not non_idempotent:
        return RetryCause("status", error.status, error.retry_after)
    if error.status in (408, 409) and non_idempotent:
        return None
    if error.status in _ANY_TIME:
        return RetryCause("status", 429 if error.status == 409 else error.status, error.retry_after)
    if "x-fal-request-id" in headers or "x-fal-request-timeout-type" in headers:
        return None
    # The entrance did not let it in (503), or may have (502, 504).
    again = error.status == 503 or (error.status in _INGRESS and not non_idempotent)
    return RetryCause("status", error.status, error.retry_after) if again else None


def failed(status: Completed) -> MoondreamError:
    """The error of a completed request whose own answer does not tell one."""
    error = ServerError(status.error or "The request failed.", status=500, type=status.error_type)
    error.request_id = status.request_id
    return error


def skill_answer(field: str, data: Any, request_id: str) -> Object:
    """An answer of `moondream3-preview/*` as Moondream's own API would give it."""
    if not isinstance(data, dict):
        raise responses.InvalidResponse("it is not a JSON object")
    fields = dict(cast("Object", data))
    if "output" in fields:
        fields[field] = fields.pop("output")
    usage = fields.pop("usage_info", None)
    if isinstance(usage, dict):
        fields["metrics"] = usage
    if field == "path" and fields.get("path") is None:  # nothing was found
        fields["path"] = ""
    return {"request_id": request_id, **fields}


def batched_result(data: Any, request_id: str) -> BatchedResult:
    """Read the answer of `fal-ai/moondream/batched`."""
    if not isinstance(data, dict) or not isinstance(cast("Object", data).get("outputs"), list):
        raise responses.InvalidResponse("it has no list 'outputs'")
    fields = dict(cast("Object", data))
    outputs: Sequence[Any] = fields.pop("outputs")
    names = fields.pop("filenames", None)
    return BatchedResult(
        outputs=tuple(str(output) for output in outputs),
        partial=fields.pop("partial", None),
        timings=fields.pop("timings", None) or {},
        filenames=None if names is None else tuple(str(name) for name in names),
        request_id=request_id,
        extra=fields,
    )


def webhook_event(body: bytes) -> WebhookEvent:
    """Read what a webhook brought.

    Raises:
        Unusable: It is not of fal's shape.
    """
    try:
        data: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise responses.InvalidResponse("it is not JSON") from None
    if not isinstance(data, dict) or not isinstance(cast("Object", data).get("request_id"), str):
        raise responses.InvalidResponse("it has no 'request_id'")
    fields = cast("Object", data)
    return WebhookEvent(
        request_id=fields["request_id"],
        gateway_request_id=_text(fields.get("gateway_request_id")),
        ok=fields.get("status") == "OK",
        payload=fields.get("payload"),
        error=_text(fields.get("error")),
        payload_error=_text(fields.get("payload_error")),
    )


def _log(entry: Object) -> Log:
    return Log(
        message=errors.text_of(entry.get("message", "")),
        level=_text(entry.get("level")),
        timestamp=_text(entry.get("timestamp")),
        source=_text(entry.get("source")),
    )


def _text(value: Any) -> str | None:
    return None if value is None else errors.text_of(value)
