"""A logical call: its state between attempts, and how its hooks are notified."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

import attrs
import httpx

from .._hidden import without_query
from ..config import check_headers
from .connection_pool import Opening
from .event_stream import EventStream
from .payloads import FileBody
from .request import Request, Response
from .retrying import FailedAttempt
from .servers import Lease

if TYPE_CHECKING:
    from .observer import CallObserver

A = TypeVar("A", Response, EventStream)


@attrs.define(eq=False)
class Call:
    """A logical call: one request, sent as often as its retries need.

    Attributes:
        request: The request.
        observer: Notified of each step, if hooks or logging want it.
        url: Where the request was sent last, after redirects.
        body: The request's body, once it is prepared.
        opening: The connection that is opened while the body is prepared, if any.
        started: When the call was made, on the monotonic clock.
        uncounted_attempts: Attempts that the retry policy does not count: those refused with 429 while other calls
            succeeded, and those that were sent to another server instead.
        lease: Its slot on one of several servers, in the last attempt.
        failovers: How often it was sent to another server.
    """

    request: Request
    observer: CallObserver | None
    url: httpx.URL = attrs.field(init=False, repr=without_query)
    body: bytes | FileBody | None = attrs.field(default=None, repr=False)
    opening: Opening | None = None
    started: float = attrs.field(factory=time.monotonic)
    uncounted_attempts: int = 0
    lease: Lease | None = None
    failovers: int = 0

    def __attrs_post_init__(self) -> None:
        self.url = self.request.url

    @property
    def address(self) -> str:
        """The URL without its query, for error messages."""
        return without_query(self.url)

    @property
    def headers(self) -> httpx.Headers:
        """The headers for the server that the call goes to."""
        return self.request.headers if self.lease is None else self.request.destinations[self.lease.index].headers

    @property
    def destination_url(self) -> httpx.URL:
        """The URL at the server that the call goes to."""
        return self.request.url if self.lease is None else self.request.destinations[self.lease.index].url

    @property
    def takes_time(self) -> bool:
        """Whether the body has yet to be built, and that takes time enough to connect meanwhile."""
        body = self.request.body
        return self.body is None and not isinstance(body, (bytes, FileBody)) and body.takes_time

    async def prepare(self) -> bytes | FileBody:
        """Return the body, building it on first use.

        Call it only while holding a slot, so that waiting calls keep no image in memory.
        """
        if self.body is None:
            body = self.request.body
            self.body = body if isinstance(body, (bytes, FileBody)) else await body.prepare()
        return self.body

    def release_opening(self) -> None:
        """Leave the connection that was opened for this call to others, unless it was used."""
        if self.opening is not None:
            self.opening.release()
            self.opening = None


@asynccontextmanager
async def report_failure(observer: CallObserver | None) -> AsyncGenerator[None]:
    """Report the end of the call if the block raises; a successful caller reports it itself, with more details."""
    try:
        yield
    except BaseException as exc:
        if observer is not None:
            await observer.end(attempts=getattr(exc, "attempts", 0), error=exc)
        raise


@asynccontextmanager
async def report_end(observer: CallObserver | None) -> AsyncGenerator[None]:
    """Report the end of a call of one attempt; closing its generator early is not a failure."""
    error: BaseException | None = None
    try:
        yield
    except BaseException as exc:
        error = None if isinstance(exc, GeneratorExit) else exc
        raise
    finally:
        if observer is not None:
            await observer.end(attempts=1, error=error)


async def notify_response(
    observer: CallObserver, outcome: A | FailedAttempt, attempt: int, sent: float
) -> A | FailedAttempt:
    """Notify the observer of an attempt's outcome, and return the outcome."""
    error = outcome.error if isinstance(outcome, FailedAttempt) else None
    status = getattr(error, "status", None) if isinstance(outcome, FailedAttempt) else outcome.status
    try:
        await observer.response(attempt, status, sent, error)
    except BaseException:  # cancelled inside a hook, before the caller has the stream
        if isinstance(outcome, EventStream):
            await outcome.aclose()
        raise
    return outcome


def with_extra_headers(headers: httpx.Headers, extra: dict[str, str]) -> httpx.Headers:
    """Return the headers plus those that hooks add; hooks cannot replace existing ones."""
    new = {name: value for name, value in check_headers(extra).items() if name not in headers} if extra else {}
    if not new:
        return headers
    extended = headers.copy()
    extended.update(new)
    return extended
