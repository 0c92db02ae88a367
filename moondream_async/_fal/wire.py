"""fal.ai's wire format (pure): URLs, statuses, errors and retries, responses of its Moondream endpoints."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from typing import Any
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
_SEGMENT = re.compile(r"[A-Za-z0-9._~-]+")
_REQUEST_ID = re.compile(r"[^\s/?#%\\\x00-\x1f]{1,256}")
_BACKUP_HOSTS = ("falrun.com", "queue.falrun.com")
_GATEWAY_STATUSES = (502, 503, 504)
_RETRY_STATUSES = (408, 409, 425, 429)


@attrs.frozen
class Hosts:
    """Base URLs of fal.ai's hosts, without a trailing slash."""

    queue: str = "https://queue.fal.run"
    run: str = "https://fal.run"
    rest: str = "https://rest.fal.ai"
    cdn: str = "https://v3.fal.media"

    @classmethod
    def at(cls, base_url: str) -> Hosts:
        """Return the hosts of a server that has all of them under one base URL, such as the sandbox.

        Raises:
            ConfigurationError: The base URL is invalid.
        """
        parts = _split(base_url)
        is_http = parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname)
        if parts is None or not is_http or parts.query or parts.username:
            raise ConfigurationError(
                "base_url must be an http(s) URL such as 'https://host', with no user name, password or query."
            )
        base = base_url.rstrip("/")
        return cls(f"{base}/queue", f"{base}/run", f"{base}/rest", f"{base}/cdn")

    def may_have_key(self, url: str) -> bool:
        """Return whether the URL is one of fal's own hosts. The key is sent to no other host."""
        parts = _split(url)
        if parts is None:
            return False
        hosts = [urlsplit(base) for base in (self.queue, self.run, self.rest)]
        if any((parts.scheme, parts.netloc) == (host.scheme, host.netloc) for host in hosts):
            return True
        return self.queue == Hosts().queue and parts.scheme == "https" and parts.netloc in _BACKUP_HOSTS

    def is_cdn(self, url: str) -> bool:
        """Return whether the URL is in fal's file store. The store's token is sent to no other host."""
        parts, cdn = _split(url), urlsplit(self.cdn)
        if parts is None:
            return False
        if (parts.scheme, parts.netloc) == (cdn.scheme, cdn.netloc):
            return True
        is_fal_media = re.fullmatch(r"[a-z0-9-]+\.fal\.media", parts.netloc) is not None
        return self.cdn == Hosts().cdn and parts.scheme == "https" and is_fal_media


@attrs.frozen
class Endpoint:
    """An endpoint such as `fal-ai/moondream/batched`.

    Attributes:
        id: The full id, to which requests are submitted.
        app: The id without its sub-path, which has the statuses and results of requests.
    """

    id: str
    app: str

    @classmethod
    def of(cls, text: object) -> Endpoint:
        """Parse an endpoint id.

        Raises:
            ConfigurationError: The id is invalid.
        """
        parts = text.strip("/").split("/") if isinstance(text, str) else []
        if len(parts) == 1 and re.fullmatch(r"[0-9]+-[A-Za-z0-9-]+", parts[0]):  # the old form without a slash
            return cls(parts[0], parts[0].replace("-", "/", 1))
        at_least = 3 if parts and parts[0] in _NAMESPACES else 2
        if len(parts) < at_least or not all(_SEGMENT.fullmatch(part) and part not in (".", "..") for part in parts):
            raise ConfigurationError(f"endpoint must be an id such as 'fal-ai/moondream/batched', not {text!r}.")
        return cls("/".join(parts), "/".join(parts[:at_least]))

    def submit_url(self, hosts: Hosts, path: str, query: Mapping[str, str]) -> str:
        """Return the URL to which the arguments are POSTed."""
        sub_path = "/" + quoted("path", path, safe="/").lstrip("/") if path else ""
        fields = "&".join(f"{name}={quoted(name, value)}" for name, value in query.items())
        return f"{hosts.queue}/{self.id}{sub_path}" + (f"?{fields}" if fields else "")

    def request_url(self, hosts: Hosts, request_id: str) -> str:
        """Return the URL of a request's result, to which `/status` and `/cancel` are appended.

        Raises:
            ConfigurationError: The request id is invalid.
        """
        if not isinstance(request_id, str) or not _REQUEST_ID.fullmatch(request_id) or request_id in (".", ".."):
            raise ConfigurationError(f"Invalid request id: {request_id!r}.")
        return f"{hosts.queue}/{self.app}/requests/{quoted('request_id', request_id)}"


def extend_url(url: str, path: str, query: str = "") -> str:
    """Append a path and query fields to a URL, keeping its own query."""
    parts = urlsplit(url)
    fields = "&".join(part for part in (parts.query, query) if part)
    return urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/") + path, fields, ""))


def _split(url: str) -> SplitResult | None:
    try:
        return urlsplit(url)
    except ValueError:  # for instance unbalanced brackets, or letters that Unicode normalizes to slashes
        return None


def parse_status(data: Any, request_id: str) -> Status:
    """Parse a request's status; missing fields are left empty.

    Raises:
        InvalidResponse: The state is unknown.
    """
    fields = data if responses.is_object(data) else {}
    word = fields.get("status")
    if word == "IN_QUEUE":
        position = fields.get("queue_position")
        return Queued(request_id=request_id, position=position if isinstance(position, int) else None)
    lines: list[Any] = fields.get("logs") or []
    logs = tuple(_log(line) for line in lines if responses.is_object(line))
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
    raise responses.InvalidResponse(f"{word!r} is not a known request state")


class NewLogs:
    """Filter out log lines that were already reported, as fal sends a sliding window of them or only the newest."""

    def __init__(self) -> None:
        self._seen: Counter[Log] = Counter()

    def only_new(self, status: Status) -> Status:
        """Return the status with only those log lines that no earlier status had."""
        if isinstance(status, Queued) or not status.logs:
            return status
        now: Counter[Log] = Counter()
        fresh: list[Log] = []
        for log in status.logs:
            now[log] += 1  # the process may have written the same line twice
            if now[log] > self._seen[log]:
                fresh.append(log)
        self._seen |= now
        return attrs.evolve(status, logs=tuple(fresh))


def parse_error(
    status: int, headers: Mapping[str, str], body: bytes, *, now: float, redactor: Redactor | None = None
) -> APIError:
    """Return the typed error for a response, with a hint where fal's status is misleading."""
    error = errors.from_response(status, headers, body, now=now, redactor=redactor or Redactor())
    if isinstance(error, PermissionDeniedError) and "locked" in error.message.lower():
        error.message += " (This is about the account's balance, not about the key.)"
    detail = error.body.get("detail") if responses.is_object(error.body) else None
    first = detail[0] if responses.is_list(detail) and detail else None
    if responses.is_object(first):
        location = first.get("loc")
        error.type = _text(first.get("type")) or error.type
        if responses.is_list(location):
            error.param = ".".join(map(errors.to_text, location))
    error.type = error.type or headers.get("x-fal-error-type")
    return error


def retry_cause(
    error: APIError, headers: Mapping[str, str], *, is_final: bool, non_idempotent: bool
) -> RetryCause | None:
    """Return why a request may be retried after an error, or None if it must not be retried.

    Args:
        error: The error of the response.
        headers: The response's headers, names in lower case.
        is_final: Whether a response with `x-fal-request-id` is the endpoint's own, which fal's queue has already
            retried up to ten times.
        non_idempotent: Whether sending the request twice could be billed twice.
    """
    if not is_final and not non_idempotent:
        return RetryCause("status", error.status, error.retry_after)
    if error.status in (408, 409) and non_idempotent:
        return None
    if error.status in _RETRY_STATUSES:
        return RetryCause("status", 429 if error.status == 409 else error.status, error.retry_after)
    if "x-fal-request-id" in headers or "x-fal-request-timeout-type" in headers:
        return None
    # The gateway did not accept the request (503), or may have accepted it (502, 504).
    can_retry = error.status == 503 or (error.status in _GATEWAY_STATUSES and not non_idempotent)
    return RetryCause("status", error.status, error.retry_after) if can_retry else None


def request_error(status: Completed) -> MoondreamError:
    """Return the error of a request that failed without an error response of its own."""
    error = ServerError(status.error or "The request failed.", status=500, type=status.error_type)
    error.request_id = status.request_id
    return error


def normalize_skill_response(field: str, data: Any, request_id: str) -> Object:
    """Convert a response of `moondream3-preview/*` to the format of Moondream's own API."""
    if not responses.is_object(data):
        raise responses.InvalidResponse("it is not a JSON object")
    fields = dict(data)
    if "output" in fields:
        fields[field] = fields.pop("output")
    usage = fields.pop("usage_info", None)
    if isinstance(usage, dict):
        fields["metrics"] = usage
    if field == "path" and fields.get("path") is None:  # the object was not found
        fields["path"] = ""
    return {"request_id": request_id, **fields}


def parse_batched(data: Any, request_id: str) -> BatchedResult:
    """Parse the response of `fal-ai/moondream/batched`."""
    if not responses.is_object(data) or not responses.is_list(data.get("outputs")):
        raise responses.InvalidResponse("it has no 'outputs' list")
    fields = dict(data)
    outputs = fields.pop("outputs")
    names = fields.pop("filenames", None)
    return BatchedResult(
        outputs=tuple(str(output) for output in outputs),
        partial=fields.pop("partial", None),
        timings=fields.pop("timings", None) or {},
        filenames=None if names is None else tuple(str(name) for name in names),
        request_id=request_id,
        extra=fields,
    )


def parse_webhook(body: bytes) -> WebhookEvent:
    """Parse the body of a webhook.

    Raises:
        InvalidResponse: The body is not JSON or has no request id.
    """
    try:
        data: Any = json.loads(body)
    except (ValueError, RecursionError):
        raise responses.InvalidResponse("it is not JSON") from None
    if not responses.is_object(data) or not isinstance(data.get("request_id"), str):
        raise responses.InvalidResponse("it has no 'request_id'")
    return WebhookEvent(
        request_id=data["request_id"],
        gateway_request_id=_text(data.get("gateway_request_id")),
        ok=data.get("status") == "OK",
        payload=data.get("payload"),
        error=_text(data.get("error")),
        payload_error=_text(data.get("payload_error")),
    )


def _log(entry: Object) -> Log:
    return Log(
        message=errors.to_text(entry.get("message", "")),
        level=_text(entry.get("level")),
        timestamp=_text(entry.get("timestamp")),
        source=_text(entry.get("source")),
    )


def _text(value: Any) -> str | None:
    return None if value is None else errors.to_text(value)
