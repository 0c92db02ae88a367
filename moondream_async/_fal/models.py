"""What fal.ai's queue and its Moondream endpoints answer: frozen, slotted values."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import attrs

from .._public import public
from .._scalars import to_python
from ..errors import ConfigurationError, MoondreamError
from ..types import Fields


@public("fal")
@attrs.frozen(kw_only=True)
class Log:
    """A line that the model's process wrote.

    Attributes:
        message: The line.
        level: `STDERR`, `STDOUT`, `ERROR`, `INFO`, `WARN` or `DEBUG`; None if not sent.
        timestamp: As sent, ISO 8601.
        source: `USER`, or as sent.
    """

    message: str
    level: str | None = None
    timestamp: str | None = None
    source: str | None = None


@public("fal")
@attrs.frozen(kw_only=True)
class Queued:
    """The request waits for a runner.

    Attributes:
        request_id: The request.
        position: How many are before it; None if not sent.
    """

    request_id: str
    position: int | None = None


@public("fal")
@attrs.frozen(kw_only=True)
class InProgress:
    """A runner works on the request.

    Attributes:
        request_id: The request.
        logs: Of `status()`, those fal keeps; of `events()`, those that were not told before. Empty unless asked for.
    """

    request_id: str
    logs: tuple[Log, ...] = ()


@public("fal")
@attrs.frozen(kw_only=True)
class Completed:
    """The request is over; which does not mean that it succeeded: failed and cancelled ones are completed, too.

    Attributes:
        request_id: The request.
        logs: As in `InProgress`.
        metrics: Such as `inference_time`, in seconds.
        error: What failed, in fal's words; None if nothing did.
        error_type: Its kind, such as `bad_request`.
    """

    request_id: str
    logs: tuple[Log, ...] = ()
    metrics: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    error: str | None = None
    error_type: str | None = None


Status: TypeAlias = Queued | InProgress | Completed
"""Where a request is; there are no other states."""


@public("fal")
@attrs.frozen(kw_only=True)
class BatchedResult(Fields):
    """The answer of `fal-ai/moondream/batched`.

    Attributes:
        outputs: A text for each input. (That their order is that of the inputs is not documented.)
        partial: Whether only some inputs were answered; None if not sent.
        timings: Seconds by stage, as sent.
        filenames: As sent; None if not.
        request_id: fal's name for the request.
        extra: Every field of the answer that has no attribute here.
    """

    outputs: tuple[str, ...]
    partial: bool | None = None
    timings: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    filenames: tuple[str, ...] | None = None
    request_id: str | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any])


@public("fal")
@attrs.frozen(kw_only=True)
class AclRule:
    """What one other user may do with a file.

    Args:
        user: fal's name of the user.
        decision: `allow`; `forbid` answers 403, `hide` 404.
    """

    user: str
    decision: Literal["allow", "forbid", "hide"]


_DECISIONS = ("allow", "forbid", "hide")
_PERIODS = {"immediate": 60, "1h": 3600, "1d": 86_400, "7d": 604_800, "30d": 2_592_000, "1y": 31_536_000}


def _expiry(_: Any, __: Any, value: Any) -> None:
    is_seconds = isinstance(value, int) and not isinstance(value, bool) and value > 0
    if value is not None and not is_seconds and value not in (*_PERIODS, "never"):
        known = ", ".join(_PERIODS)
        raise ConfigurationError(f"expires_in must be seconds, 'never' or one of {known}, not {value!r}.")


def _optional_decision(_: Any, __: Any, value: Any) -> None:
    if value is not None and value not in _DECISIONS:
        raise ConfigurationError(f"A decision must be one of {', '.join(_DECISIONS)}, not {value!r}.")


@public("fal")
@attrs.frozen(kw_only=True)
class Lifecycle:
    """How long an uploaded file is kept, and who may read it. Nothing set: fal's defaults.

    Args:
        expires_in: Seconds, or `"immediate"` (60 s), `"1h"`, `"1d"`, `"7d"`, `"30d"`, `"1y"`, `"never"`.
        default: For everyone: `allow`, `forbid` or `hide`.
        rules: For some users.

    Raises:
        ConfigurationError: A value is none of these.
    """

    expires_in: int | str | None = attrs.field(default=None, converter=to_python, validator=_expiry)
    default: Literal["allow", "forbid", "hide"] | None = attrs.field(default=None, validator=_optional_decision)
    rules: tuple[AclRule, ...] = attrs.field(default=(), converter=tuple)

    def to_wire(self) -> dict[str, Any]:
        """The header's JSON; empty if nothing is set."""
        wire: dict[str, Any] = {}
        if self.expires_in not in (None, "never"):
            wire["expiration_duration_seconds"] = _PERIODS.get(str(self.expires_in), self.expires_in)
        if self.default is not None or self.rules:
            acl: dict[str, Any] = {} if self.default is None else {"default": self.default}
            if self.rules:
                acl["rules"] = [attrs.asdict(rule) for rule in self.rules]
            wire["initial_acl"] = acl
        return wire


@public("fal")
@attrs.frozen(kw_only=True)
class WebhookEvent:
    """What fal posted when a request was over; delivered at least once: tell repeats by `request_id`.

    Attributes:
        request_id: The request.
        gateway_request_id: The last attempt at it.
        ok: Whether it succeeded (wire field `status`, `OK` or `ERROR`).
        payload: The result, as the endpoint answers; of a failed one, the endpoint's error.
        error: What failed, in fal's words.
        payload_error: Why there is no payload.
    """

    request_id: str
    gateway_request_id: str | None = None
    ok: bool
    payload: Any = None
    error: str | None = None
    payload_error: str | None = None


@public("fal")
class WebhookVerificationError(MoondreamError):
    """The request is not fal's, was changed, or is too old: answer it with 4xx, and do nothing else."""
