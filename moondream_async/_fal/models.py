"""Responses of fal.ai's queue and its Moondream endpoints, as frozen values (pure)."""

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
class Log(Fields):
    """A log line of the model's process. Also readable like `fal-client`'s dicts: `log["message"]`.

    Attributes:
        message: Text of the line.
        level: `STDERR`, `STDOUT`, `ERROR`, `INFO`, `WARN` or `DEBUG`; None if not sent.
        timestamp: ISO 8601, as sent; None if not sent.
        source: As sent, for instance `USER`; None if not sent.
    """

    message: str
    level: str | None = None
    timestamp: str | None = None
    source: str | None = None


@public("fal")
@attrs.frozen(kw_only=True)
class Queued:
    """The request is waiting for a runner.

    Attributes:
        request_id: The request's id.
        position: Number of requests ahead of it (wire field `queue_position`); None if not sent.
    """

    request_id: str
    position: int | None = None


@public("fal")
@attrs.frozen(kw_only=True)
class InProgress:
    """A runner is working on the request.

    Attributes:
        request_id: The request's id.
        logs: Log lines, if requested with `logs=True`: from `status()`, all that fal keeps; from `events()`, only new
            ones.
    """

    request_id: str
    logs: tuple[Log, ...] = ()


@public("fal")
@attrs.frozen(kw_only=True)
class Completed:
    """The request is finished: it succeeded, failed or was cancelled.

    Attributes:
        request_id: The request's id.
        logs: As in `InProgress`.
        metrics: Metrics such as `inference_time`, in seconds.
        error: fal's error message; None if the request succeeded.
        error_type: Type of the error, such as `bad_request`.
    """

    request_id: str
    logs: tuple[Log, ...] = ()
    metrics: Mapping[str, Any] = attrs.field(factory=dict[str, Any])
    error: str | None = None
    error_type: str | None = None


Status: TypeAlias = Queued | InProgress | Completed
"""The state of a request. There are no other states."""


@public("fal")
@attrs.frozen(kw_only=True)
class BatchedResult(Fields):
    """The response of `fal-ai/moondream/batched`.

    Attributes:
        outputs: A text for each input. fal does not document that they are in the order of the inputs.
        partial: Whether only some inputs were answered; None if not sent.
        timings: Seconds by stage, as sent.
        filenames: As sent; None if not sent.
        request_id: The request's id at fal.
        extra: Fields of the response that have no attribute here.
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
    """Access of one other user to a file.

    Args:
        user: The user's id at fal.
        decision: `allow`, `forbid` (requests get 403) or `hide` (requests get 404).
    """

    user: str
    decision: Literal["allow", "forbid", "hide"]


_DECISIONS = ("allow", "forbid", "hide")
_PERIODS = {"immediate": 60, "1h": 3600, "1d": 86_400, "7d": 604_800, "30d": 2_592_000, "1y": 31_536_000}


def _check_expiry(_: Any, __: Any, value: Any) -> None:
    is_seconds = isinstance(value, int) and not isinstance(value, bool) and value > 0
    if value is not None and not is_seconds and value not in (*_PERIODS, "never"):
        known = ", ".join(_PERIODS)
        raise ConfigurationError(f"expires_in must be seconds, 'never' or one of {known}, not {value!r}.")


def _check_default(_: Any, __: Any, value: Any) -> None:
    if value is not None and value not in _DECISIONS:
        raise ConfigurationError(f"default must be one of {', '.join(_DECISIONS)}, not {value!r}.")


@public("fal")
@attrs.frozen(kw_only=True)
class Lifecycle:
    """How long an uploaded file is kept, and who may read it. Values that are not set have fal's defaults.

    Args:
        expires_in: Seconds, or `"immediate"` (60 s), `"1h"`, `"1d"`, `"7d"`, `"30d"`, `"1y"`, `"never"`.
        default: Access of everyone: `allow`, `forbid` or `hide`.
        rules: Access of single users.

    Raises:
        ConfigurationError: A value is invalid.
    """

    expires_in: int | str | None = attrs.field(default=None, converter=to_python, validator=_check_expiry)
    default: Literal["allow", "forbid", "hide"] | None = attrs.field(default=None, validator=_check_default)
    rules: tuple[AclRule, ...] = attrs.field(default=(), converter=tuple)

    def to_wire(self) -> dict[str, Any]:
        """Return the header's JSON object; empty if nothing is set."""
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
    """What fal posts when a request is finished. It may be delivered more than once: use `request_id` to detect that.

    Attributes:
        request_id: The request's id.
        gateway_request_id: Id of the last attempt at the request; None if not sent.
        ok: Whether the request succeeded (wire field `status`, `OK` or `ERROR`).
        payload: The endpoint's response; its error if the request failed.
        error: fal's error message; None if the request succeeded.
        payload_error: Why there is no payload; None if there is one.
    """

    request_id: str
    gateway_request_id: str | None = None
    ok: bool
    payload: Any = None
    error: str | None = None
    payload_error: str | None = None


@public("fal")
class WebhookVerificationError(MoondreamError):
    """The request is not from fal, was changed, or is too old. Answer it with a 4xx status and ignore it."""
