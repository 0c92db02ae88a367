"""Read files behind presigned URLs line by line, without the key, and resume after a broken connection."""

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
from .._wire import errors
from . import transport_errors
from .client import HttpClient
from .decompression import SUPPORTED_ENCODINGS, Decompressor
from .lines import FileLine, LineSplitter
from .presigned_urls import PresignedTarget
from .request import Request, StatusErrors, request_headers, status_failure
from .retrying import FailedAttempt, delay_by_policy

_MAX_SKIPPED = 256 * 1024 * 1024  # bytes of a line that is too long, after which reading the file fails
_MAX_TURN = 0.005  # seconds of work on bytes at hand, after which other tasks run
_EXPIRED_STATUSES = (401, 403, 404, 410)
_MAX_RENEWALS = 3  # of a URL, with nothing read in between

Renew = Callable[[], Awaitable[str]]
"""Returns a new URL of the file, when the one at hand has expired."""


@attrs.define
class _Position:
    """How far a file has been read.

    Attributes:
        read: Bytes read since the last start from the beginning.
        furthest: The highest value of `read` so far.
        etag: The file's strong ETag, if it has one.
        splitter: Splits the bytes into lines.
        expired: Whether the URL was refused as expired.
    """

    read: int = 0
    furthest: int = 0
    etag: str | None = None
    splitter: LineSplitter = attrs.field(factory=LineSplitter)
    expired: bool = False

    def restart(self) -> None:
        """Go back to the beginning of the file."""
        self.read, self.etag, self.splitter = 0, None, LineSplitter()

    def headers(self) -> dict[str, str]:
        """Return the headers that ask for the rest of the file."""
        if not self.read:
            return {}
        condition = {} if self.etag is None else {"If-Range": self.etag}
        return {"Range": f"bytes={self.read}-", **condition}


class FileReader:
    """Reads files behind presigned URLs. It never sends the key.

    Args:
        http: Its session, timeouts and retry policy are used; a file as a whole has no time limit. The attempts of
            the retry policy count from the last byte that was read.
        target: Rules for the URLs.
    """

    def __init__(self, http: HttpClient, target: PresignedTarget) -> None:
        self._http = http
        self._target = target

    async def lines(self, url: str, renew: Renew) -> AsyncGenerator[FileLine]:
        """Yield each line. A file that cannot be resumed is read again from its beginning: lines may then come twice.

        Raises:
            APIError: The file's server refuses the request.
            APIConnectionError: It cannot be reached, or presigned URLs must not lead there.
        """
        url = HiddenStr(url)  # it holds a signature
        position, attempt, renewals = _Position(), 0, 0
        while True:
            before, attempt = position.furthest, attempt + 1
            failed: FailedAttempt | None = None
            try:
                async with aclosing(self._lines_from(url, position)) as lines:
                    async for line in lines:
                        yield line
            except transport_errors.TRANSPORT_ERRORS as exc:
                failed = self._http.explain(without_query(url), exc)
            except _FailedRead as exc:
                failed = exc.failed
            if failed is None:
                break
            if position.furthest > before:
                attempt, renewals = 1, 0
            if position.expired and renewals < _MAX_RENEWALS:
                url, renewals, position.expired = HiddenStr(await renew()), renewals + 1, False
                continue
            await self._wait(failed, attempt)
        last = position.splitter.finish()
        if last is not None:
            yield last

    async def _lines_from(self, url: str, position: _Position) -> AsyncGenerator[FileLine]:
        """Yield the lines that one connection gives, letting other tasks run in between."""
        began = time.monotonic()
        async with aclosing(self._chunks(url, position)) as chunks:
            async for chunk in chunks:
                for line in position.splitter.feed(chunk):
                    yield line
                    began = await _share_loop(began)
                if position.splitter.skipped > _MAX_SKIPPED:
                    raise errors.invalid_response(200, None, f"a line has more than {_MAX_SKIPPED:,} bytes")
                began = await _share_loop(began)

    async def _wait(self, failed: FailedAttempt, attempt: int) -> None:
        delay = delay_by_policy(self._http.retry, failed, attempt, 0.0)
        if delay is None:
            failed.error.attempts = attempt
            raise failed.error
        self._http.session.counters.retries += 1
        await anyio.sleep(delay)

    async def _chunks(self, url: str, position: _Position) -> AsyncGenerator[bytes]:
        response = await self._open(url, position)
        is_compressed = await _is_compressed(response)
        try:
            async with aclosing(_decompressed_body(response, is_compressed=is_compressed)) as chunks:
                async for chunk in chunks:
                    position.read += len(chunk)
                    position.furthest = max(position.furthest, position.read)
                    yield chunk
        except (httpx.DecodingError, *transport_errors.TRANSPORT_ERRORS):
            if is_compressed:  # decompression cannot start in the middle
                position.restart()
            raise
        finally:
            await response.aclose()

    async def _open(self, url: str, position: _Position) -> httpx.Response:
        """Open the file at the position; at its beginning if it has changed, or its server supports no ranges."""
        while True:
            response = await self._http.open(self._request(url, position))
            if response.status_code != 206 or _continues(response, position):
                return await self._check(response, position)
            await response.aclose()
            if not position.read:
                raise _invalid(206, "it is a different part of the file")
            position.restart()

    def _request(self, url: str, position: _Position) -> Request:
        parsed = self._target.check(url)
        headers = request_headers(parsed, position.headers())
        return Request("file", "GET", parsed, headers, StatusErrors(), target=self._target)

    async def _check(self, response: httpx.Response, position: _Position) -> httpx.Response:
        """Return the response if it is (a part of) the file."""
        status = response.status_code
        if status == 416 and position.read:  # all of it had been read
            await response.aclose()
            return httpx.Response(206, stream=httpx.ByteStream(b""), request=response.request)
        if status not in (200, 206):
            await response.aclose()
            position.expired = status in _EXPIRED_STATUSES
            raise _FailedRead(status_failure(status, response.headers, response.request.url))
        if status == 200:
            position.restart()
        position.etag = _strong(response.headers.get("etag"))
        return response


class _FailedRead(Exception):
    def __init__(self, failed: FailedAttempt) -> None:
        super().__init__()
        self.failed = failed


def _invalid(status: int, problem: str) -> _FailedRead:
    return _FailedRead(FailedAttempt(errors.invalid_response(status, None, problem), None))


async def _share_loop(began: float) -> float:
    """Let other tasks run if this one has worked long enough; return when its current turn began."""
    if time.monotonic() - began < _MAX_TURN:
        return began
    await anyio.lowlevel.checkpoint()
    return time.monotonic()


async def _is_compressed(response: httpx.Response) -> bool:
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("identity", "", *SUPPORTED_ENCODINGS):
        await response.aclose()
        problem = f"a file is compressed as {encoding[:40]!r}, which was not requested"
        raise _invalid(response.status_code, problem)
    return encoding in SUPPORTED_ENCODINGS


async def _decompressed_body(response: httpx.Response, *, is_compressed: bool) -> AsyncGenerator[bytes]:
    if response.is_stream_consumed:  # read by a hook of the HTTP client
        yield response.content
        return
    raw = cast("AsyncGenerator[bytes]", response.aiter_raw())
    async with aclosing(raw), aclosing(_decompress(raw) if is_compressed else raw) as chunks:
        async for chunk in chunks:
            yield chunk


async def _decompress(raw: AsyncIterable[bytes]) -> AsyncGenerator[bytes]:
    decompressor = Decompressor()
    try:
        async for compressed in raw:
            for chunk in decompressor.feed(compressed):
                yield chunk
        decompressor.finish()
    except zlib.error as exc:
        problem = str(exc)
    else:
        return
    raise httpx.DecodingError(f"The file is not compressed as its Content-Encoding says: {problem}")


def _continues(response: httpx.Response, position: _Position) -> bool:
    """Return whether a partial response starts at the position, in the same file."""
    first = response.headers.get("content-range", "").removeprefix("bytes ").partition("-")[0]
    etag = _strong(response.headers.get("etag"))
    return first == str(position.read) and (position.etag is None or etag is None or etag == position.etag)


def _strong(etag: str | None) -> str | None:
    return None if etag is None or etag.startswith("W/") else etag
