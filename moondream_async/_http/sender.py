"""One logical call: attempts, waits, timeouts and typed errors around `Session.send`."""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar, cast

import anyio
import attrs
import httpx

from .._concurrency.forks import no_fork
from .._hidden import HiddenStr, is_credential, without_query
from .._log import log
from .._version import __version__
from .._wire import errors, responses
from .._wire.redact import Redactor, secrets_in_header
from .._wire.retry import RetryCause, backoff
from ..config import RetryPolicy, Server, Timeouts, check_headers
from ..errors import APIError, ConfigurationError, MoondreamError
from ..types import Meta, Result
from . import transport_errors
from .event_stream import EventStream, OutOfTimeError, SingleEventStream
from .payloads import FileBody, Payload
from .presigned import Presigned
from .presigned_download import Files
from .response_body import LARGEST_ANSWER, ResponseTooLargeError, read_all
from .retrying import FailedAttempt, delay_by_policy, is_refusal, run_with_retries
from .session import Session, Slot

if TYPE_CHECKING:
    from ..hooks import Hooks
    from .observer import CallObserver

T = TypeVar("T")
R = TypeVar("R")
A = TypeVar("A", "_Answer", EventStream)

Body: TypeAlias = bytes | FileBody | Payload | Callable[[], Awaitable[bytes]]
"""A request's body; or what builds it, once, when the call has its slot."""

SURELY_REFUSED = (425, 429)
"""Statuses after which what must not be done twice may be sent again."""


@attrs.define(eq=False)
class _Request:
    method: str
    url: httpx.URL = attrs.field(repr=without_query)
    headers: httpx.Headers = attrs.field(repr=False)  # they hold the key
    body: Body = attrs.field(repr=False)
    watch: CallObserver | None = None
    non_idempotent: bool = False
    retry_statuses: tuple[int, ...] = ()
    allow_error_body: bool = False
    started: float = attrs.field(factory=time.monotonic)
    forgiven: int = 0
    """Refused attempts that do not count, as other calls got through."""

    @property
    def address(self) -> str:
        """The URL, as errors name it."""
        return without_query(self.url)

    async def prepare(self) -> bytes | FileBody:
        """The body, made now if it is not yet: only who has a slot holds an image in memory."""
        if not isinstance(self.body, (bytes, FileBody)):
            self.body = await (self.body() if callable(self.body) else self.body.prepare())
        return self.body


@attrs.frozen(eq=False)
class _Answer:
    status: int
    data: Any = attrs.field(repr=False)


class Sender:
    """Sends the calls of one client.

    Args:
        session: Connections, slots and pace; shared with clones.
        server: Base URL and key.
        headers: Extra headers, names in lower case.
        timeouts: Bounds of each attempt.
        retry: When to try again.
        hooks: Who looks on.
        allow_private: Whether presigned URLs may lead to addresses that are not public.
    """

    def __init__(
        self,
        session: Session,
        server: Server,
        headers: dict[str, str],
        timeouts: Timeouts,
        retry: RetryPolicy,
        hooks: tuple[Hooks, ...] = (),
        allow_private: bool = False,
    ) -> None:
        self.session = session
        self._redactor = _redactor(server, headers)
        self._allow_private = allow_private
        self._hooks = hooks
        self._server = server
        self._timeouts = timeouts
        self._retry = retry
        self._wire_timeouts = httpx.Timeout(
            connect=timeouts.connect, read=timeouts.idle, write=timeouts.idle, pool=None
        )
        self._urls: dict[str, httpx.URL] = {}
        self._host = _host_of(server.base_url)
        self._skill_headers = self._headers(headers, "x-moondream-auth", "{key}", accept="application/json")
        self._stream_headers = self._headers(headers, "x-moondream-auth", "{key}", accept="text/event-stream")
        self._listing_headers = self._headers(headers, "authorization", "Bearer {key}", accept="application/json")
        self._chat_headers = self._headers(headers, "authorization", "Bearer {key}", accept="text/event-stream")
        self._upload_headers = self._headers(
            headers, "x-moondream-auth", "{key}", accept="application/json", content="application/octet-stream"
        )

    async def fetch(self, path: str, body: Body, read: Callable[[Any, Meta], R], *, bearer: bool = False) -> R:
        """POST a body and read the JSON answer into a result; with `bearer`, as OpenAI's clients show the key."""
        # No local holds the headers, which hold the key: a traceback may show locals.
        request = self._request("POST", path, self._listing_headers if bearer else self._skill_headers, body)
        return await self._fetch(request, path, read)

    async def get(self, path: str, read: Callable[[Any, Meta], R]) -> R:
        """GET a path, with the key as a bearer token, and read the JSON answer into a result."""
        return await self._fetch(self._request("GET", path, self._listing_headers, b""), path, read)

    async def call(
        self,
        method: str,
        path: str,
        read: Callable[[Any, Meta], R],
        *,
        query: Mapping[str, str | int] | None = None,
        body: Body = b"",
        non_idempotent: bool = False,
        retry_statuses: tuple[int, ...] = SURELY_REFUSED,
        allow_error_body: bool = False,
    ) -> R:
        """Send any other request, and read its JSON answer.

        Args:
            method: Of HTTP.
            path: Below the base URL; its first part names the operation to whoever looks on.
            read: Makes the result.
            query: After the `?`.
            body: JSON, or a part of a file, which goes as it is.
            non_idempotent: Whether it must not be sent again once it may have been accepted.
            retry_statuses: Statuses after which it may be, as it was surely refused.
            allow_error_body: Whether an `error` in an answer with 200 is what was asked for.
        """
        url = httpx.URL(f"{self._server.base_url}/{path}", params=query)
        request = _Request(
            method,
            url,
            # No local holds them: they hold the key, and a traceback may show locals.
            self._upload_headers if isinstance(body, FileBody) else self._skill_headers,
            body,
            non_idempotent=non_idempotent,
            retry_statuses=retry_statuses,
            allow_error_body=allow_error_body,
        )
        return await self._fetch(request, path.partition("/")[0], read)

    @property
    def files(self) -> Files:
        """Files elsewhere, which the key does not go to."""
        allowed = Presigned.of(self._server.base_url, allow_private=self._allow_private)
        return Files(self.session, self._timeouts, self._retry, allowed)

    async def open_stream(self, path: str, body: Body, *, bearer: bool = False) -> EventStream:
        """POST a body and open the answer's stream of events, its first event read already."""
        request = self._request("POST", path, self._chat_headers if bearer else self._stream_headers, body)
        request.watch = self._watch(path, stream=True)
        async with _ending_in_failure(request.watch):
            feed, attempts = await self._persist(lambda n: self._try_stream(request, n), request)
        feed.attempts, feed.watch, feed.counters = attempts, request.watch, self.session.counters
        return feed

    async def download(self, url: str, *, allow_private: bool) -> bytes:
        """The image behind an http(s) URL; the key stays here."""
        if self.session.closed:
            raise ConfigurationError("This client is closed; make a new one.")
        return await self.session.downloads.fetch(
            url, allow_private=allow_private, timeouts=self._timeouts, retry=self._retry
        )

    def _watch(self, path: str, *, stream: bool) -> CallObserver | None:
        """Who looks on at a new call; None when nobody does, so that nothing is made for nobody."""
        if not self._hooks and not log.isEnabledFor(logging.INFO):
            return None
        with no_fork():
            from .observer import CallObserver

        return CallObserver(self._hooks, path, self._server.model, self._server.base_url, stream=stream)

    async def _fetch(self, request: _Request, path: str, read: Callable[[Any, Meta], R]) -> R:
        request.watch = self._watch(path, stream=False)
        if request.watch is None:
            return await self._fetch_quietly(request, read)
        async with _ending_in_failure(request.watch):
            result: Any = await self._fetch_quietly(request, read)
        if isinstance(result, Result):
            await request.watch.end(
                attempts=result.meta.attempts,
                request_id=result.request_id,
                finish_reason=result.finish_reason,
                metrics=result.metrics,
            )
        else:
            await request.watch.end()
        return cast("R", result)

    async def _fetch_quietly(self, request: _Request, read: Callable[[Any, Meta], R]) -> R:
        answer, attempts = await self._persist(lambda n: self._try_fetch(request, n), request)
        meta = Meta(answer.status, attempts, time.monotonic() - request.started)
        try:
            result = read(answer.data, meta)
        except responses.PARSE_ERRORS as exc:
            problem = str(exc)
        else:
            self.session.counters.add_tokens(getattr(result, "metrics", None))
            return result
        error = errors.invalid_response(answer.status, answer.data, self._redactor.text(problem))
        error.attempts, error.url = attempts, request.address
        raise error

    async def _persist(self, once: Callable[[int], Awaitable[T | FailedAttempt]], request: _Request) -> tuple[T, int]:
        self.session.counters.calls += 1
        return await run_with_retries(
            once,
            self._retry,
            lambda failed, attempt: self._delay_after(failed, request, attempt),
            request.watch,
            address=request.address,
        )

    def _delay_after(self, failed: FailedAttempt, request: _Request, attempt: int) -> float | None:
        now = time.monotonic()
        refused = is_refusal(failed)
        if refused and self.session.pacer.progress.leaves_attempts(now, started=request.started):
            request.forgiven += 1
        counted = attempt - request.forgiven
        delay = delay_by_policy(self._retry, failed, counted, now - request.started)
        if delay is not None:
            self.session.counters.retries += 1
        if refused:
            hold = delay if delay is not None else backoff(self._retry, counted)
            self._note_refusal(failed, now, hold)
        return delay

    def _note_refusal(self, failed: FailedAttempt, now: float, hold: float) -> None:
        self.session.counters.rate_limited += 1
        self.session.pacer.pace.refused(now, started=failed.sent, delay=hold)
        if isinstance(failed.error, APIError):
            self.session.pacer.progress.refused(failed.error)

    def _note_acceptance(self) -> None:
        self.session.pacer.pace.succeeded()
        self.session.pacer.progress.accepted(time.monotonic())

    async def _try_fetch(self, request: _Request, attempt: int) -> _Answer | FailedAttempt:
        slot = self.session.slot()
        await slot.acquire()
        outcome: _Answer | FailedAttempt | None = None
        try:
            await request.prepare()
            sent = await self.session.pacer.turn(request.started)
            if isinstance(sent, APIError):
                return FailedAttempt(sent, None)
            slot.sent()
            # A part of a large file takes as long as it does, as long as it moves (Timeouts.idle).
            seconds = None if isinstance(request.body, FileBody) else self._timeouts.total
            with anyio.move_on_after(seconds):
                outcome = await self._transfer(request, attempt, sent)
        finally:
            slot.release()
        return await self._told(outcome or self._out_of_time(sent, request), request, attempt, sent)

    async def _told(
        self, outcome: A | FailedAttempt, request: _Request, attempt: int, sent: float
    ) -> A | FailedAttempt:
        """The outcome of an attempt, after whoever looks on was told."""
        if request.watch is None:
            return outcome
        error = outcome.error if isinstance(outcome, FailedAttempt) else None
        status = getattr(error, "status", None) if isinstance(outcome, FailedAttempt) else outcome.status
        try:
            await request.watch.response(attempt, status, sent, error)
        except BaseException:  # cancelled in a hook, when nobody holds the stream yet
            if isinstance(outcome, EventStream):
                await outcome.aclose()
            raise
        return outcome

    async def _transfer(self, request: _Request, attempt: int, sent: float) -> _Answer | FailedAttempt:
        try:
            response = await self._send(request, attempt)
            body = await read_all(response, LARGEST_ANSWER)
        except transport_errors.TRANSPORT_ERRORS as exc:
            if request.non_idempotent and not isinstance(exc, transport_errors.NOT_SENT):
                return FailedAttempt(transport_errors.ambiguous(self._explain(request, exc)[0]), None, sent)
            return self._broken(request, exc, sent)
        except ResponseTooLargeError as exc:
            return self._unreadable(request, 200, None, str(exc), sent)
        outcome = self._judge(
            request,
            response,
            body,
            sent,
            allow_error_body=request.allow_error_body,
            may_be_empty=request.method == "DELETE",
        )
        if request.non_idempotent and isinstance(outcome, FailedAttempt):
            return _only_if_refused(outcome, request.retry_statuses)
        return outcome

    async def _try_stream(self, request: _Request, attempt: int) -> EventStream | FailedAttempt:
        slot = self.session.slot()
        await slot.acquire()
        outcome: EventStream | FailedAttempt | None = None
        try:
            await request.prepare()
            sent = await self.session.pacer.turn(request.started)
            if isinstance(sent, APIError):
                return FailedAttempt(sent, None)
            slot.sent()
            expiry = self._expiry(sent, request.started)
            with anyio.move_on_after(self._timeouts.total):
                outcome = await self._open_feed(request, attempt, slot, sent, expiry)
        finally:
            if not isinstance(outcome, EventStream) or isinstance(outcome, SingleEventStream):
                slot.release()
        return await self._told(outcome or self._out_of_time(sent, request), request, attempt, sent)

    async def _open_feed(
        self, request: _Request, attempt: int, slot: Slot, sent: float, expiry: float
    ) -> EventStream | FailedAttempt:
        try:
            response = await self._send(request, attempt)
            if not _is_stream(response):
                return self._single_event(
                    request, response, await read_all(response, LARGEST_ANSWER), sent, request.started
                )
            feed = EventStream(
                response,
                slot.release,
                started=request.started,
                expiry=expiry,
                explain=functools.partial(self._explain, request),
                redactor=self._redactor,
                address=request.address,
            )
            await feed.peek()
        except MoondreamError:  # a closed client; some are ValueErrors, too
            raise
        except transport_errors.TRANSPORT_ERRORS as exc:
            return self._broken(request, exc, sent)
        except (ResponseTooLargeError, *responses.PARSE_ERRORS) as exc:
            return self._unreadable(request, 200, None, str(exc), sent)
        except OutOfTimeError:
            return self._out_of_time(sent, request)
        refusal = feed.refusal()
        if refusal is None:
            self._note_acceptance()
            return feed
        await feed.aclose()
        return self._refused(request, refusal, sent)

    def _single_event(
        self, request: _Request, response: httpx.Response, body: bytes, sent: float, started: float
    ) -> EventStream | FailedAttempt:
        answer = self._judge(request, response, body, sent)
        if isinstance(answer, FailedAttempt):
            return answer
        data: Any = answer.data
        if not isinstance(data, dict):
            return self._unreadable(request, answer.status, answer.data, "it is not a JSON object", sent)
        event = cast("dict[str, Any]", data)
        return SingleEventStream(event, status=answer.status, started=started)

    async def _send(self, request: _Request, attempt: int) -> httpx.Response:
        body, headers = await request.prepare(), request.headers
        if request.watch is not None:
            headers = _extended(headers, await request.watch.request(attempt, len(body)))
        return await self.session.send(
            request.method, request.url, headers, body, self._wire_timeouts, once=request.non_idempotent
        )

    def _judge(
        self,
        request: _Request,
        response: httpx.Response,
        body: bytes,
        sent: float,
        *,
        allow_error_body: bool = False,
        may_be_empty: bool = False,
    ) -> _Answer | FailedAttempt:
        status = response.status_code
        if not 200 <= status < 300:
            error = errors.from_response(status, response.headers, body, now=time.time(), redactor=self._redactor)
            return self._refused(request, error, sent)
        try:
            data = responses.decode(body) if body or not may_be_empty else None
        except responses.InvalidResponse as exc:
            return self._unreadable(request, status, errors.start_of(body, self._redactor), str(exc), sent)
        if self._redactor.may_be_in(body):
            data = self._redactor.json(data)
        reported = None
        if isinstance(data, dict) and "error" in data and not allow_error_body:
            reported = errors.from_success(status, self._redactor.headers(response.headers), data, now=time.time())
        outcome = _Answer(status, data) if reported is None else self._refused(request, reported, sent)
        if not is_refusal(outcome):
            self._note_acceptance()
        return outcome

    def _refused(self, request: _Request, error: APIError, sent: float) -> FailedAttempt:
        error.url = request.address
        errors.explain_refused_key(error, self._server.key, given_by="set MOONDREAM_API_KEY or pass api_key=...")
        return FailedAttempt(error, RetryCause("status", errors.effective_status(error), error.retry_after), sent)

    def _unreadable(self, request: _Request, status: int, body: Any, problem: str, sent: float) -> FailedAttempt:
        error = errors.invalid_response(status, body, self._redactor.text(problem))
        error.url = request.address
        return FailedAttempt(error, None, sent)

    def _broken(self, request: _Request, exc: BaseException, sent: float) -> FailedAttempt:
        error, failure = self._explain(request, exc)
        return FailedAttempt(error, failure, sent)

    def _explain(self, request: _Request, exc: BaseException) -> tuple[MoondreamError, RetryCause | None]:
        error, failure = transport_errors.explain(exc, address=request.address, timeouts=self._timeouts)
        error.message = self._redactor.text(error.message)
        return error, failure

    def _out_of_time(self, sent: float, request: _Request) -> FailedAttempt:
        error = transport_errors.total_timeout(self._timeouts.total, "Timeouts.total", request.address)
        if request.non_idempotent:
            return FailedAttempt(transport_errors.ambiguous(error), None, sent)
        return FailedAttempt(error, RetryCause("timeout"), sent)

    def _expiry(self, sent: float, started: float) -> float:
        expiry = sent + self._timeouts.total
        return expiry if self._retry.deadline is None else min(expiry, started + self._retry.deadline)

    def _request(self, method: str, path: str, headers: httpx.Headers, body: Body) -> _Request:
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = httpx.URL(f"{self._server.base_url}/{path}")
        return _Request(method, url, headers, body)

    def _headers(
        self, extra: dict[str, str], auth_name: str, auth: str, *, accept: str, content: str = "application/json"
    ) -> httpx.Headers:
        # Laid out once per client: merging headers for each call costs more than sending them.
        headers = {
            "Host": self._host,
            "User-Agent": f"moondream-async/{__version__}",
            "Accept": accept,
            "Accept-Encoding": "identity",
            "Content-Type": content,
        }
        if self._server.key is not None:
            headers[auth_name] = HiddenStr(auth.format(key=self._server.key.reveal()))
        merged = httpx.Headers(headers)
        merged.update(extra)
        return merged


def _redactor(server: Server, headers: Mapping[str, str]) -> Redactor:
    """Make what keeps the key, and the credentials in the user's own headers, out of errors."""
    secrets = [] if server.key is None else server.key.parts()
    for name, value in headers.items():
        secrets += secrets_in_header(value) if is_credential(name) else []
    return Redactor(secrets)


def _only_if_refused(failed: FailedAttempt, retry_statuses: tuple[int, ...]) -> FailedAttempt:
    """What is left of a failure for a request that must not be done twice."""
    failure = failed.failure
    if failure is None or failure.status in retry_statuses:
        return failed
    sure = failure.status is not None and failure.status < 500  # not done, and not to be tried again either
    return attrs.evolve(failed, error=failed.error if sure else transport_errors.ambiguous(failed.error), failure=None)


@asynccontextmanager
async def _ending_in_failure(observer: CallObserver | None) -> AsyncGenerator[None]:
    """Says that the call is over if it fails in here; who succeeds says so with more to tell."""
    try:
        yield
    except BaseException as exc:
        if observer is not None:
            await observer.end(attempts=getattr(exc, "attempts", 0), error=exc)
        raise


def _extended(headers: httpx.Headers, extra: dict[str, str]) -> httpx.Headers:
    """Headers with those that hooks want, which do not replace any."""
    new = {name: value for name, value in check_headers(extra).items() if name not in headers} if extra else {}
    if not new:
        return headers
    extended = headers.copy()
    extended.update(new)
    return extended


def _host_of(base_url: str) -> str:
    try:
        return httpx.URL(base_url).netloc.decode("ascii")
    except (httpx.InvalidURL, ValueError) as exc:
        problem = str(exc)
    raise ConfigurationError(f"base_url {base_url!r} cannot be used: {problem}.")


def _is_stream(response: httpx.Response) -> bool:
    content_type = response.headers.get("content-type", "")
    return response.is_success and "text/event-stream" in content_type.lower()
