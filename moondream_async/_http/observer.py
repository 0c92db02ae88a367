"""Report the steps of a call to the log and to the user's hooks; imported only if there are any."""

from __future__ import annotations

import inspect
import itertools
import time
from collections.abc import Callable
from typing import Any

import anyio

from .._log import log
from .._printable import one_line
from .._wire.retry import describe_attempt
from ..errors import MoondreamError
from ..hooks import CallInfo, EndInfo, EventInfo, Hooks, RequestInfo, ResponseInfo, RetryInfo
from ..types import Metrics

_MAX_REASON = 300  # characters of an error in the log; the server's text may be longer
_call_numbers = itertools.count(1)


class CallObserver:
    """Reports the steps of one call to the log and the hooks. Payloads and keys are never logged."""

    def __init__(
        self, hooks: tuple[Hooks, ...], operation: str, model: str | None, base_url: str, *, stream: bool
    ) -> None:
        self.call = CallInfo(next(_call_numbers), operation, model, stream, base_url, time.time())
        self._hooks = hooks
        self._started = time.monotonic()
        self._events = 0
        self._ended = False

    async def request(self, attempt: int, nbytes: int) -> dict[str, str]:
        """Report that a request is about to be sent; return the headers that hooks add to it."""
        log.debug("call %d: %s, request %d, %d bytes", self.call.number, self.call.operation, attempt, nbytes)
        info = RequestInfo(self.call, attempt, nbytes)
        for hooks in self._hooks:
            await _call_hook(hooks.request, info)
        return info.headers

    async def response(self, attempt: int, status: int | None, sent: float, error: Exception | None) -> None:
        """Report the response to a request, or its failure."""
        elapsed = time.monotonic() - sent
        outcome = "no response" if status is None else f"status {status}"
        suffix = "" if error is None else f", {type(error).__name__}"
        log.debug("call %d: %s after %.3f s%s", self.call.number, outcome, elapsed, suffix)
        info = ResponseInfo(self.call, attempt, status, elapsed, error)
        for hooks in self._hooks:
            await _call_hook(hooks.response, info)

    async def retry(self, attempt: int, delay: float, error: MoondreamError, attempts: int) -> None:
        """Report that the call will be retried; `attempts` is the retry policy's."""
        number, name = self.call.number, self.call.operation
        next_attempt = describe_attempt(attempt + 1, attempts, error)
        reason = one_line(error.message)[:_MAX_REASON]  # without secrets: they were redacted when it was received
        log.info("call %d, %s: waiting %.1f s before %s: %s", number, name, delay, next_attempt, reason)
        info = RetryInfo(self.call, attempt, delay, error)
        for hooks in self._hooks:
            await _call_hook(hooks.retry, info)

    async def event(self, data: dict[str, Any]) -> None:
        """Report an event of the stream."""
        info = EventInfo(self.call, self._events, time.monotonic() - self._started, data)
        self._events += 1
        for hooks in self._hooks:
            await _call_hook(hooks.event, info)

    async def end(
        self,
        *,
        attempts: int = 0,
        error: BaseException | None = None,
        request_id: str | None = None,
        finish_reason: str | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """Report the end of the call; further calls do nothing."""
        if self._ended:
            return
        self._ended = True
        elapsed = time.monotonic() - self._started
        outcome = "done" if error is None else type(error).__name__
        log.debug("call %d: %s after %.3f s, %d request(s)", self.call.number, outcome, elapsed, attempts)
        info = EndInfo(self.call, attempts, elapsed, error, request_id, finish_reason, metrics)
        with anyio.CancelScope(shield=True):  # hooks also learn that a call was cancelled
            for hooks in self._hooks:
                await _call_hook(hooks.end, info)


async def _call_hook(hook: Callable[[Any], Any] | None, info: object) -> None:
    if hook is None:
        return
    try:
        returned = hook(info)
        if inspect.isawaitable(returned):
            await returned
    except Exception:
        log.exception("A hook failed; the call continues.")
