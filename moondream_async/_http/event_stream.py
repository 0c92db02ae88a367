"""Read server-sent events from an open response: bounded, correct at any byte split, always cleaned up."""

from __future__ import annotations

import codecs
import functools
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, cast

import anyio
import httpx
from httpx_sse import EventSource

from .._wire import errors, events, responses
from .._wire.redact import Redactor
from .._wire.responses import PARSE_ERRORS
from ..errors import APIError, ConfigurationError, MoondreamError
from ..types import Meta, Result
from .asyncio_socket import DeadlineError
from .http1 import Http1Body
from .pooled_request import raw_headers_of
from .response_body import ResponseTooLargeError
from .retrying import FailedAttempt
from .stats import StatsCounters
from .transport_errors import TRANSPORT_ERRORS, from_transport, total_timeout

if TYPE_CHECKING:
    from .observer import CallObserver

MAX_EVENT = 16 * 1024 * 1024
"""Maximum size of one event, in bytes; a stream with a larger one fails."""

_DRAIN_TIMEOUT = 0.25  # seconds to wait for the end of the body after the last event

Explain = Callable[[BaseException], FailedAttempt]


class OutOfTimeError(Exception):
    """The total timeout of the stream expired while waiting for bytes."""


class _TextSource:
    """Response text in the shape that httpx-sse reads; limits the size of each event.

    A class, not an async generator, so that abandoning it midway needs no finalization.
    """

    def __init__(self, response: httpx.Response, expiry: float) -> None:
        self.headers = {"content-type": "text/event-stream"}  # already checked, case-insensitively
        self._bytes = _raw_bytes(response)
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._expiry = expiry
        # Our own connections enforce a deadline themselves.
        self._body = response.stream if isinstance(response.stream, Http1Body) else None
        if self._body is not None:
            self._body.set_deadline(expiry - time.monotonic())
        self._event_size = 0
        self._ended = False

    def aiter_text(self) -> AsyncIterator[str]:
        return self

    def __aiter__(self) -> AsyncIterator[str]:
        return self

    async def __anext__(self) -> str:
        if self._ended:
            raise StopAsyncIteration
        if self._expiry < time.monotonic():
            raise OutOfTimeError
        chunk = await (self._next_with_timeout() if self._body is None else self._next())
        if chunk is None:
            self._ended = True
            # Some servers omit the blank line after the last event; the event is complete anyway.
            return self._decoder.decode(b"", final=True) + "\n\n"
        if self._event_size > MAX_EVENT:
            raise ResponseTooLargeError(f"one event has more than {MAX_EVENT:,} bytes")
        self._event_size += len(chunk)  # of which the start may belong to events before
        return self._decoder.decode(chunk)

    def reset_event_size(self) -> None:
        self._event_size = 0

    def clear_deadline(self) -> None:
        """Clear the deadline so that the connection can be reused."""
        if self._body is not None:
            self._body.set_deadline(None)

    async def _next(self) -> bytes | None:
        try:
            return await anext(self._bytes, None)
        except DeadlineError:
            raise OutOfTimeError from None
        except Exception as exc:
            raise from_transport(exc) from None

    async def _next_with_timeout(self) -> bytes | None:
        with anyio.move_on_after(self._expiry - time.monotonic()):
            try:
                return await anext(self._bytes, None)
            except Exception as exc:
                raise from_transport(exc) from None
        raise OutOfTimeError


def _raw_bytes(response: httpx.Response) -> AsyncIterator[bytes]:
    if response.is_stream_consumed:  # a hook of a user-supplied httpx client has read it
        return aiter(httpx.ByteStream(response.content))
    if "content-encoding" in response.headers:
        return aiter(response.aiter_bytes())
    return aiter(cast("httpx.AsyncByteStream", response.stream))


async def event_data(response: httpx.Response, release: Callable[[], None], expiry: float) -> AsyncGenerator[str, None]:
    """Yield the data of each event; always release the connection and the slot at the end.

    It is an async generator, so the event loop closes it if the user abandons it midway.
    """
    text = _TextSource(response, expiry)
    try:
        async with aclosing(EventSource(cast("httpx.Response", text)).aiter_sse()) as source:
            async for event in source:
                text.reset_event_size()
                yield event.data
    finally:
        text.clear_deadline()
        try:
            with anyio.CancelScope(shield=True):
                await response.aclose()
        finally:
            release()


class EventStream:
    """An open stream of events, as JSON objects.

    Attributes:
        attempts: Number of requests it took to open the stream.
        status: HTTP status of the response.
        holds_slot: Whether it holds its call's slot until it is closed.
    """

    attempts = 1
    holds_slot = True
    _observer: CallObserver | None = None
    _counters: StatsCounters | None = None
    _latest: events.Object | None = None
    _redactor = Redactor()
    _address = ""
    _headers: Callable[[], dict[str, str]] = dict

    def __init__(
        self,
        response: httpx.Response,
        release: Callable[[], None],
        *,
        started: float,
        expiry: float,
        explain: Explain,
        redactor: Redactor,
        address: str,
    ) -> None:
        self._response = response
        self._redactor = redactor
        self._address = address
        self.status = response.status_code
        self._headers = functools.partial(redactor.safe_headers, raw_headers_of(response))
        self._event_data = event_data(response, release, expiry)
        self._started = started
        self._time_allowed = expiry - started
        self._explain = explain
        self._first: events.Object | None = None

    def bind(self, attempts: int, observer: CallObserver | None, counters: StatsCounters) -> None:
        """Attach the stream to its call, once it is known to be the one that is returned.

        Args:
            attempts: Number of requests it took to open the stream.
            observer: Notified of each event and of the end.
            counters: Counts the tokens.
        """
        self.attempts, self._observer, self._counters = attempts, observer, counters

    @property
    def meta(self) -> Meta:
        """Status, attempts and elapsed time of the call so far."""
        return Meta(self.status, self.attempts, time.monotonic() - self._started, headers=self._headers)

    async def read_first(self) -> None:
        """Read the first event, while the request can still be retried.

        Raises:
            PARSE_ERRORS: The event is not a JSON object.
            ResponseTooLargeError: The event is too large.
            OutOfTimeError: The total timeout expired.
            TRANSPORT_ERRORS: The connection failed.
        """
        try:
            self._first = await self._read_event()
        except PARSE_ERRORS:
            await self.aclose()  # the transport did not fail, so nothing else has closed the stream
            raise
        if self._first is None:
            raise httpx.RemoteProtocolError("the stream ended before its first event")

    def redact(self, partial: object) -> object:
        """Redact a partial result for an error; a credential may be split across several events."""
        return self._redactor.text(partial) if isinstance(partial, str) else partial

    def first_error(self) -> APIError | None:
        """Return the error that the first event reports, if any."""
        return self._find_error(self._first)

    async def next(self) -> events.Object | None:
        """Return the next event, or None at the end of the stream.

        Raises:
            MoondreamError: The stream failed, timed out, or reported an error.
        """
        event, self._first = self._first, None
        if event is None:
            event = await self._read_checked()
        if event is not None:
            self._latest = event
            if self._observer is not None:
                await self._observer.event(event)
        return event

    async def _read_checked(self) -> events.Object | None:
        try:
            event = await self._read_event()
        except (OutOfTimeError, ResponseTooLargeError, *PARSE_ERRORS, *TRANSPORT_ERRORS) as exc:
            error = self._to_error(exc)
        except RuntimeError:  # "asynchronous generator is already running"
            raise ConfigurationError(
                "Two tasks are reading the same stream; a stream can be iterated only once."
            ) from None
        else:
            reported = None if event is None or "error" not in event else self._find_error(event)
            if reported is None:
                return event
            error = reported
        await self.aclose()
        raise error

    async def end(self, error: Exception | None, summary: Result | None = None) -> None:
        """Count the tokens and notify the observer that the call is over.

        Args:
            error: The error that ended the stream, if any.
            summary: Request id, finish reason and metrics of the call; by default those of the last event.
        """
        summary = summary or responses.summary(self._latest)
        if self._counters is not None:
            self._counters.add_tokens(summary.metrics)
            self._counters = None
        if self._observer is not None:
            await self._observer.end(
                attempts=self.attempts,
                error=error,
                request_id=summary.request_id,
                finish_reason=summary.finish_reason,
                metrics=summary.metrics,
            )

    async def finish(self) -> None:
        """Briefly read on to the end of the body after the last event, so that the connection can be reused."""
        with anyio.move_on_after(_DRAIN_TIMEOUT, shield=True):
            try:
                async for _ in self._event_data:
                    pass
            except (OutOfTimeError, ResponseTooLargeError, *TRANSPORT_ERRORS):
                pass  # all events have arrived; the connection is closed instead of reused
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection, unless the response was read to its end, and free the slot."""
        with anyio.CancelScope(shield=True):
            try:
                await self._event_data.aclose()
            except RuntimeError:
                # Another task is reading: closing the connection wakes it, and it cleans up.
                with suppress(RuntimeError):
                    await self._response.aclose()

    async def _read_event(self) -> events.Object | None:
        async for data in self._event_data:
            event = events.parse(data)
            if event is not None:
                return self._redactor.json(event) if self._redactor.may_be_in(data) else event
        return None

    def _find_error(self, event: events.Object | None) -> APIError | None:
        if event is None or "error" not in event:
            return None
        error = errors.from_event(self.status, self._redactor.headers(self._response.headers), event, now=time.time())
        if error is not None:
            error.url = self._address
        return error

    def _to_error(self, exc: Exception) -> MoondreamError:
        if isinstance(exc, OutOfTimeError):
            return total_timeout(self._time_allowed, "Timeouts.total", self._address)
        if isinstance(exc, (ResponseTooLargeError, *PARSE_ERRORS)) and not isinstance(exc, UnicodeError):
            return MoondreamError(self._redactor.text(str(exc)))
        return self._explain(exc).error


class SingleEventStream(EventStream):
    """A stream of a single event: the whole response of a server that does not stream."""

    holds_slot = False

    def __init__(
        self, event: events.Object, *, status: int, started: float, headers: Callable[[], dict[str, str]]
    ) -> None:
        self.status = status
        self._started = started
        self._headers = headers
        self._first = {**event, "completed": True}

    async def _read_event(self) -> events.Object | None:
        return None

    async def finish(self) -> None:
        """Do nothing: the whole response has been read."""

    async def aclose(self) -> None:
        """Do nothing: the whole response has been read."""
