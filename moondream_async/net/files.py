"""Files behind presigned URLs: line by line, without the key, gone on with where the connection was cut."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing

import anyio
import attrs
import httpx

from .._version import __version__
from ..config import RetryPolicy, Timeouts
from ..wire import errors
from ..wire.retry import Failure
from . import failures
from .attempts import Failed, delay_by_policy
from .reading import AnswerTooLargeError, read_all
from .session import Session

LONGEST_LINE = 16 * 1024 * 1024
"""Bytes of one line, beyond which a file is given up."""

_EXPIRED = (401, 403, 404, 410)
_RENEWALS = 3  # of a URL, with nothing read in between
_CHUNK = 256 * 1024

Renew = Callable[[], Awaitable[str]]
"""Finds out the file's URL anew, when the one there was has expired."""


@attrs.define
class _Place:
    """Where in the file we are."""

    read: int = 0
    etag: str | None = None
    tail: bytes = b""  # of the line that has not ended yet
    expired: bool = False


class Files:
    """Reads files; holds no key.

    Args:
        session: Connections.
        timeouts: `connect` and `idle` hold; a file as a whole may take as long as it does.
        retry: When to go on after a failure; each time something was read, its attempts count anew.
    """

    def __init__(self, session: Session, timeouts: Timeouts, retry: RetryPolicy) -> None:
        self._session = session
        self._timeouts = timeouts
        self._retry = retry
        self._wire_timeouts = httpx.Timeout(
            connect=timeouts.connect, read=timeouts.idle, write=timeouts.idle, pool=None
        )

    async def lines(self, url: str, renew: Renew) -> AsyncGenerator[bytes]:
        """Each line, without its end. A file that cannot be gone on with is begun again: lines may then come twice.

        Raises:
            APIError: The file's server refuses it.
            APIConnectionError: It cannot be reached.
        """
        place, attempt, renewals = _Place(), 0, 0
        while True:
            before, attempt = place.read, attempt + 1
            failed: Failed | None = None
            try:
                async with aclosing(self._chunks(url, place)) as chunks:
                    async for chunk in chunks:
                        *whole, place.tail = (place.tail + chunk).split(b"\n")
                        for line in whole:
                            yield line
                        if len(place.tail) > LONGEST_LINE:
                            raise errors.unreadable(200, None, f"a line has more than {LONGEST_LINE:,} bytes")
            except failures.TRANSPORT_ERRORS as exc:
                failed = Failed(*failures.explain(exc, base_url=_shown(url), timeouts=self._timeouts))
            except _Refused as exc:
                failed = exc.failed
            if failed is None:
                break
            if place.read > before:
                attempt, renewals = 1, 0
            if place.expired and renewals < _RENEWALS:
                url, renewals, place.expired = await renew(), renewals + 1, False
                continue
            await self._wait(failed, attempt)
        if place.tail:
            yield place.tail

    async def _wait(self, failed: Failed, attempt: int) -> None:
        delay = delay_by_policy(self._retry, failed, attempt, 0.0)
        if delay is None:
            failed.error.attempts = attempt
            raise failed.error
        self._session.counters.retries += 1
        await anyio.sleep(delay)

    async def _chunks(self, url: str, place: _Place) -> AsyncGenerator[bytes]:
        response = await self._open(url, place)
        try:
            async for chunk in response.aiter_raw(_CHUNK):
                place.read += len(chunk)
                yield chunk
        finally:
            await response.aclose()

    async def _open(self, url: str, place: _Place) -> httpx.Response:
        headers = {"User-Agent": f"moondream-async/{__version__}", "Accept-Encoding": "identity"}
        target = httpx.URL(url)
        headers["Host"] = target.netloc.decode("ascii")
        if place.read:
            headers["Range"] = f"bytes={place.read}-"
            if place.etag is not None:
                headers["If-Range"] = place.etag
        response = await self._session.send("GET", target, httpx.Headers(headers), b"", self._wire_timeouts, bare=True)
        if response.status_code == 416 and place.read:  # all of it had been read
            await response.aclose()
            return httpx.Response(206, stream=httpx.ByteStream(b""), request=httpx.Request("GET", target))
        if response.status_code not in (200, 206):
            raise await self._refusal(response, place)
        if response.status_code == 200:
            place.read, place.tail = 0, b""
        elif _start_of(response) != place.read:
            await response.aclose()
            raise _Refused(Failed(errors.unreadable(206, None, "it is another part of the file"), None))
        place.etag = _strong(response.headers.get("etag"))
        return response

    async def _refusal(self, response: httpx.Response, place: _Place) -> _Refused:
        try:
            body = await read_all(response)
        except AnswerTooLargeError:
            body = b""
        status = response.status_code
        place.expired = status in _EXPIRED
        error = errors.from_response(status, dict(response.headers.items()), body, now=time.time())
        return _Refused(Failed(error, Failure("status", status, error.retry_after)))


class _Refused(Exception):
    def __init__(self, failed: Failed) -> None:
        super().__init__()
        self.failed = failed


def _start_of(response: httpx.Response) -> int:
    """Where a partial answer begins."""
    first = response.headers.get("content-range", "").removeprefix("bytes ").partition("-")[0]
    return int(first) if first.isdigit() else -1


def _strong(etag: str | None) -> str | None:
    return None if etag is None or etag.startswith("W/") else etag


def _shown(url: str) -> str:
    return url.partition("?")[0]  # what comes after is a signature
