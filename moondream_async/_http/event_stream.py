"""Server-sent events off an open answer: bounded, right at any byte split, cleaned up however it ends."""

from __future__ import annotations

import codecs
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, cast

import anyio
import httpcore
import httpx
from httpx_sse import EventSource

from .._wire import errors, events, responses
from .._wire.redact import Redactor
from .._wire.responses import PARSE_ERRORS
from .._wire.retry import RetryCause
from ..errors import APIError, ConfigurationError, MoondreamError
from ..types import Meta, Result
from .asyncio_backend import AsyncioStream
from .response_body import ResponseTooLargeError
from .stats import StatsCounters
from .transport_errors import TRANSPORT_ERRORS, from_transport, total_timeout

if TYPE_CHECKING:
    from .observer import CallObserver

LARGEST_EVENT = 16 * 1024 * 1024
"""Bytes of one event, beyond which the stream is given up."""

_DRAIN = 0.25  # seconds to wait for the end of the body after the last event

Explain = Callable[[BaseException], tuple[MoondreamError, RetryCause | None]]


class OutOfTimeError(Exception):
    """The stream's total time ran out while waiting for bytes."""


class _Text:
    """The answer's bytes as text, in the form httpx-sse reads; counts what no event has claimed yet.

    A class, not an async generator: an iterator that is left half-way needs no finalising.
    """

    def __init__(self, response: httpx.Response, expiry: float) -> None:
        self.headers = {"content-type": "text/event-stream"}  # checked already, in any case of letters
        self._bytes = _raw_bytes(response)
        self._decoder = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._expiry = expiry
        self._socket = _own_socket(response)
        if self._socket is not None:
            self._socket.deadline = expiry
        self._unclaimed = 0
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
        chunk = await (self._next_in_time() if self._socket is None else self._next())
        if chunk is None:
            self._ended = True
            # Some servers leave out the blank line after the last event; it is whole all the same.
            return self._decoder.decode(b"", final=True) + "\n\n"
        self._unclaimed += len(chunk)
        if self._unclaimed > LARGEST_EVENT:
            raise ResponseTooLargeError(f"one event has more than {LARGEST_EVENT:,} bytes")
        return self._decoder.decode(chunk)

    def claim(self) -> None:
        self._unclaimed = 0

    def end(self) -> None:
        """The connection may be used again, by whom no deadline of ours concerns."""
        if self._socket is not None:
            self._socket.deadline = None

    async def _next(self) -> bytes | None:
        try:
            return await anext(self._bytes, None)
        except httpcore.ReadTimeout:
            if self._expiry <= time.monotonic():
                raise OutOfTimeError from None
            raise
        except Exception as exc:
            raise from_transport(exc) from None

    async def _next_in_time(self) -> bytes | None:
        with anyio.move_on_after(self._expiry - time.monotonic()):
            try:
                return await anext(self._bytes, None)
            except Exception as exc:
                raise from_transport(exc) from None
        raise OutOfTimeError


def _own_socket(response: httpx.Response) -> AsyncioStream | None:
    """The socket, if it is one that keeps a deadline by itself."""
    socket = response.extensions.get("network_stream")
    return socket if isinstance(socket, AsyncioStream) else None


def _raw_bytes(response: httpx.Response) -> AsyncIterator[bytes]:
    if response.is_stream_consumed:  # by a hook of the user's own httpx client
        return aiter(httpx.ByteStream(response.content))
    if "content-encoding" in response.headers:
        return aiter(response.aiter_bytes())
    return aiter(cast("httpx.AsyncByteStream", response.stream))


async def event_data(response: httpx.Response, release: Callable[[], None], expiry: float) -> AsyncGenerator[str, None]:
    """The data of each event; when it ends, in whatever way, the connection and the slot are free.

    Being an async generator, it is closed by its event loop when a user drops it half-way.
    """
    text = _Text(response, expiry)
    try:
        async with aclosing(EventSource(cast("httpx.Response", text)).aiter_sse()) as source:
            async for event in source:
                text.claim()
                yield event.data
    finally:
        text.end()
        try:
            with anyio.CancelScope(shield=True):
                await response.aclose()
        finally:
            release()


class EventStream:
    """The events of one open stream, as JSON objects.

    Attributes:
        attempts: How many requests it took to open it.
        status: The HTTP status of the answer.
        watch: Is told of its events and its end.
        counters: Where its tokens are counted.
    """

    attempts = 1
    watch: CallObserver | None = None
    counters: StatsCounters | None = None
    _latest: events.Object | None = None
    _redactor = Redactor()
    _address = ""

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
        self._source = event_data(response, release, expiry)
        self._started = started
        self._time_allowed = expiry - started
        self._explain = explain
        self._peeked: events.Object | None = None

    @property
    def meta(self) -> Meta:
        """How the call went, up to now."""
        return Meta(self.status, self.attempts, time.monotonic() - self._started)

    async def peek(self) -> None:
        """Read the first event, while the request may still be sent again.

        Raises:
            MALFORMED: It is not a JSON object.
            AnswerTooLargeError, OutOfTimeError, or one of TRANSPORT_ERRORS.
        """
        try:
            self._peeked = await self._pull()
        except PARSE_ERRORS:
            await self.aclose()  # the bytes came well, so nothing else has ended the stream
            raise
        if self._peeked is None:
            raise httpx.RemoteProtocolError("the stream ended before its first event")

    def redacted(self, partial: object) -> object:
        """What has come so far, for an error to hold; a credential may have come in pieces, each in its own event."""
        return self._redactor.text(partial) if isinstance(partial, str) else partial

    def refusal(self) -> APIError | None:
        """The error that the first event is, if it is one."""
        return self._error_in(self._peeked)

    async def next(self) -> events.Object | None:
        """The next event, or None at the end of the stream.

        Raises:
            MoondreamError: The stream broke, timed out, or reported an error.
        """
        event, self._peeked = self._peeked, None
        if event is None:
            event = await self._checked_pull()
        if event is not None:
            self._latest = event
            if self.watch is not None:
                await self.watch.event(event)
        return event

    async def _checked_pull(self) -> events.Object | None:
        try:
            event = await self._pull()
        except (OutOfTimeError, ResponseTooLargeError, *PARSE_ERRORS, *TRANSPORT_ERRORS) as exc:
            error = self._typed(exc)
        except RuntimeError:  # "asynchronous generator is already running"
            raise ConfigurationError("Two tasks read one stream; it can be iterated only once.") from None
        else:
            reported = None if event is None or "error" not in event else self._error_in(event)
            if reported is None:
                return event
            error = reported
        await self.aclose()
        raise error

    async def end(self, error: Exception | None, summary: Result | None = None) -> None:
        """Nothing more will be read: count its tokens, and tell who looks on.

        Args:
            error: What went wrong.
            summary: What the events have said of the call; None takes the last event's word.
        """
        summary = summary or responses.summary(self._latest)
        if self.counters is not None:
            self.counters.add_tokens(summary.metrics)
            self.counters = None
        if self.watch is not None:
            await self.watch.end(
                attempts=self.attempts,
                error=error,
                request_id=summary.request_id,
                finish_reason=summary.finish_reason,
                metrics=summary.metrics,
            )

    async def finish(self) -> None:
        """After the last event: read to the end of the body, so that the connection can be kept; not for long."""
        with anyio.move_on_after(_DRAIN, shield=True):
            try:
                async for _ in self._source:
                    pass
            except (OutOfTimeError, ResponseTooLargeError, *TRANSPORT_ERRORS):
                pass  # all that mattered has come; the connection is closed instead of kept
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection, unless the answer was read to its end, and free the slot."""
        with anyio.CancelScope(shield=True):
            try:
                await self._source.aclose()
            except RuntimeError:
                # Another task is reading right now: cutting the connection ends its wait, and it cleans up.
                with suppress(RuntimeError):
                    await self._response.aclose()

    async def _pull(self) -> events.Object | None:
        async for data in self._source:
            event = events.parse(data)
            if event is not None:
                return self._redactor.json(event) if self._redactor.may_be_in(data) else event
        return None

    def _error_in(self, event: events.Object | None) -> APIError | None:
        if event is None or "error" not in event:
            return None
        error = errors.from_event(self.status, self._redactor.headers(self._response.headers), event, now=time.time())
        if error is not None:
            error.url = self._address
        return error

    def _typed(self, exc: Exception) -> MoondreamError:
        if isinstance(exc, OutOfTimeError):
            return total_timeout(self._time_allowed, "Timeouts.total", self._address)
        if isinstance(exc, (ResponseTooLargeError, *PARSE_ERRORS)) and not isinstance(exc, UnicodeError):
            return MoondreamError(self._redactor.text(str(exc)))
        return self._explain(exc)[0]


class SingleEventStream(EventStream):
    """A stream of one, last event: the whole answer of a server that does not stream."""

    def __init__(self, event: events.Object, *, status: int, started: float) -> None:
        self.status = status
        self._started = started
        self._peeked = {**event, "completed": True}

    async def _pull(self) -> events.Object | None:
        return None

    async def finish(self) -> None:
        """Nothing to do: the answer was read whole."""

    async def aclose(self) -> None:
        """Nothing to do: the answer was read whole."""
