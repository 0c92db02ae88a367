"""Looking on while calls are made: what a user's own functions are told, and the counters of a client."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import attrs

from ._hidden import hide_credentials
from .errors import ConfigurationError
from .types import Metrics


@attrs.define(eq=False)
class CallInfo:
    """One logical call: the same object in all that hooks are told about it.

    Attributes:
        number: Counts the calls of this process.
        operation: The skill, or route, that is called: `"query"`, `"caption"`, ... , `"models"`.
        model: The model asked for; None is the server's default.
        stream: Whether it asked for a stream.
        base_url: The server.
        started: When it was made, as `time.time()`.
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
        headers: Put headers in here to have them sent with this request, such as `traceparent`. They cannot
            replace the client's own.
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
    """The call will be tried again.

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
    """An event of a stream has come.

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
    """The call is over: it has its result, an error, or was cancelled or left early.

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
    """Functions that are told how calls go: `AsyncClient(hooks=Hooks(retry=print))`.

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
    """Read what a user may pass: one or several."""
    several = (hooks,) if isinstance(hooks, Hooks) else hooks
    if isinstance(several, Sequence) and all(isinstance(each, Hooks) for each in several):
        return tuple(several)
    raise ConfigurationError(f"hooks must be Hooks(...) or a list of them, not {type(hooks).__name__}.")


@attrs.frozen(kw_only=True)
class Stats:
    """The counters of a client and its clones, at one moment.

    Attributes:
        in_flight: Calls that have their slot: their images are prepared, they wait for their pace, or for answers.
        waiting: Calls that wait for a slot (`max_connections`).
        calls: Calls made.
        requests: Requests sent; each attempt is one.
        retries: Times a call was tried again.
        rate_limited: Answers that said 429, or what means the same.
        bytes_sent: Bytes of all request bodies.
        input_tokens: Of all answers that told.
        output_tokens: Of all answers that told.
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
