"""Send one logical call: retries, rate limiting, timeouts and typed errors around `Session.send`."""

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
A = TypeVar("A", "_JsonResponse", EventStream)

Body: TypeAlias = bytes | FileBody | Payload | Callable[[], Awaitable[bytes]]
"""A request body, or a builder that runs once, after the call has acquired its slot."""

SURELY_REFUSED = (425, 429)
"""Statuses after which even a non-idempotent request may be retried: the server did not process it."""


@attrs.define(eq=False)
class _Request:
    method: str
    url: httpx.URL = attrs.field(repr=without_query)
    headers: httpx.Headers = attrs.field(repr=False)  # contain the API key
    body: Body = attrs.field(repr=False)
    observer: CallObserver | None = None
    non_idempotent: bool = False
    retry_statuses: tuple[int, ...] = ()
    allow_error_body: bool = False
    started: float = attrs.field(factory=time.monotonic)
    uncounted_attempts: int = 0
    """Attempts refused with 429 while other calls succeeded; they do not count against the retry policy."""

    @property
    def address(self) -> str:
        """The URL without its query, for error messages."""
        return without_query(self.url)

    async def prepare(self) -> bytes | FileBody:
        """Return the body, building it on first use.

        Call it only while holding a slot, so that waiting calls keep no image in memory.
        """
        if not isinstance(self.body, (bytes, FileBody)):
            self.body = await (self.body() if callable(self.body) else self.body.prepare())
        return self.body


@attrs.frozen(eq=False)
class _JsonResponse:
    status: int
    data: Any = attrs.field(repr=False)


class Sender:
    """HTTP sender of one client.

    Args:
        session: Connections, slots and rate limiter; shared with clones.
        server: Base URL and key.
        headers: Extra headers, with lowercase names.
        timeouts: Limits for each attempt.
        retry: Retry policy.
        hooks: User hooks, called for each request, response, retry, event and end.
        allow_private: Whether presigned URLs may point to private addresses.
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
        self._host = _host_header(server.base_url)
        self._skill_headers = self._headers(headers, "x-moondream-auth", "{key}", accept="application/json")
        self._stream_headers = self._headers(headers, "x-moondream-auth", "{key}", accept="text/event-stream")
        self._listing_headers = self._headers(headers, "authorization", "Bearer {key}", accept="application/json")
        self._chat_headers = self._headers(headers, "authorization", "Bearer {key}", accept="text/event-stream")
        self._upload_headers = self._headers(
            headers, "x-moondream-auth", "{key}", accept="application/json", content="application/octet-stream"
        )

    async def fetch(self, path: str, body: Body, read: Callable[[Any, Meta], R], *, bearer: bool = False) -> R:
        """POST a body and parse the JSON response.

        Args:
            path: Path below the base URL.
            body: Request body.
            read: Builds the result from the decoded JSON.
            bearer: Send the key as a bearer token, as OpenAI clients do.
        """
        # Keep the headers out of local variables: they contain the key, and a traceback may show locals.
        request = self._request("POST", path, self._listing_headers if bearer else self._skill_headers, body)
        return await self._fetch(request, path, read)

    async def get(self, path: str, read: Callable[[Any, Meta], R]) -> R:
        """GET a path, with the key as a bearer token, and parse the JSON response."""
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
        """Send any other request and parse its JSON response.

        Args:
            method: HTTP method.
            path: Path below the base URL; its first segment is the operation name in hooks and logs.
            read: Builds the result from the decoded JSON.
            query: Query parameters.
            body: JSON, or a slice of a file to upload unchanged.
            non_idempotent: Do not retry once the server may have accepted the request.
            retry_statuses: Statuses after which a non-idempotent request may still be retried.
            allow_error_body: Treat an `error` field in a 200 response as data, not as a failure.
        """
        url = httpx.URL(f"{self._server.base_url}/{path}", params=query)
        request = _Request(
            method,
            url,
            # Keep them out of local variables: they contain the key, and a traceback may show locals.
            self._upload_headers if isinstance(body, FileBody) else self._skill_headers,
            body,
            non_idempotent=non_idempotent,
            retry_statuses=retry_statuses,
            allow_error_body=allow_error_body,
        )
        return await self._fetch(request, path.partition("/")[0], read)

    @property
    def files(self) -> Files:
        """A reader of presigned files on other hosts; it never sends the key."""
        allowed = Presigned.of(self._server.base_url, allow_private=self._allow_private)
        return Files(self.session, self._timeouts, self._retry, allowed)

    async def open_stream(self, path: str, body: Body, *, bearer: bool = False) -> EventStream:
        """POST a body and open the response as an event stream, with its first event already read."""
        request = self._request("POST", path, self._chat_headers if bearer else self._stream_headers, body)
        request.observer = self._make_observer(path, stream=True)
        async with _report_failure(request.observer):
            stream, attempts = await self._run_with_retries(lambda n: self._try_stream(request, n), request)
        stream.bind(attempts, request.observer, self.session.counters)
        return stream

    async def download(self, url: str, *, allow_private: bool) -> bytes:
        """Download an image from an http(s) URL, without sending the key."""
        if self.session.closed:
            raise ConfigurationError("This client is closed; make a new one.")
        return await self.session.downloads.fetch(
            url, allow_private=allow_private, timeouts=self._timeouts, retry=self._retry
        )

    def _make_observer(self, path: str, *, stream: bool) -> CallObserver | None:
        """Create the observer of a new call, or None if there are no hooks and logging is off."""
        if not self._hooks and not log.isEnabledFor(logging.INFO):
            return None
        with no_fork():
            from .observer import CallObserver

        return CallObserver(self._hooks, path, self._server.model, self._server.base_url, stream=stream)

    async def _fetch(self, request: _Request, path: str, read: Callable[[Any, Meta], R]) -> R:
        request.observer = self._make_observer(path, stream=False)
        if request.observer is None:
            return await self._fetch_unobserved(request, read)
        async with _report_failure(request.observer):
            result: Any = await self._fetch_unobserved(request, read)
        if isinstance(result, Result):
            await request.observer.end(
                attempts=result.meta.attempts,
                request_id=result.request_id,
                finish_reason=result.finish_reason,
                metrics=result.metrics,
            )
        else:
            await request.observer.end()
        return cast("R", result)

    async def _fetch_unobserved(self, request: _Request, read: Callable[[Any, Meta], R]) -> R:
        answer, attempts = await self._run_with_retries(lambda n: self._try_fetch(request, n), request)
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

    async def _run_with_retries(
        self, attempt_once: Callable[[int], Awaitable[T | FailedAttempt]], request: _Request
    ) -> tuple[T, int]:
        self.session.counters.calls += 1
        return await run_with_retries(
            attempt_once,
            self._retry,
            lambda failed, attempt: self._delay_after(failed, request, attempt),
            request.observer,
            address=request.address,
        )

    def _delay_after(self, failed: FailedAttempt, request: _Request, attempt: int) -> float | None:
        now = time.monotonic()
        refused = is_refusal(failed)
        if refused and self.session.pacer.progress.leaves_attempts(now, started=request.started):
            request.uncounted_attempts += 1
        counted = attempt - request.uncounted_attempts
        delay = delay_by_policy(self._retry, failed, counted, now - request.started)
        if delay is not None:
            self.session.counters.retries += 1
        if refused:
            hold = delay if delay is not None else backoff(self._retry, counted)
            self._record_refusal(failed, now, hold)
        return delay

    def _record_refusal(self, failed: FailedAttempt, now: float, hold: float) -> None:
        self.session.counters.rate_limited += 1
        self.session.pacer.pace.refused(now, started=failed.sent, delay=hold)
        if isinstance(failed.error, APIError):
            self.session.pacer.progress.refused(failed.error)

    def _record_acceptance(self) -> None:
        self.session.pacer.pace.succeeded()
        self.session.pacer.progress.accepted(time.monotonic())

    async def _try_fetch(self, request: _Request, attempt: int) -> _JsonResponse | FailedAttempt:
        slot = self.session.slot()
        await slot.acquire()
        outcome: _JsonResponse | FailedAttempt | None = None
        try:
            await request.prepare()
            sent = await self.session.pacer.turn(request.started)
            if isinstance(sent, APIError):
                return FailedAttempt(sent, None)
            slot.sent()
            # A file upload has no total timeout: it may take as long as it makes progress (Timeouts.idle).
            seconds = None if isinstance(request.body, FileBody) else self._timeouts.total
            with anyio.move_on_after(seconds):
                outcome = await self._transfer(request, attempt, sent)
        finally:
            slot.release()
        return await self._notify(outcome or self._from_timeout(sent, request), request, attempt, sent)

    async def _notify(
        self, outcome: A | FailedAttempt, request: _Request, attempt: int, sent: float
    ) -> A | FailedAttempt:
        """Notify the observer of an attempt's outcome, and return the outcome."""
        if request.observer is None:
            return outcome
        error = outcome.error if isinstance(outcome, FailedAttempt) else None
        status = getattr(error, "status", None) if isinstance(outcome, FailedAttempt) else outcome.status
        try:
            await request.observer.response(attempt, status, sent, error)
        except BaseException:  # cancelled inside a hook, before the caller has the stream
            if isinstance(outcome, EventStream):
                await outcome.aclose()
            raise
        return outcome

    async def _transfer(self, request: _Request, attempt: int, sent: float) -> _JsonResponse | FailedAttempt:
        try:
            response = await self._send(request, attempt)
            body = await read_all(response, LARGEST_ANSWER)
        except transport_errors.TRANSPORT_ERRORS as exc:
            if request.non_idempotent and not isinstance(exc, transport_errors.NOT_SENT):
                return FailedAttempt(transport_errors.ambiguous(self._explain(request, exc)[0]), None, sent)
            return self._from_transport_error(request, exc, sent)
        except ResponseTooLargeError as exc:
            return self._from_invalid_response(request, 200, None, str(exc), sent)
        outcome = self._decode_response(
            request,
            response,
            body,
            sent,
            allow_error_body=request.allow_error_body,
            may_be_empty=request.method == "DELETE",
        )
        if request.non_idempotent and isinstance(outcome, FailedAttempt):
            return _keep_retry_if_rejected(outcome, request.retry_statuses)
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
                outcome = await self._open_event_stream(request, attempt, slot, sent, expiry)
        finally:
            if not isinstance(outcome, EventStream) or isinstance(outcome, SingleEventStream):
                slot.release()
        return await self._notify(outcome or self._from_timeout(sent, request), request, attempt, sent)

    async def _open_event_stream(
        self, request: _Request, attempt: int, slot: Slot, sent: float, expiry: float
    ) -> EventStream | FailedAttempt:
        try:
            response = await self._send(request, attempt)
            if not _is_stream(response):
                return self._single_event(
                    request, response, await read_all(response, LARGEST_ANSWER), sent, request.started
                )
            stream = EventStream(
                response,
                slot.release,
                started=request.started,
                expiry=expiry,
                explain=functools.partial(self._explain, request),
                redactor=self._redactor,
                address=request.address,
            )
            await stream.read_first()
        except MoondreamError:  # a closed client; some of these are also ValueErrors, which are caught below
            raise
        except transport_errors.TRANSPORT_ERRORS as exc:
            return self._from_transport_error(request, exc, sent)
        except (ResponseTooLargeError, *responses.PARSE_ERRORS) as exc:
            return self._from_invalid_response(request, 200, None, str(exc), sent)
        except OutOfTimeError:
            return self._from_timeout(sent, request)
        error = stream.first_error()
        if error is None:
            self._record_acceptance()
            return stream
        await stream.aclose()
        return self._from_api_error(request, error, sent)

    def _single_event(
        self, request: _Request, response: httpx.Response, body: bytes, sent: float, started: float
    ) -> EventStream | FailedAttempt:
        answer = self._decode_response(request, response, body, sent)
        if isinstance(answer, FailedAttempt):
            return answer
        data: Any = answer.data
        if not isinstance(data, dict):
            return self._from_invalid_response(request, answer.status, answer.data, "it is not a JSON object", sent)
        event = cast("dict[str, Any]", data)
        return SingleEventStream(event, status=answer.status, started=started)

    async def _send(self, request: _Request, attempt: int) -> httpx.Response:
        body, headers = await request.prepare(), request.headers
        if request.observer is not None:
            headers = _with_extra_headers(headers, await request.observer.request(attempt, len(body)))
        return await self.session.send(
            request.method, request.url, headers, body, self._wire_timeouts, new_connection=request.non_idempotent
        )

    def _decode_response(
        self,
        request: _Request,
        response: httpx.Response,
        body: bytes,
        sent: float,
        *,
        allow_error_body: bool = False,
        may_be_empty: bool = False,
    ) -> _JsonResponse | FailedAttempt:
        status = response.status_code
        if not 200 <= status < 300:
            error = errors.from_response(status, response.headers, body, now=time.time(), redactor=self._redactor)
            return self._from_api_error(request, error, sent)
        try:
            data = responses.decode(body) if body or not may_be_empty else None
        except responses.InvalidResponse as exc:
            return self._from_invalid_response(request, status, errors.start_of(body, self._redactor), str(exc), sent)
        if self._redactor.may_be_in(body):
            data = self._redactor.json(data)
        reported = None
        if isinstance(data, dict) and "error" in data and not allow_error_body:
            reported = errors.from_success(status, self._redactor.headers(response.headers), data, now=time.time())
        outcome = _JsonResponse(status, data) if reported is None else self._from_api_error(request, reported, sent)
        if not is_refusal(outcome):
            self._record_acceptance()
        return outcome

    def _from_api_error(self, request: _Request, error: APIError, sent: float) -> FailedAttempt:
        error.url = request.address
        errors.explain_refused_key(error, self._server.key, given_by="set MOONDREAM_API_KEY or pass api_key=...")
        return FailedAttempt(error, RetryCause("status", errors.effective_status(error), error.retry_after), sent)

    def _from_invalid_response(
        self, request: _Request, status: int, body: Any, problem: str, sent: float
    ) -> FailedAttempt:
        error = errors.invalid_response(status, body, self._redactor.text(problem))
        error.url = request.address
        return FailedAttempt(error, None, sent)

    def _from_transport_error(self, request: _Request, exc: BaseException, sent: float) -> FailedAttempt:
        error, cause = self._explain(request, exc)
        return FailedAttempt(error, cause, sent)

    def _explain(self, request: _Request, exc: BaseException) -> tuple[MoondreamError, RetryCause | None]:
        error, cause = transport_errors.explain(exc, address=request.address, timeouts=self._timeouts)
        error.message = self._redactor.text(error.message)
        return error, cause

    def _from_timeout(self, sent: float, request: _Request) -> FailedAttempt:
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
        # Built once per client: merging headers for each call costs more than sending them.
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
    """Create the redactor that keeps the key, and credentials in the user's own headers, out of errors."""
    secrets = [] if server.key is None else server.key.parts()
    for name, value in headers.items():
        secrets += secrets_in_header(value) if is_credential(name) else []
    return Redactor(secrets)


def _keep_retry_if_rejected(failed: FailedAttempt, retry_statuses: tuple[int, ...]) -> FailedAttempt:
    """Drop the retry cause of a failed non-idempotent request, unless the server surely did not process it."""
    cause = failed.cause
    if cause is None or cause.status in retry_statuses:
        return failed
    rejected = cause.status is not None and cause.status < 500  # not processed, and a retry would not help
    error = failed.error if rejected else transport_errors.ambiguous(failed.error)
    return attrs.evolve(failed, error=error, cause=None)


@asynccontextmanager
async def _report_failure(observer: CallObserver | None) -> AsyncGenerator[None]:
    """Report the end of the call if the block raises; a successful caller reports it itself, with more details."""
    try:
        yield
    except BaseException as exc:
        if observer is not None:
            await observer.end(attempts=getattr(exc, "attempts", 0), error=exc)
        raise


def _with_extra_headers(headers: httpx.Headers, extra: dict[str, str]) -> httpx.Headers:
    """Return the headers plus those that hooks add; hooks cannot replace existing ones."""
    new = {name: value for name, value in check_headers(extra).items() if name not in headers} if extra else {}
    if not new:
        return headers
    extended = headers.copy()
    extended.update(new)
    return extended


def _host_header(base_url: str) -> str:
    try:
        return httpx.URL(base_url).netloc.decode("ascii")
    except (httpx.InvalidURL, ValueError) as exc:
        problem = str(exc)
    raise ConfigurationError(f"Invalid base_url {base_url!r}: {problem}.")


def _is_stream(response: httpx.Response) -> bool:
    content_type = response.headers.get("content-type", "")
    return response.is_success and "text/event-stream" in content_type.lower()
