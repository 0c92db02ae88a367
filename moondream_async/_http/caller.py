"""Requests to any address, with retries: what `Sender` is for Moondream's skills, for other services."""

from __future__ import annotations

import functools
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any

import anyio
import attrs
import httpx

from .._concurrency.loop_local import LoopLocal
from .._hidden import hide_credentials, without_query
from .._version import __version__
from .._wire import errors
from .._wire.redact import Redactor
from .._wire.responses import InvalidResponse, decode
from .._wire.retry import RetryCause
from ..config import RetryPolicy, Timeouts
from ..errors import APIError, ConfigurationError, MoondreamError
from . import transport_errors
from .event_stream import event_data
from .payloads import FileBody
from .presigned import Presigned
from .response_body import ResponseTooLargeError, read_all
from .retrying import FailedAttempt, delay_by_policy, is_refusal, run_with_retries
from .session import Session

_MAX_STREAMS = 256  # in each event loop


class BusyError(Exception):
    """As many streams as there may be are open."""


@attrs.frozen(eq=False)
class Request:
    """One request.

    Attributes:
        method: Of HTTP.
        url: Absolute.
        headers: With whatever proves who is asking.
        body: Bytes, or (a part of) a file.
        non_idempotent: Whether it must not be sent again once it may have been received.
        presigned: Where its URL may lead, if a server named it.
    """

    method: str
    url: str = attrs.field(repr=without_query)
    headers: Mapping[str, str] = attrs.field(repr=False)
    body: bytes | FileBody = attrs.field(default=b"", repr=False)
    non_idempotent: bool = False
    presigned: Presigned | None = None

    @property
    def address(self) -> str:
        """The URL, as errors name it: what comes after it can be a signature."""
        return without_query(self.url)


@attrs.frozen(eq=False)
class Answer:
    """An answer with a status of 2xx; header names are in lower case."""

    status: int
    headers: Mapping[str, str] = attrs.field(repr=lambda headers: repr(hide_credentials(headers)))
    body: bytes = attrs.field(repr=False)
    redactor: Redactor = attrs.field(factory=Redactor, repr=False)
    address: str = ""

    def json(self, *, redacted: bool = True) -> Any:
        """Decode the body.

        Args:
            redacted: Whether to keep credentials out of it, should the server repeat them.

        Raises:
            APIError: It is not JSON.
        """
        try:
            data = decode(self.body)
        except InvalidResponse as exc:
            problem = str(exc)
        else:
            return self.redactor.json(data) if redacted and self.redactor.may_be_in(self.body) else data
        raise self.invalid_response(errors.start_of(self.body, self.redactor), problem)

    def invalid_response(self, shown: Any, problem: str) -> APIError:
        """Make the error for an answer that is not what was asked for.

        Args:
            shown: The body, as far as it may be shown.
            problem: What is wrong with it.
        """
        error = invalid_response(self.status, shown, self.redactor.text(problem))
        error.url = self.address or None
        return error


ErrorDecoder = Callable[[int, Mapping[str, str], bytes, Redactor], tuple[APIError, RetryCause | None]]
"""The error that an answer other than 2xx is, and how a retry sees it."""


def invalid_response(status: int, body: Any, problem: str) -> APIError:
    """The error for an answer that is not what was asked for."""
    return APIError(f"The server's answer cannot be used: {problem}.", status=status, body=body)


class Caller:
    """Sends requests of one client.

    Args:
        session: Connections and slots.
        timeouts: Bounds of each attempt.
        retry: When to try again.

    Attributes:
        redactor: Keeps credentials out of errors, should a server repeat them.
    """

    def __init__(self, session: Session, timeouts: Timeouts, retry: RetryPolicy) -> None:
        self.session = session
        self.redactor = Redactor()
        self._streams = LoopLocal(lambda: anyio.CapacityLimiter(_MAX_STREAMS))
        self._timeouts = timeouts
        self._retry = retry
        self._wire_timeouts = httpx.Timeout(
            connect=timeouts.connect, read=timeouts.idle, write=timeouts.idle, pool=None
        )

    async def send(self, request: Request, judge: ErrorDecoder) -> Answer:
        """Send, and read the whole answer.

        Raises:
            APIError: The answer was not 2xx.
            APIConnectionError: There was none.
        """
        started = time.monotonic()
        self.session.counters.calls += 1
        forgiven = 0

        def delay_after(failed: FailedAttempt, attempt: int) -> float | None:
            nonlocal forgiven
            now, progress = time.monotonic(), self.session.pacer.progress
            if is_refusal(failed) and progress.leaves_attempts(now, started=started):
                forgiven += 1
            delay = delay_by_policy(self._retry, failed, attempt - forgiven, now - started, total=attempt)
            if delay is not None:
                self.session.counters.retries += 1
            return delay

        attempt = functools.partial(self._attempt, request, judge)
        return (await run_with_retries(lambda _: attempt(), self._retry, delay_after, address=request.address))[0]

    @asynccontextmanager
    async def events(
        self, request: Request, judge: ErrorDecoder, *, seconds: float
    ) -> AsyncGenerator[AsyncGenerator[str]]:
        """Send once, and give the data of each server-sent event, for so long.

        Streams take no slots from requests: who waits on one may well have to send another.

        Raises:
            BusyError: Too many are open.
            OutOfTimeError: The time is over.
            APIError: The answer was not 2xx, or no stream of events.
            APIConnectionError: There was none, or it broke.
        """
        places, borrower = self._streams.get(), object()
        try:
            places.acquire_on_behalf_of_nowait(borrower)
        except anyio.WouldBlock:
            raise BusyError from None
        try:
            response = await self._open(request)
            if not response.is_success or "text/event-stream" not in response.headers.get("content-type", ""):
                raise self._no_stream(request, response, await read_all(response), judge)
            async with aclosing(event_data(response, _nothing, time.monotonic() + seconds)) as data:
                yield data
        except transport_errors.TRANSPORT_ERRORS as exc:
            error = self._explain(request, exc)[0]
        except ResponseTooLargeError as exc:
            error = self._too_large(request, exc)
        else:
            return
        finally:
            places.release_on_behalf_of(borrower)
        raise error

    def _no_stream(
        self, request: Request, response: httpx.Response, body: bytes, judge: ErrorDecoder
    ) -> MoondreamError:
        if response.is_success:
            shown = errors.start_of(body, self.redactor)
            return self._answer(request, response, body).invalid_response(shown, "it is not a stream of events")
        return self._judged(request, response, body, judge)[0]

    def _judged(
        self, request: Request, response: httpx.Response, body: bytes, judge: ErrorDecoder
    ) -> tuple[APIError, RetryCause | None]:
        error, failure = judge(response.status_code, self.redactor.headers(_lower(response)), body, self.redactor)
        error.url = request.address
        return error, failure

    def _answer(self, request: Request, response: httpx.Response, body: bytes) -> Answer:
        return Answer(response.status_code, _lower(response), body, self.redactor, request.address)

    def _too_large(self, request: Request, exc: ResponseTooLargeError) -> APIError:
        error = invalid_response(200, None, str(exc))
        error.url = request.address
        return error

    async def _attempt(self, request: Request, judge: ErrorDecoder) -> Answer | FailedAttempt:
        slot = self.session.slot()
        await slot.acquire()
        outcome: Answer | FailedAttempt | None = None
        try:
            slot.sent()
            with anyio.move_on_after(self._timeouts.total):
                outcome = await self._exchange(request, judge)
        finally:
            slot.release()
        if outcome is not None:
            return outcome
        error = transport_errors.total_timeout(self._timeouts.total, "Timeouts.total", request.address)
        return (
            FailedAttempt(transport_errors.ambiguous(error), None)
            if request.non_idempotent
            else FailedAttempt(error, RetryCause("timeout"))
        )

    async def _exchange(self, request: Request, judge: ErrorDecoder) -> Answer | FailedAttempt:
        try:
            response = await self._open(request)
            body = await read_all(response)
        except transport_errors.TRANSPORT_ERRORS as exc:
            error, failure = self._explain(request, exc)
            if request.non_idempotent and not isinstance(exc, transport_errors.NOT_SENT):
                return FailedAttempt(transport_errors.ambiguous(error), None)
            return FailedAttempt(error, failure)
        except ResponseTooLargeError as exc:
            return FailedAttempt(self._too_large(request, exc), None)
        if response.is_success:
            self.session.pacer.progress.accepted(time.monotonic())
            return self._answer(request, response, body)
        if response.status_code == 429:
            self.session.counters.rate_limited += 1
        return FailedAttempt(*self._judged(request, response, body, judge))

    async def _open(self, request: Request) -> httpx.Response:
        url = _url(request)
        headers = httpx.Headers(
            {
                "Host": url.netloc.decode("ascii"),
                "User-Agent": f"moondream-async/{__version__}",
                "Accept-Encoding": "identity",
            }
        )
        for name, value in request.headers.items():
            headers[name] = value  # in whatever case it was given, once
        args = (request.method, url, headers, request.body, self._wire_timeouts)
        if request.presigned is not None:
            return await request.presigned.send(self.session, *args, new_connection=request.non_idempotent)
        return await self.session.send(*args, new_connection=request.non_idempotent)

    def _explain(self, request: Request, exc: BaseException) -> tuple[MoondreamError, RetryCause | None]:
        error, failure = transport_errors.explain(exc, address=request.address, timeouts=self._timeouts)
        error.message = self.redactor.text(error.message)
        return error, failure


def _url(request: Request) -> httpx.URL:
    if request.presigned is not None:
        return request.presigned.check(request.url)
    try:
        url = httpx.URL(request.url)
        url.netloc.decode("ascii")
    except (httpx.InvalidURL, ValueError) as exc:
        problem = str(exc)
    else:
        return url
    raise ConfigurationError(f"{request.address} cannot be called: {problem}.")


def _nothing() -> None:
    """What a stream gives back that has taken nothing."""


def _lower(response: httpx.Response) -> dict[str, str]:
    return dict(response.headers.items())
