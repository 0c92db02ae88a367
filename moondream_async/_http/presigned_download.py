"""Files behind presigned URLs: line by line, without the key, resumed where the connection was cut."""

from __future__ import annotations

import time
import zlib
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from contextlib import aclosing
from typing import cast

import anyio
import anyio.lowlevel
import attrs
import httpx

from .._hidden import HiddenStr, without_query
from .._version import __version__
from .._wire import errors
from .._wire.retry import RetryCause, parse_retry_after
from ..config import RetryPolicy, Timeouts
from . import transport_errors
from .lines import FileLine, LineSplitter
from .presigned import Presigned
from .retrying import FailedAttempt, delay_by_policy
from .session import Session
from .unpacking import SUPPORTED, Unpacker

_MAX_SKIPPED = 256 * 1024 * 1024  # bytes of a line that is too long, after which the file is given up
_TURN = 0.005  # seconds of work on bytes that are there already, after which other tasks have their turn
_EXPIRED = (401, 403, 404, 410)
_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 3
_RENEWALS = 3  # of a URL, with nothing read in between

Renew = Callable[[], Awaitable[str]]
"""Finds out the file's URL anew, when the one there was has expired."""


@attrs.define
class _Place:
    """Where in the file we are."""

    read: int = 0
    furthest: int = 0
    etag: str | None = None
    splitter: LineSplitter = attrs.field(factory=LineSplitter)
    expired: bool = False

    def begin_anew(self) -> None:
        self.read, self.etag, self.splitter = 0, None, LineSplitter()


class Files:
    """Reads files; holds no key.

    Args:
        session: Connections.
        timeouts: `connect` and `idle` hold; a file as a whole may take as long as it does.
        retry: When to go on after a failure; each time something was read, its attempts count anew.
        presigned: Where the files may be.
    """

    def __init__(self, session: Session, timeouts: Timeouts, retry: RetryPolicy, presigned: Presigned) -> None:
        self._session = session
        self._presigned = presigned
        self._timeouts = timeouts
        self._retry = retry
        self._wire_timeouts = httpx.Timeout(
            connect=timeouts.connect, read=timeouts.idle, write=timeouts.idle, pool=None
        )

    async def lines(self, url: str, renew: Renew) -> AsyncGenerator[FileLine]:
        """Yield each line. A file that cannot be resumed is read again from its beginning: lines may then come twice.

        Raises:
            APIError: The file's server refuses it.
            APIConnectionError: It cannot be reached, or is not where presigned URLs may lead.
        """
        url = HiddenStr(url)  # it holds a signature
        place, attempt, renewals = _Place(), 0, 0
        while True:
            before, attempt = place.furthest, attempt + 1
            failed: FailedAttempt | None = None
            try:
                async with aclosing(self._lines_from(url, place)) as lines:
                    async for line in lines:
                        yield line
            except transport_errors.TRANSPORT_ERRORS as exc:
                failed = FailedAttempt(
                    *transport_errors.explain(exc, address=without_query(url), timeouts=self._timeouts)
                )
            except _Refused as exc:
                failed = exc.failed
            if failed is None:
                break
            if place.furthest > before:
                attempt, renewals = 1, 0
            if place.expired and renewals < _RENEWALS:
                url, renewals, place.expired = HiddenStr(await renew()), renewals + 1, False
                continue
            await self._wait(failed, attempt)
        last = place.splitter.finish()
        if last is not None:
            yield last

    async def _lines_from(self, url: str, place: _Place) -> AsyncGenerator[FileLine]:
        """Yield the lines that one connection gives, letting other tasks run in between."""
        turn = time.monotonic()
        async with aclosing(self._chunks(url, place)) as chunks:
            async for chunk in chunks:
                for line in place.splitter.feed(chunk):
                    yield line
                    turn = await _share_loop(turn)
                if place.splitter.skipped > _MAX_SKIPPED:
                    raise errors.invalid_response(200, None, f"a line has more than {_MAX_SKIPPED:,} bytes")
                turn = await _share_loop(turn)

    async def _wait(self, failed: FailedAttempt, attempt: int) -> None:
        delay = delay_by_policy(self._retry, failed, attempt, 0.0)
        if delay is None:
            failed.error.attempts = attempt
            raise failed.error
        self._session.counters.retries += 1
        await anyio.sleep(delay)

    async def _chunks(self, url: str, place: _Place) -> AsyncGenerator[bytes]:
        response = await self._open(self._presigned.check(url), place)
        is_packed = await _is_packed(response)
        try:
            async with aclosing(_pieces_of(response, is_packed=is_packed)) as chunks:
                async for chunk in chunks:
                    place.read += len(chunk)
                    place.furthest = max(place.furthest, place.read)
                    yield chunk
        except (httpx.DecodingError, *transport_errors.TRANSPORT_ERRORS):
            if is_packed:  # of what was packed, no part can be had
                place.begin_anew()
            raise
        finally:
            await response.aclose()

    async def _open(self, url: httpx.URL, place: _Place) -> httpx.Response:
        """The answer from where we are; from the beginning, if the file has changed, or knows no parts."""
        left = _MAX_REDIRECTS
        while True:
            response = await self._ask(url, place)
            if left and response.status_code in _REDIRECTS and "location" in response.headers:
                await response.aclose()
                url, left = self._redirected(url, response.headers["location"]), left - 1
            elif response.status_code == 206 and not _goes_on(response, place):
                await response.aclose()
                if not place.read:
                    raise _Refused(
                        FailedAttempt(errors.invalid_response(206, None, "it is another part of the file"), None)
                    )
                place.begin_anew()
            else:
                return await self._taken(response, url, place)

    def _redirected(self, url: httpx.URL, location: str) -> httpx.URL:
        try:
            target = str(url.join(location))
        except (httpx.InvalidURL, ValueError):
            target = ""
        return self._presigned.check(target, from_url=url)

    async def _ask(self, url: httpx.URL, place: _Place) -> httpx.Response:
        headers = {"User-Agent": f"moondream-async/{__version__}", "Accept-Encoding": "identity"}
        headers["Host"] = url.netloc.decode("ascii")
        if place.read:
            headers["Range"] = f"bytes={place.read}-"
            if place.etag is not None:
                headers["If-Range"] = place.etag
        return await self._presigned.send(self._session, "GET", url, httpx.Headers(headers), b"", self._wire_timeouts)

    async def _taken(self, response: httpx.Response, url: httpx.URL, place: _Place) -> httpx.Response:
        status = response.status_code
        if status == 416 and place.read:  # all of it had been read
            await response.aclose()
            return httpx.Response(206, stream=httpx.ByteStream(b""), request=httpx.Request("GET", url))
        if status not in (200, 206):
            await response.aclose()
            place.expired = status in _EXPIRED
            wait = parse_retry_after(dict(response.headers.items()), now=time.time())
            # What an object store says can repeat the address, and so its signature.
            error = errors.of_status(status, f"{without_query(url)} answered with status {status}.", retry_after=wait)
            raise _Refused(FailedAttempt(error, RetryCause("status", status, wait)))
        if status == 200:
            place.begin_anew()
        place.etag = _strong(response.headers.get("etag"))
        return response


class _Refused(Exception):
    def __init__(self, failed: FailedAttempt) -> None:
        super().__init__()
        self.failed = failed


async def _share_loop(turn: float) -> float:
    """Let other tasks run if this one has had its turn; returns when the current turn began."""
    if time.monotonic() - turn < _TURN:
        return turn
    await anyio.lowlevel.checkpoint()
    return time.monotonic()


async def _is_packed(response: httpx.Response) -> bool:
    coding = response.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("identity", "", *SUPPORTED):
        await response.aclose()
        problem = f"a file is compressed as {coding[:40]!r}, which was not asked for"
        raise _Refused(FailedAttempt(errors.invalid_response(response.status_code, None, problem), None))
    return coding in SUPPORTED


async def _pieces_of(response: httpx.Response, *, is_packed: bool) -> AsyncGenerator[bytes]:
    if response.is_stream_consumed:  # by a hook of the user's own httpx client
        yield response.content
        return
    pieces = cast("AsyncGenerator[bytes]", response.aiter_raw())
    async with aclosing(pieces), aclosing(_unpacked(pieces) if is_packed else pieces) as unpacked:
        async for piece in unpacked:
            yield piece


async def _unpacked(pieces: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
    unpacker = Unpacker()
    try:
        async for packed in pieces:
            for piece in unpacker.feed(packed):
                yield piece
        unpacker.finish()
    except zlib.error as exc:
        problem = str(exc)
    else:
        return
    raise httpx.DecodingError(f"The file is not what its Content-Encoding says: {problem}")


def _goes_on(response: httpx.Response, place: _Place) -> bool:
    """Whether a partial answer is what comes next of the same file."""
    first = response.headers.get("content-range", "").removeprefix("bytes ").partition("-")[0]
    etag = _strong(response.headers.get("etag"))
    return first == str(place.read) and (place.etag is None or etag is None or etag == place.etag)


def _strong(etag: str | None) -> str | None:
    return None if etag is None or etag.startswith("W/") else etag
