"""One logical call: attempts, waits, timeouts and typed errors around `Session.send`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias, TypeVar, cast

import anyio
import attrs
import httpx

from .._version import __version__
from ..config import RetryPolicy, Server, Timeouts
from ..errors import APIError, ConfigurationError, MoondreamError
from ..types import Meta
from ..wire import errors, responses
from ..wire.retry import Failure, backoff
from . import failures
from .attempts import Failed, delay_by_policy, persist
from .feed import AnswerTooLargeError, Feed, OutOfTimeError, SingleEvent
from .session import Session, Slot

T = TypeVar("T")
R = TypeVar("R")

_LARGEST_ANSWER = 64 * 1024 * 1024  # bytes; no answer of a skill comes near


Body: TypeAlias = bytes | Callable[[], Awaitable[bytes]]
"""A request's body; or what makes it, once, when the call has its slot."""


@attrs.define(eq=False)
class _Request:
    method: str
    url: httpx.URL
    headers: httpx.Headers = attrs.field(repr=False)  # they hold the key
    body: Body = attrs.field(repr=False)

    async def prepare(self) -> bytes:
        """The body, made now if it is not yet: only who has a slot holds an image in memory."""
        if not isinstance(self.body, bytes):
            self.body = await self.body()
        return self.body


@attrs.frozen(eq=False)
class _Answer:
    status: int
    data: Any


class Sender:
    """Sends the calls of one client.

    Args:
        session: Connections, slots and pace; shared with clones.
        server: Base URL and key.
        headers: Extra headers, names in lower case.
        timeouts: Bounds of each attempt.
        retry: When to try again.
    """

    def __init__(
        self,
        session: Session,
        server: Server,
        headers: dict[str, str],
        timeouts: Timeouts,
        retry: RetryPolicy,
    ) -> None:
        self.session = session
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

    async def fetch(self, path: str, body: Body, read: Callable[[Any, Meta], R]) -> R:
        """POST a body and read the JSON answer into a result."""
        return await self._fetch(self._request("POST", path, self._skill_headers, body), read)

    async def get(self, path: str, read: Callable[[Any, Meta], R]) -> R:
        """GET a path, with the key as a bearer token, and read the JSON answer into a result."""
        return await self._fetch(self._request("GET", path, self._listing_headers, b""), read)

    async def open_stream(self, path: str, body: Body) -> Feed:
        """POST a body and open the answer's stream of events, its first event read already."""
        request = self._request("POST", path, self._stream_headers, body)
        started = time.monotonic()
        feed, attempts = await self._persist(lambda: self._try_stream(request, started), started)
        feed.attempts = attempts
        return feed

    async def download(self, url: str, *, allow_private: bool) -> bytes:
        """The image behind an http(s) URL; the key stays here."""
        return await self.session.downloads.fetch(
            url, allow_private=allow_private, timeouts=self._timeouts, retry=self._retry
        )

    async def _fetch(self, request: _Request, read: Callable[[Any, Meta], R]) -> R:
        started = time.monotonic()
        answer, attempts = await self._persist(lambda: self._try_fetch(request), started)
        meta = Meta(answer.status, attempts, time.monotonic() - started)
        try:
            return read(answer.data, meta)
        except responses.MALFORMED as exc:
            problem = str(exc)
        error = errors.unreadable(answer.status, answer.data, problem)
        error.attempts = attempts
        raise error

    async def _persist(self, once: Callable[[], Awaitable[T | Failed]], started: float) -> tuple[T, int]:
        return await persist(once, self._retry, lambda failed, attempt: self._delay_after(failed, attempt, started))

    def _delay_after(self, failed: Failed, attempt: int, started: float) -> float | None:
        delay = delay_by_policy(self._retry, failed, attempt, time.monotonic() - started)
        if failed.failure is not None and failed.failure.status == 429:
            hold = delay if delay is not None else backoff(self._retry, attempt)
            self.session.pacer.pace.refused(time.monotonic(), started=failed.sent, delay=hold)
        return delay

    async def _try_fetch(self, request: _Request) -> _Answer | Failed:
        slot = self.session.slot()
        await slot.acquire()
        try:
            await request.prepare()
            sent = await self.session.pacer.turn()
            with anyio.move_on_after(self._timeouts.total):
                return await self._transfer(request, sent)
        finally:
            slot.release()
        return self._out_of_time(sent)

    async def _transfer(self, request: _Request, sent: float) -> _Answer | Failed:
        try:
            response = await self._send(request)
            body = await _read_all(response)
        except failures.TRANSPORT_ERRORS as exc:
            return self._broken(exc, sent)
        except AnswerTooLargeError as exc:
            return Failed(errors.unreadable(200, None, str(exc)), None, sent)
        return self._judge(response, body, sent)

    async def _try_stream(self, request: _Request, started: float) -> Feed | Failed:
        slot = self.session.slot()
        await slot.acquire()
        outcome: Feed | Failed | None = None
        try:
            await request.prepare()
            sent = await self.session.pacer.turn()
            expiry = self._expiry(sent, started)
            with anyio.move_on_after(self._timeouts.total):
                outcome = await self._open_feed(request, slot, sent, started, expiry)
        finally:
            if not isinstance(outcome, Feed) or isinstance(outcome, SingleEvent):
                slot.release()
        return outcome if outcome is not None else self._out_of_time(sent)

    async def _open_feed(
        self, request: _Request, slot: Slot, sent: float, started: float, expiry: float
    ) -> Feed | Failed:
        try:
            response = await self._send(request)
            if not _is_stream(response):
                return self._single_event(response, await _read_all(response), sent, started)
            feed = Feed(
                response,
                slot.release,
                started=started,
                expiry=expiry,
                explain=self._explain,
                without_key=self._without_key,
            )
            await feed.peek()
        except failures.TRANSPORT_ERRORS as exc:
            return self._broken(exc, sent)
        except (AnswerTooLargeError, *responses.MALFORMED) as exc:
            return Failed(errors.unreadable(200, None, str(exc)), None, sent)
        except OutOfTimeError:
            return self._out_of_time(sent)
        refusal = feed.refusal()
        if refusal is None:
            self.session.pacer.pace.succeeded()
            return feed
        await feed.aclose()
        return self._refused(refusal, sent)

    def _single_event(self, response: httpx.Response, body: bytes, sent: float, started: float) -> Feed | Failed:
        answer = self._judge(response, body, sent)
        if isinstance(answer, Failed):
            return answer
        data: Any = answer.data
        if not isinstance(data, dict):
            return Failed(errors.unreadable(answer.status, answer.data, "it is not a JSON object"), None, sent)
        event = cast("dict[str, Any]", data)
        return SingleEvent(event, status=answer.status, started=started)

    async def _send(self, request: _Request) -> httpx.Response:
        body = await request.prepare()
        return await self.session.send(request.method, request.url, request.headers, body, self._wire_timeouts)

    def _judge(self, response: httpx.Response, body: bytes, sent: float) -> _Answer | Failed:
        status, headers, now = response.status_code, self._lower(response.headers), time.time()
        body = self._without_key(body)
        if not 200 <= status < 300:
            return self._refused(errors.from_response(status, headers, body, now=now), sent)
        self.session.pacer.pace.succeeded()
        try:
            data = responses.decode(body)
        except responses.Unusable as exc:
            shown = body[:4_000].decode("utf-8", "replace")
            return Failed(errors.unreadable(status, shown, str(exc)), None, sent)
        error_inside = errors.from_success(status, headers, data, now=now)
        return _Answer(status, data) if error_inside is None else self._refused(error_inside, sent)

    def _refused(self, error: APIError, sent: float) -> Failed:
        return Failed(error, Failure("status", errors.status_meant(error), error.retry_after), sent)

    def _broken(self, exc: BaseException, sent: float) -> Failed:
        error, failure = self._explain(exc)
        return Failed(error, failure, sent)

    def _explain(self, exc: BaseException) -> tuple[MoondreamError, Failure | None]:
        return failures.explain(exc, base_url=self._server.base_url, timeouts=self._timeouts)

    def _out_of_time(self, sent: float) -> Failed:
        return Failed(failures.total_timeout(self._timeouts.total, "Timeouts.total"), Failure("timeout"), sent)

    def _expiry(self, sent: float, started: float) -> float:
        expiry = sent + self._timeouts.total
        return expiry if self._retry.deadline is None else min(expiry, started + self._retry.deadline)

    def _request(self, method: str, path: str, headers: httpx.Headers, body: Body) -> _Request:
        url = self._urls.get(path)
        if url is None:
            url = self._urls[path] = httpx.URL(f"{self._server.base_url}/{path}")
        return _Request(method, url, headers, body)

    def _headers(self, extra: dict[str, str], auth_name: str, auth: str, *, accept: str) -> httpx.Headers:
        # Laid out once per client: merging headers for each call costs more than sending them.
        headers = {
            "Host": self._host,
            "User-Agent": f"moondream-async/{__version__}",
            "Accept": accept,
            "Accept-Encoding": "identity",
            "Content-Type": "application/json",
        }
        if self._server.key is not None:
            headers[auth_name] = auth.format(key=self._server.key.reveal())
        merged = httpx.Headers(headers)
        merged.update(extra)
        return merged

    def _without_key(self, body: bytes) -> bytes:
        key = self._server.key
        return body if key is None else body.replace(key.reveal().encode("ascii"), b"***")

    def _lower(self, headers: httpx.Headers) -> dict[str, str]:
        key = self._server.key
        if key is None:
            return dict(headers.items())
        return {name: value.replace(key.reveal(), "***") for name, value in headers.items()}


def _host_of(base_url: str) -> str:
    try:
        return httpx.URL(base_url).netloc.decode("ascii")
    except (httpx.InvalidURL, ValueError) as exc:
        problem = str(exc)
    raise ConfigurationError(f"base_url {base_url!r} cannot be used: {problem}.")


def _is_stream(response: httpx.Response) -> bool:
    content_type = response.headers.get("content-type", "")
    return response.is_success and "text/event-stream" in content_type.lower()


async def _read_all(response: httpx.Response) -> bytes:
    if response.is_stream_consumed:  # by a hook of the user's own httpx client
        return response.content
    encoded = "content-encoding" in response.headers
    chunks: list[bytes] = []
    size = 0
    try:
        async for chunk in response.aiter_bytes() if encoded else cast("httpx.AsyncByteStream", response.stream):
            chunks.append(chunk)
            size += len(chunk)
            if size > _LARGEST_ANSWER:
                raise AnswerTooLargeError(f"the answer has more than {_LARGEST_ANSWER:,} bytes")
        return b"".join(chunks)
    finally:
        await response.aclose()
