"""One call, as the log and the user's hooks see it; imported when somebody looks on."""

from __future__ import annotations

import inspect
import itertools
import time
from collections.abc import Callable
from typing import Any

import anyio

from .._log import log
from ..hooks import CallInfo, EndInfo, EventInfo, Hooks, RequestInfo, ResponseInfo, RetryInfo
from ..types import Metrics

_numbers = itertools.count(1)


class CallObserver:
    """Tells the log and the hooks. No payload and no key is ever logged."""

    def __init__(
        self, hooks: tuple[Hooks, ...], operation: str, model: str | None, base_url: str, *, stream: bool
    ) -> None:
        self.call = CallInfo(next(_numbers), operation, model, stream, base_url, time.time())
        self._hooks = hooks
        self._began = time.monotonic()
        self._events = 0
        self._over = False

    async def request(self, attempt: int, nbytes: int) -> dict[str, str]:
        """A request is about to be sent; returns the headers that hooks want with it."""
        log.debug("call %d: %s, request %d, %d bytes", self.call.number, self.call.operation, attempt, nbytes)
        info = RequestInfo(self.call, attempt, nbytes)
        for hooks in self._hooks:
            await _tell(hooks.request, info)
        return info.headers

    async def response(self, attempt: int, status: int | None, sent: float, error: Exception | None) -> None:
        """A request was answered, or failed."""
        elapsed = time.monotonic() - sent
        told = "no answer" if status is None else f"status {status}"
        wrong = "" if error is None else f", {type(error).__name__}"
        log.debug("call %d: %s after %.3f s%s", self.call.number, told, elapsed, wrong)
        info = ResponseInfo(self.call, attempt, status, elapsed, error)
        for hooks in self._hooks:
            await _tell(hooks.response, info)

    async def retry(self, attempt: int, delay: float, error: Exception) -> None:
        """The call will be tried again."""
        number, name = self.call.number, self.call.operation
        log.info("call %d: %s is tried again in %.2f s after %s", number, name, delay, type(error).__name__)
        info = RetryInfo(self.call, attempt, delay, error)
        for hooks in self._hooks:
            await _tell(hooks.retry, info)

    async def event(self, data: dict[str, Any]) -> None:
        """An event of the stream has come."""
        info = EventInfo(self.call, self._events, time.monotonic() - self._began, data)
        self._events += 1
        for hooks in self._hooks:
            await _tell(hooks.event, info)

    async def end(
        self,
        *,
        attempts: int = 0,
        error: BaseException | None = None,
        request_id: str | None = None,
        finish_reason: str | None = None,
        metrics: Metrics | None = None,
    ) -> None:
        """The call is over; only the first time counts."""
        if self._over:
            return
        self._over = True
        elapsed = time.monotonic() - self._began
        how = "done" if error is None else type(error).__name__
        log.debug("call %d: %s after %.3f s, %d request(s)", self.call.number, how, elapsed, attempts)
        info = EndInfo(self.call, attempts, elapsed, error, request_id, finish_reason, metrics)
        with anyio.CancelScope(shield=True):  # a cancelled call ends too
            for hooks in self._hooks:
                await _tell(hooks.end, info)


async def _tell(hook: Callable[[Any], Any] | None, info: object) -> None:
    if hook is None:
        return
    try:
        answer = hook(info)
        if inspect.isawaitable(answer):
            await answer
    except Exception:
        log.exception("A hook failed; the call goes on.")
