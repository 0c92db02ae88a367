"""Send requests: slots, retries, rate limiting, timeouts, hooks and typed errors around `Session.send`."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator
from contextlib import aclosing, asynccontextmanager, contextmanager
from typing import TYPE_CHECKING, Any, Self, TypeAlias, TypeVar, cast

import anyio
import attrs
import httpx

from .._concurrency.forks import no_fork
from .._concurrency.loop_local import LoopLocal
from .._concurrency.timeouts import run_within
from .._log import log
from .._wire import errors
from .._wire.redact import Redactor
from .._wire.responses import PARSE_ERRORS
from .._wire.retry import RetryCause, backoff
from ..config import RetryPolicy, Timeouts
from ..errors import APIError, MoondreamError
from ..types import Result
from . import transport_errors
from .call import Call, notify_response, report_end, report_failure, with_extra_headers
from .event_stream import EventStream, OutOfTimeError, SingleEventStream, event_data
from .payloads import FileBody
from .request import REDIRECT_STATUSES, Request, Response
from .response_body import MAX_API_RESPONSE, ResponseTooLargeError, read_all
from .retrying import FailedAttempt, delay_by_policy, is_refusal, run_with_retries
from .servers import Lease
from .session import Session, Slot

if TYPE_CHECKING:
    from ..hooks import Hooks
    from .observer import CallObserver

R = TypeVar("R")
A = TypeVar("A", Response, EventStream)

_MAX_EVENT_CONNECTIONS = 256  # in each event loop


class BusyError(Exception):
    """The maximum number of event connections is open."""


@attrs.frozen(eq=False, kw_only=True)
class ServerInfo:
    """What hooks and errors say about the server.

    Attributes:
        base_url: Its base URL, for hooks.
        model: The model of all calls, for hooks.
        invalid_hint: What errors say about a response that cannot be used.
    """

    base_url: str = ""
    model: str | None = None
    invalid_hint: str = ""


_Exchange: TypeAlias = Callable[[Call, int, Slot, float], Coroutine[Any, Any, A | FailedAttempt]]
"""Sends one attempt (call, attempt number, slot, time) and reads its response."""


class HttpClient:
    """Sends the requests of one client to one service.

    Args:
        session: Connections, slots and rate limiter; shared with clones.
        timeouts: Limits for each attempt.
        retry: Retry policy.
        redactor: Keeps credentials out of errors and responses.
        hooks: User hooks, called for each request, response, retry, event and end.
        server: What hooks and errors say about the server.
        is_paced: Whether requests wait for the session's rate limiter, and responses inform it.
        max_response: Maximum size of a response, in bytes.
        total_name: What errors call the total timeout.
        counts_refusals: Whether a 429 always counts as an attempt, as the requests go to unrelated servers.
    """

    def __init__(
        self,
        session: Session,
        timeouts: Timeouts,
        retry: RetryPolicy,
        *,
        redactor: Redactor,
        hooks: tuple[Hooks, ...] = (),
        server: ServerInfo | None = None,
        is_paced: bool = False,
        max_response: int = MAX_API_RESPONSE,
        total_name: str = "Timeouts.total",
        counts_refusals: bool = False,
    ) -> None:
        self.session = session
        self.redactor = redactor
        self.timeouts = timeouts
        self.retry = retry
        self._hooks = hooks
        self._server = server or ServerInfo()
        self._rate_limiter = session.rate_limiter if is_paced else None
        self._max_response = max_response
        self._total_name = total_name
        self._counts_refusals = counts_refusals
        self._event_connections = LoopLocal(lambda: anyio.CapacityLimiter(_MAX_EVENT_CONNECTIONS))
        self._wire_timeouts = {
            "connect": timeouts.connect,
            "read": timeouts.idle,
            "write": timeouts.idle,
            "pool": None,
        }

    async def send(self, request: Request) -> Response:
        """Send a request and return its response.

        Raises:
            APIError: The service reported an error.
            APIConnectionError: There was no response.
        """
        return await self.fetch(request, _whole)

    async def fetch(self, request: Request, read: Callable[[Response], R]) -> R:
        """Send a request and build a result from its response.

        Args:
            request: The request.
            read: Builds the result.

        Raises:
            APIError: The service reported an error, or `read` raised one.
            APIConnectionError: There was no response.
        """
        call = Call(request, self._make_observer(request, stream=False))
        if call.observer is None:
            return await self._fetch(call, read)
        async with report_failure(call.observer):
            result: Any = await self._fetch(call, read)
        if isinstance(result, Result):
            await call.observer.end(
                attempts=result.meta.attempts,
                request_id=result.request_id,
                finish_reason=result.finish_reason,
                metrics=result.metrics,
            )
        else:
            await call.observer.end()
        return cast("R", result)

    async def open_stream(self, request: Request) -> EventStream:
        """Send a request and open its response as an event stream, with the first event already read.

        Raises:
            APIError: The service reported an error.
            APIConnectionError: There was no response.
        """
        call = Call(request, self._make_observer(request, stream=True))
        async with report_failure(call.observer):
            stream, attempts = await self._run(call, self._open_event_stream)
        stream.bind(attempts, call.observer, self.session.counters)
        return stream

    @asynccontextmanager
    async def events(self, request: Request, *, seconds: float) -> AsyncGenerator[AsyncGenerator[str]]:
        """Send a request once and give the data of each server-sent event of its response.

        These connections take no slots: a task that waits for an event may have to send a request meanwhile.

        Args:
            request: The request.
            seconds: Time limit for the whole response.

        Raises:
            BusyError: Too many such connections are open.
            OutOfTimeError: The time is over.
            APIError: The service reported an error, or the response is not an event stream.
            APIConnectionError: There was no response, or the connection broke.
        """
        call = Call(request, self._make_observer(request, stream=True))
        limiter = self._event_connections.get()
        try:
            limiter.acquire_on_behalf_of_nowait(call)
        except anyio.WouldBlock:
            raise BusyError from None
        try:
            async with report_end(call.observer), self._event_data(call, seconds) as data:
                yield data
        finally:
            limiter.release_on_behalf_of(call)

    async def open(self, request: Request, lease: Lease | None = None) -> httpx.Response:
        """Send a request once, without a slot, and return the response with its body unread.

        Args:
            request: The request.
            lease: Its slot on one of several servers.

        Raises:
            TRANSPORT_ERRORS: There was no response.
        """
        call = Call(request, None, lease=lease)
        call.url = call.destination_url
        return await self._send(call, 1)

    @contextmanager
    def lease(self, request: Request) -> Generator[Lease | None]:
        """Hold a slot for a request of `open` on one of several servers; None if there is only one."""
        servers = self.session.servers if request.destinations else None
        if servers is None:
            yield None
            return
        lease = servers.take_now()
        try:
            yield lease
        finally:
            lease.release()

    def explain(self, address: str, exc: BaseException) -> FailedAttempt:
        """Return the failed attempt for a transport error.

        Args:
            address: The URL that was called, without its query.
            exc: One of `TRANSPORT_ERRORS`.
        """
        error, cause = transport_errors.explain(exc, address=address, timeouts=self.timeouts)
        error.message = self.redactor.text(error.message)
        return FailedAttempt(error, cause)

    def with_limits(self, session: Session, *, total: float, max_response: int) -> Self:
        """Return a client for downloads from any servers: for another session, with limits of its own, without hooks.

        Args:
            session: The other session.
            total: Maximum of `Timeouts.total`, in seconds.
            max_response: Maximum size of a response, in bytes.
        """
        if self.timeouts.total <= total:
            timeouts, total_name = self.timeouts, self._total_name
        else:
            timeouts, total_name = attrs.evolve(self.timeouts, total=total), "the limit for downloads"
        return type(self)(
            session,
            timeouts,
            self.retry,
            redactor=self.redactor,
            max_response=max_response,
            total_name=total_name,
            counts_refusals=True,
        )

    def _make_observer(self, request: Request, *, stream: bool) -> CallObserver | None:
        """Create the observer of a new call, or None if there are no hooks and logging is off."""
        if not self._hooks and not log.isEnabledFor(logging.INFO):
            return None
        with no_fork():
            from .observer import CallObserver

        return CallObserver(self._hooks, request.operation, self._server.model, self._server.base_url, stream=stream)

    async def _fetch(self, call: Call, read: Callable[[Response], R]) -> R:
        response, attempts = await self._run(call, self._exchange)
        response.attempts = attempts
        response.elapsed = time.monotonic() - call.started
        result = read(response)
        self.session.counters.add_tokens(getattr(result, "metrics", None))
        return result

    def _run(self, call: Call, exchange: _Exchange[A]) -> Coroutine[Any, Any, tuple[A, int]]:
        """Make attempts until one succeeds or the retry policy gives up; return the outcome and their number."""
        self.session.counters.calls += 1
        return run_with_retries(
            functools.partial(self._attempt, call, exchange),
            self.retry,
            functools.partial(self._delay_after, call),
            call.observer,
            call.request,
        )

    async def _attempt(self, call: Call, exchange: _Exchange[A], attempt: int) -> A | FailedAttempt:
        slot = self.session.slot()
        await slot.acquire()
        outcome: A | FailedAttempt | None = None
        try:
            # Of several servers, it is not known yet which one gets the call.
            if call.takes_time and not call.request.destinations:
                call.opening = await self.session.connect_ahead(call.url, self.timeouts.connect)
            body = await call.prepare()
            sent = await self._acquire_start(call)
            if isinstance(sent, APIError):
                return FailedAttempt(sent, None)
            slot.sent(call.lease)
            # A file upload has no total timeout: it may take as long as it makes progress (Timeouts.idle).
            total = None if isinstance(body, FileBody) else self.timeouts.total
            outcome = await run_within(total, exchange(call, attempt, slot, sent))
        finally:
            call.release_opening()
            if not (isinstance(outcome, EventStream) and outcome.holds_slot):
                slot.release()
        if outcome is None:
            outcome = self._from_timeout(call)
        if isinstance(outcome, FailedAttempt):
            outcome.sent = sent
        return outcome if call.observer is None else await notify_response(call.observer, outcome, attempt, sent)

    async def _acquire_start(self, call: Call) -> float | APIError:
        """Wait until the rate limiter lets the request start; return the time, or an error if it gives up."""
        servers = self.session.servers
        if servers is not None and call.request.destinations:
            lease = await servers.acquire(call.started)
            if isinstance(lease, APIError):
                return lease
            call.lease = lease
            call.url = call.destination_url
            return lease.sent
        if self._rate_limiter is None:
            return time.monotonic()
        return await self._rate_limiter.acquire(call.started)

    async def _exchange(self, call: Call, attempt: int, slot: Slot, sent: float) -> Response | FailedAttempt:
        """Send one attempt and read its response."""
        del slot, sent
        try:
            raw = await self._send(call, attempt)
            body = await read_all(raw, self._max_response)
        except transport_errors.TRANSPORT_ERRORS as exc:
            return self._from_transport_error(call, exc)
        except ResponseTooLargeError as exc:
            return FailedAttempt(self._invalid(call, str(exc)), None)
        return self._decode(call, raw, body)

    async def _open_event_stream(
        self, call: Call, attempt: int, slot: Slot, sent: float
    ) -> EventStream | FailedAttempt:
        """Send one attempt and read the first event of its response."""
        request = call.request
        try:
            raw = await self._send(call, attempt)
            if not _is_event_stream(raw):
                return self._single_event(call, raw, await read_all(raw, self._max_response))
            stream = EventStream(
                raw,
                slot.release,
                started=call.started,
                expiry=self._expiry(sent, call.started),
                explain=functools.partial(self.explain, call.address),
                redactor=self.redactor,
                address=call.address,
            )
            await stream.read_first()
        except MoondreamError:  # a closed client; some of these are also ValueErrors, which are caught below
            raise
        except transport_errors.TRANSPORT_ERRORS as exc:
            return self._from_transport_error(call, exc)
        except (ResponseTooLargeError, *PARSE_ERRORS) as exc:
            return FailedAttempt(self._invalid(call, str(exc)), None)
        except OutOfTimeError:
            return self._from_timeout(call)
        error = stream.first_error()
        if error is None:
            self._record_acceptance(call)
            return stream
        await stream.aclose()
        return self._from_failure(call, request.errors.to_failure(error))

    def _single_event(self, call: Call, raw: httpx.Response, body: bytes) -> EventStream | FailedAttempt:
        """Return the whole response of a server that does not stream, as a stream of one event."""
        response = self._decode(call, raw, body)
        if isinstance(response, FailedAttempt):
            return response
        data: Any = response.json()
        if not isinstance(data, dict):
            return FailedAttempt(response.invalid("it is not a JSON object", data), None)
        return SingleEventStream(
            cast("dict[str, Any]", data),
            status=response.status,
            started=call.started,
            headers=response.safe_headers,
        )

    @asynccontextmanager
    async def _event_data(self, call: Call, seconds: float) -> AsyncGenerator[AsyncGenerator[str]]:
        sent = time.monotonic()
        try:
            raw = await self._send(call, 1)
            failed = None if _is_event_stream(raw) else await self._read_error(call, raw)
            if call.observer is not None:
                await call.observer.response(1, raw.status_code, sent, failed)
            if failed is not None:
                raise failed
            async with aclosing(event_data(raw, _do_nothing, time.monotonic() + seconds)) as data:
                yield data
        except transport_errors.TRANSPORT_ERRORS as exc:
            error: MoondreamError = self.explain(call.address, exc).error
        except ResponseTooLargeError as exc:
            error = self._invalid(call, str(exc))
        else:
            return
        raise error

    async def _read_error(self, call: Call, raw: httpx.Response) -> MoondreamError:
        """Return the error for a response that is not an event stream."""
        body = await read_all(raw, self._max_response)
        response = self._decode(call, raw, body)
        if isinstance(response, FailedAttempt):
            return response.error
        return response.invalid("it is not a stream of events", errors.start_of(body, self.redactor))

    async def _send(self, call: Call, attempt: int) -> httpx.Response:
        """Send the request, and follow the redirects that its target allows; the body is unread."""
        request, body, headers = call.request, await call.prepare(), call.headers
        if call.observer is not None:
            extra = await call.observer.request(attempt, len(body))
            headers = headers if request.target else with_extra_headers(headers, extra)  # not to other hosts
        target, new = request.target, request.non_idempotent
        if target is None:
            args = (request.method, call.url, headers, body, self._wire_timeouts)
            return await self.session.send(*args, new_connection=new, opening=call.opening)
        redirects = target.max_redirects if request.method == "GET" else 0
        call.url = request.url
        while True:
            args = (request.method, call.url, headers, body, self._wire_timeouts)
            response = await target.send(call.url, functools.partial(self.session.send, *args, new_connection=new))
            if not redirects or response.status_code not in REDIRECT_STATUSES or "location" not in response.headers:
                return response
            await response.aclose()
            location, redirects = _join(call.url, response.headers["location"]), redirects - 1
            call.url = target.check(location, from_url=call.url)
            headers = headers.copy()
            headers["Host"] = call.url.netloc.decode("ascii")

    def _decode(self, call: Call, raw: httpx.Response, body: bytes) -> Response | FailedAttempt:
        response = Response(
            raw.status_code,
            raw,
            body,
            call.url,
            call.request,
            self.redactor,
            self._server.invalid_hint,
        )
        failed = call.request.errors.find_failure(response)
        if 200 <= response.status < 300 and not is_refusal(failed):  # Station reports a full queue with status 200
            self._record_acceptance(call)
        return response if failed is None else self._from_failure(call, failed)

    def _from_failure(self, call: Call, failed: FailedAttempt) -> FailedAttempt:
        if isinstance(failed.error, APIError):
            failed.error.url = call.address
        return failed

    def _from_transport_error(self, call: Call, exc: BaseException) -> FailedAttempt:
        failed = self.explain(call.address, exc)
        if call.request.non_idempotent and not isinstance(exc, transport_errors.NOT_SENT):
            return FailedAttempt(transport_errors.ambiguous(failed.error), None)
        return failed

    def _from_timeout(self, call: Call) -> FailedAttempt:
        error = transport_errors.total_timeout(self.timeouts.total, self._total_name, call.address)
        if call.request.non_idempotent:
            return FailedAttempt(transport_errors.ambiguous(error), None)
        return FailedAttempt(error, RetryCause("timeout"))

    def _invalid(self, call: Call, problem: str) -> APIError:
        error = errors.invalid_response(200, None, self.redactor.text(problem), hint=self._server.invalid_hint)
        error.url = call.address
        return error

    def _expiry(self, sent: float, started: float) -> float:
        expiry = sent + self.timeouts.total
        return expiry if self.retry.deadline is None else min(expiry, started + self.retry.deadline)

    def _delay_after(self, call: Call, failed: FailedAttempt, attempt: int) -> float | None:
        now = time.monotonic()
        refused = is_refusal(failed)
        if refused:
            self.session.counters.rate_limited += 1
            if isinstance(failed.error, APIError):
                self.session.progress.refused(failed.error)
        if self._fails_over(call, failed, attempt):
            call.uncounted_attempts += 1
            self.session.counters.retries += 1
            return 0.0
        if refused and not self._counts_refusals and self.session.progress.leaves_attempts(now, started=call.started):
            call.uncounted_attempts += 1
        counted = attempt - call.uncounted_attempts
        # Without a rate limiter, only the backoff slows refused calls down: it grows with every attempt.
        total = attempt if self._rate_limiter is None else None
        delay = delay_by_policy(self.retry, failed, counted, now - call.started, total=total)
        if delay is not None:
            self.session.counters.retries += 1
        if refused and self._rate_limiter is not None and not call.request.destinations:
            hold = delay if delay is not None else backoff(self.retry, counted)
            self._rate_limiter.rate.refused(now, started=failed.sent, delay=hold)
        return delay

    def _fails_over(self, call: Call, failed: FailedAttempt, attempt: int) -> bool:
        """Record what one of several servers did with the call, and return whether to send it to another one now."""
        servers, lease = self.session.servers, call.lease
        if servers is None or lease is None:
            return False
        call.lease = None
        wait = failed.cause.retry_after if failed.cause is not None else None
        has_other = servers.record(lease, failed, hold=backoff(self.retry, attempt) if wait is None else wait)
        if not has_other or failed.cause is None or call.failovers >= 2 * len(servers.states):
            return False
        if failed.cause.cause == "timeout" and not self.retry.retry_timeouts:
            return False
        call.failovers += 1
        return True

    def _record_acceptance(self, call: Call) -> None:
        if self.session.servers is not None and call.lease is not None:
            self.session.servers.succeeded(call.lease.index)
        elif self._rate_limiter is not None:
            self._rate_limiter.rate.succeeded()
        self.session.progress.accepted(time.monotonic())


def _is_event_stream(response: httpx.Response) -> bool:
    content_type = response.headers.get("content-type", "")
    return response.is_success and "text/event-stream" in content_type.lower()


def _join(url: httpx.URL, location: str) -> str:
    """Return the URL that a redirect leads to, or an empty string if it is not valid."""
    try:
        return str(url.join(location))
    except (httpx.InvalidURL, ValueError):
        return ""


def _whole(response: Response) -> Response:
    return response


def _do_nothing() -> None:
    """Release nothing: these connections take no slot."""
