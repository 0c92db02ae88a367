"""Hooks: the user's functions that observe calls; and the counters of a client."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import attrs

from ._hidden import hide_credentials
from .errors import ConfigurationError
from .types import Metrics


@attrs.define(eq=False)
class CallInfo:
    """One logical call; all events of a call share one object.

    Attributes:
        number: Counts the calls of this process.
        operation: The skill or route: `"query"`, `"caption"`, ... , `"models"`; for fal.ai `"submit"`, `"status"`,
            `"result"`, `"cancel"`, `"upload"` or `"webhook_keys"`.
        model: The requested model; None is the server's default.
        stream: Whether the answer is streamed.
        base_url: The server.
        started: When the call started, as `time.time()`.
        context: For the hooks' own use, such as a span.
    """

    number: int
    operation: str
    model: str | None
    stream: bool
    base_url: str
    started: float
    context: dict[str, Any] = attrs.field(factory=dict[str, Any], repr=False)


@attrs.frozen(eq=False)
class RequestInfo:
    """A request is about to be sent.

    Attributes:
        call: The call.
        attempt: 1 for the first request of the call.
        nbytes: Bytes of its body.
        headers: Add headers here to send them with this request, such as `traceparent`. They cannot
            replace the client's own headers.
    """

    call: CallInfo
    attempt: int
    nbytes: int
    headers: dict[str, str] = attrs.field(factory=dict[str, str], repr=lambda headers: repr(hide_credentials(headers)))


@attrs.frozen(eq=False)
class ResponseInfo:
    """A request was answered (of a stream: up to its first event), or failed.

    Attributes:
        call: The call.
        attempt: Which request of the call.
        status: The HTTP status; None if no answer came.
        elapsed: Seconds since the request was sent.
        error: What is wrong with the answer, or the connection; None if nothing is.
    """

    call: CallInfo
    attempt: int
    status: int | None
    elapsed: float
    error: Exception | None


@attrs.frozen(eq=False)
class RetryInfo:
    """The call will be retried.

    Attributes:
        call: The call.
        attempt: The request that failed.
        delay: Seconds until the next.
        error: Why it failed.
    """

    call: CallInfo
    attempt: int
    delay: float
    error: Exception


@attrs.frozen(eq=False)
class EventInfo:
    """An event of a stream was received.

    Attributes:
        call: The call.
        index: 0 for the first.
        elapsed: Seconds since the call was made: of the first event, the time to the first token.
        data: The event as it came.
    """

    call: CallInfo
    index: int
    elapsed: float
    data: Mapping[str, Any]


@attrs.frozen(eq=False)
class EndInfo:
    """The call ended: with a result, an error, a cancellation, or because its stream was closed early.

    Attributes:
        call: The call.
        attempts: How many requests were sent.
        elapsed: Seconds since the call was made.
        error: What the caller is raised, `CancelledError` included; None for a result or a stream that was closed.
        request_id: The server's id of it, where it sent one.
        finish_reason: Why the model stopped, where it said so.
        metrics: Tokens and times, where they were sent.
    """

    call: CallInfo
    attempts: int
    elapsed: float
    error: BaseException | None = None
    request_id: str | None = None
    finish_reason: str | None = None
    metrics: Metrics | None = None


def _callable(_: Any, field: Any, value: Any) -> None:
    if value is not None and not callable(value):
        raise ConfigurationError(f"The hook {field.name!r} must be a function, not {type(value).__name__}.")


@attrs.frozen(kw_only=True)
class Hooks:
    """Functions that observe calls: `AsyncClient(hooks=Hooks(retry=print))`.

    Each takes one value and may be async; a call waits for its hooks, so keep them short. An error in one is
    logged, and has no other effect. `Client` runs them in its background thread.

    Args:
        request: `RequestInfo`, before each request.
        response: `ResponseInfo`, after each.
        retry: `RetryInfo`, before the wait for another attempt.
        event: `EventInfo`, for each event of a stream.
        end: `EndInfo`, once for each call that sent a request or was about to.

    Raises:
        ConfigurationError: One is not a function.
    """

    request: Callable[[RequestInfo], Any] | None = attrs.field(default=None, validator=_callable)
    response: Callable[[ResponseInfo], Any] | None = attrs.field(default=None, validator=_callable)
    retry: Callable[[RetryInfo], Any] | None = attrs.field(default=None, validator=_callable)
    event: Callable[[EventInfo], Any] | None = attrs.field(default=None, validator=_callable)
    end: Callable[[EndInfo], Any] | None = attrs.field(default=None, validator=_callable)


HooksInput: TypeAlias = Hooks | Sequence[Hooks]


def check_hooks(hooks: HooksInput) -> tuple[Hooks, ...]:
    """Return the hooks as a tuple; the user may pass one or several."""
    several = (hooks,) if isinstance(hooks, Hooks) else hooks
    if isinstance(several, Sequence) and all(isinstance(each, Hooks) for each in several):
        return tuple(several)
    raise ConfigurationError(f"hooks must be Hooks(...) or a list of them, not {type(hooks).__name__}.")


@attrs.frozen(kw_only=True)
class ServerStats:
    """The counters of one of several servers.

    Attributes:
        base_url: The server.
        is_healthy: False after a failure, until a call succeeds.
        in_flight: Calls that it has.
        requests: Requests sent to it.
        failures: Requests that failed with a connection error, a timeout or a 5xx response.
        rate_limited: Requests that it refused with 429, or because its queue was full.
        rate: The current limit in requests per second; None for no limit.
    """

    base_url: str
    is_healthy: bool = True
    in_flight: int = 0
    requests: int = 0
    failures: int = 0
    rate_limited: int = 0
    rate: float | None = None


@attrs.frozen(kw_only=True)
class Stats:
    """A snapshot of the counters of a client and its clones.

    Attributes:
        in_flight: Calls that have a slot: preparing their image, waiting for the rate limit, or waiting for the answer.
        waiting: Calls waiting for a slot (`max_connections`).
        calls: Calls started.
        requests: Requests sent; each attempt counts.
        retries: Retries of calls.
        rate_limited: Answers with status 429, or an equivalent such as a full queue.
        bytes_sent: The bytes of all request bodies.
        input_tokens: The input tokens of all answers.
        output_tokens: The output tokens of all answers.
        servers: Each of several servers, in the order of `base_url`; empty if there is only one.
    """

    in_flight: int = 0
    waiting: int = 0
    calls: int = 0
    requests: int = 0
    retries: int = 0
    rate_limited: int = 0
    bytes_sent: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    servers: tuple[ServerStats, ...] = ()
