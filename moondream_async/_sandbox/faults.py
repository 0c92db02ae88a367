"""Injected faults: latency, rate limits, error statuses, and cut, slow or malformed streams."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import attrs

from .._public import public

HEADER = "x-sandbox-fault"
SHAPES = ("engine", "docs", "text", "station", "final")


def _in_range(low: float, high: float) -> Any:
    def check(_: Any, field: Any, value: float) -> None:
        if not low <= value <= high:  # also rejects NaN
            raise ValueError(f"{field.name} must be from {low:g} to {high:g}, not {value!r}")

    return check


def _check_status(_: Any, __: Any, value: int) -> None:
    if value and not 400 <= value <= 599:
        raise ValueError(f"status must be from 400 to 599, or 0 for none, not {value!r}")


def _check_shape(_: Any, __: Any, value: str) -> None:
    if value not in SHAPES:
        raise ValueError(f"shape must be one of {', '.join(SHAPES)}, not {value!r}")


@public("sandbox")
@attrs.frozen(kw_only=True)
class Faults:
    """Faults that the sandbox injects; the defaults inject none.

    For a single request, pass `name=value` pairs, separated by semicolons, in the header `X-Sandbox-Fault`:
    `X-Sandbox-Fault: status=503; times=2; id=my-test`.

    Args:
        latency: Delay before every response, in seconds, 0 to 600. Default 0.
        status: Respond with this error status, 400 to 599; 0 (default) for none.
        times: Number of requests that fail before requests succeed again, counted over the server's lifetime or, with
            an `id`, separately for each id. Default 1; 0 means all.
        id: Name of a separate count, for use in the request header.
        retry_after: Seconds in the `Retry-After` header of each 429 and 503. Default 1; below 0 sends no header.
        shape: Format of text streams: `engine` (default; chunks, then a final event with the whole text), `docs`
            (chunks with `completed`), `text` (the demo's `{"text"}`), `station` (chunks, `stats`, `completed`), or
            `final` (one event with the whole text).
        cut: Cut the connection after this number of stream events; below 0 (default) never.
        drip: Delay after every 16 bytes of a stream, in seconds, 0 to 60. Default 0.
        malformed: Index of the stream event to corrupt, from 0; below 0 (default) none.
        error_event: Index of the stream event to replace with `{"error": ...}`, from 0; below 0 (default) none.
        endless: Whether the first event of a stream continues without end (the sandbox stops after 64 MB).
        queue: Minimum time in seconds that a request waits in fal's queue, and that a batch stays in `chunking`.
            Default 0.02.
        work: Minimum time in seconds that the request or batch takes to process. Default 0.05.
        drop: Process the request, then drop the connection before the response. Counted by `times`.
        on: Kind of request that `latency`, `status` and `drop` apply to; empty (default) for all. Moondream: the name
            of a skill, `chat`, `models`, `mpu-create`, `mpu-uploadpart`, `mpu-complete`, `mpu-abort`, `batch` (list and
            retrieve), `output` (result files; here `cut` applies too), `finetunes`, `rollouts`, `train_step`,
            `metrics`, `checkpoints`. fal.ai: `submit`, `status`, `stream`, `result`, `cancel`, `run`, `token`,
            `upload`, `multipart`, `part`, `complete`, `initiate`, `presigned`.
        chunk: Number of batch lines per result file. Default 10,000.
        broken_line: Index of the batch line that fails with `processing_error`, from 0; below 0 (default) none.
        batch_error: Error code with which batches fail halfway: `processing_failed` or `timeout`; empty (default) for
            none.
        url_lifetime: Lifetime of the URLs of result files, in seconds. Default 3600.
        retention: Time until results are deleted, in seconds. Default 604,800 (7 days).

    Raises:
        ValueError: A value is out of range.
    """

    latency: float = attrs.field(default=0.0, validator=_in_range(0, 600))
    status: int = attrs.field(default=0, validator=_check_status)
    times: int = attrs.field(default=1, validator=_in_range(0, 1_000_000))
    id: str = ""
    retry_after: float = 1.0
    shape: str = attrs.field(default="engine", validator=_check_shape)
    cut: int = -1
    drip: float = attrs.field(default=0.0, validator=_in_range(0, 60))
    malformed: int = -1
    error_event: int = -1
    endless: bool = False
    queue: float = attrs.field(default=0.02, validator=_in_range(0, 600))
    work: float = attrs.field(default=0.05, validator=_in_range(0, 600))
    drop: bool = False
    on: str = ""
    chunk: int = attrs.field(default=10_000, validator=_in_range(1, 100_000))
    broken_line: int = -1
    batch_error: str = ""
    url_lifetime: float = attrs.field(default=3600.0, validator=_in_range(0, 604_800))
    retention: float = attrs.field(default=604_800.0, validator=_in_range(0, 604_800))

    def with_header(self, text: str | None) -> Faults:
        """Return a copy with the changes of an `X-Sandbox-Fault` header.

        Args:
            text: Value of the header; None or empty changes nothing.

        Raises:
            ValueError: The header names an unknown fault, or a value is invalid.
        """
        if not text:
            return self
        fields = attrs.fields_dict(Faults)
        changes: dict[str, Any] = {}
        for pair in filter(None, (part.strip() for part in text.split(";"))):
            name, _, value = (word.strip() for word in pair.partition("="))
            if name not in fields:
                raise ValueError(f"unknown fault {name!r}; there are {', '.join(fields)}")
            changes[name] = _parse_value(getattr(self, name), value)
        return attrs.evolve(self, **changes)


def _parse_value(default: object, text: str) -> object:
    """Parse the text as a value of the same type as `default`."""
    if isinstance(default, bool):
        return text.lower() in ("1", "true", "yes")
    return type(default)(text)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


class FaultCounter:
    """Counts injected failures by fault id."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def is_due(self, faults: Faults) -> bool:
        """Count a request; return whether it should fail."""
        if not faults.status and not faults.drop:
            return False
        self._counts[faults.id] += 1
        return faults.times == 0 or self._counts[faults.id] <= faults.times


class RateLimit:
    """A token bucket: `rate` requests per second, with bursts of the same size."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._tokens = max(1.0, rate or 0.0)
        self._updated = time.monotonic()

    def try_acquire(self) -> bool:
        """Take a token if one is available; return whether one was."""
        if self._rate is None:
            return True
        now = time.monotonic()
        self._tokens = min(max(1.0, self._rate), self._tokens + (now - self._updated) * self._rate)
        self._updated = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def faults_for(defaults: Faults, headers: Mapping[str, str]) -> Faults:
    """Return the faults of one request: the defaults with the changes of its header."""
    return defaults.with_header(headers.get(HEADER))
