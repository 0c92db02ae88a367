"""Things that go wrong on purpose: latency, rate limits, error bursts, cut, slow and malformed streams."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import attrs

from .._public import public

HEADER = "x-sandbox-fault"
SHAPES = ("engine", "docs", "text", "station", "final")


def _number(least: float, most: float) -> Any:
    def check(_: Any, field: Any, value: float) -> None:
        if not least <= value <= most:  # false for NaN, too
            raise ValueError(f"{field.name} must be from {least:g} to {most:g}, not {value!r}")

    return check


def _status(_: Any, __: Any, value: int) -> None:
    if value and not 400 <= value <= 599:
        raise ValueError(f"status must be from 400 to 599, or 0 for none, not {value!r}")


def _shape(_: Any, __: Any, value: str) -> None:
    if value not in SHAPES:
        raise ValueError(f"shape must be one of {', '.join(SHAPES)}, not {value!r}")


@public("sandbox")
@attrs.frozen(kw_only=True)
class Faults:
    """What should go wrong; the defaults are a server in good health.

    By request, in the header `X-Sandbox-Fault`, as `name=value` pairs between semicolons:
    `X-Sandbox-Fault: status=503; times=2; id=my-test`.

    Args:
        latency: Seconds before any answer.
        status: An error status to answer with, or 0 for none.
        times: How often to answer so, before answers are good again; counted over the server's life,
            or, with an `id`, for each id. 0 means always.
        id: Tells counts apart, by request header only.
        retry_after: Seconds in a `Retry-After` header of every 429 and 503; below 0 sends none.
        shape: How text streams are written: `engine` (pieces, then a final event with the whole text),
            `docs` (chunk and completed), `text` (the demo's `{"text"}`), `station` (chunk, stats,
            completed), `final` (one event with the whole text).
        cut: Cut the connection after so many events of a stream; below 0 never.
        drip: Seconds between every 16 bytes of a stream.
        malformed: Which event of a stream to damage, counted from 0; below 0 none.
        error_event: Which event of a stream to replace by `{"error": ...}`; below 0 none.
        endless: Whether a stream's first event never ends (it does, after 64 MB).
        queue: Seconds that a request of fal's queue waits at least; that a batch is chunked.
        work: Seconds that it is worked on, at least.
        drop: Whether the request is done, and the answer lost, where `status` would refuse it.
        on: To which requests `latency`, `status` and `drop` happen; all if empty. Of Moondream's: a skill's name,
            `models`, `mpu-create`, `mpu-uploadpart`, `mpu-complete`, `mpu-abort`, `batch` (list and retrieve), `output`
            (files of results; `cut` too), `finetunes`, `rollouts`, `train_step`, `metrics`, `checkpoints`. Of fal's:
            `submit`, `status`, `stream`, `result`, `cancel`, `run`, `token`, `upload`, `multipart`, `part`, `complete`,
            `initiate`, `presigned`.
        chunk: Lines of a batch whose results go into one file.
        broken_line: Which line of a batch fails with `processing_error`, counted from 0; below 0 none.
        batch_error: The code with which batches fail half-way: `processing_failed` or `timeout`; empty for none.
        url_lifetime: Seconds for which the address of a file of results can be used.
        retention: Seconds after which results are deleted. Default 7 days.
    """

    latency: float = attrs.field(default=0.0, validator=_number(0, 600))
    status: int = attrs.field(default=0, validator=_status)
    times: int = attrs.field(default=1, validator=_number(0, 1_000_000))
    id: str = ""
    retry_after: float = 1.0
    shape: str = attrs.field(default="engine", validator=_shape)
    cut: int = -1
    drip: float = attrs.field(default=0.0, validator=_number(0, 60))
    malformed: int = -1
    error_event: int = -1
    endless: bool = False
    queue: float = attrs.field(default=0.02, validator=_number(0, 600))
    work: float = attrs.field(default=0.05, validator=_number(0, 600))
    drop: bool = False
    on: str = ""
    chunk: int = attrs.field(default=10_000, validator=_number(1, 100_000))
    broken_line: int = -1
    batch_error: str = ""
    url_lifetime: float = attrs.field(default=3600.0, validator=_number(0, 604_800))
    retention: float = attrs.field(default=604_800.0, validator=_number(0, 604_800))

    def with_header(self, text: str | None) -> Faults:
        """These faults, changed by a request's header.

        Raises:
            ValueError: The header names an unknown fault, or a value cannot be read.
        """
        if not text:
            return self
        fields = attrs.fields_dict(Faults)
        changes: dict[str, Any] = {}
        for pair in filter(None, (part.strip() for part in text.split(";"))):
            name, _, value = (word.strip() for word in pair.partition("="))
            if name not in fields:
                raise ValueError(f"unknown fault {name!r}; there are {', '.join(fields)}")
            changes[name] = _read(getattr(self, name), value)
        return attrs.evolve(self, **changes)


def _read(present: object, text: str) -> object:
    """The text as a value of the same type as the present one."""
    if isinstance(present, bool):
        return text.lower() in ("1", "true", "yes")
    return type(present)(text)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


class Burst:
    """Counts the failures that were asked for and are still due."""

    def __init__(self) -> None:
        self._sent: Counter[str] = Counter()

    def due(self, faults: Faults) -> bool:
        """Whether this request is to fail."""
        if not faults.status and not faults.drop:
            return False
        self._sent[faults.id] += 1
        return faults.times == 0 or self._sent[faults.id] <= faults.times


class RateLimit:
    """A token bucket: `rate` requests a second, as many at once after a pause."""

    def __init__(self, rate: float | None) -> None:
        self._rate = rate
        self._tokens = max(1.0, rate or 0.0)
        self._seen = time.monotonic()

    def allows(self) -> bool:
        """Take a token, if there is one."""
        if self._rate is None:
            return True
        now = time.monotonic()
        self._tokens = min(max(1.0, self._rate), self._tokens + (now - self._seen) * self._rate)
        self._seen = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


def from_headers(defaults: Faults, headers: Mapping[str, str]) -> Faults:
    """The faults of one request."""
    return defaults.with_header(headers.get(HEADER))
