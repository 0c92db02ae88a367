"""Downloads from presigned URLs: resumed by range, restarted when the file changed, sent without extra headers."""

from __future__ import annotations

import gzip
from collections.abc import AsyncIterator, Callable

import httpx
import pytest

from moondream_async._http.client import HttpClient
from moondream_async._http.presigned_download import FileReader
from moondream_async._http.presigned_urls import PresignedTarget
from moondream_async._http.session import Session
from moondream_async._wire.redact import Redactor
from moondream_async.config import RetryPolicy, Timeouts
from moondream_async.errors import APIError

LINES = [f"line {n} {'x' * 50}".encode() for n in range(100)]
FILE = b"".join(line + b"\n" for line in LINES)

Handler = Callable[[httpx.Request], httpx.Response]


class Cut(httpx.AsyncByteStream):
    """A body whose connection breaks after these bytes."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self._data), 500):
            yield self._data[at : at + 500]
        raise httpx.ReadError("cut")


def range_start(request: httpx.Request) -> int:
    return int(request.headers["range"].removeprefix("bytes=").removesuffix("-"))


def partial(data: bytes, start: int, **headers: str) -> httpx.Response:
    return httpx.Response(
        206, content=data, headers={"content-range": f"bytes {start}-{len(FILE) - 1}/{len(FILE)}", **headers}
    )


async def read(
    handler: Handler, urls: list[str] | None = None, *, attempts: int = 4, base_url: str = "http://api.test/v1"
) -> tuple[list[bytes], list[httpx.Request]]:
    requests: list[httpx.Request] = []

    def record(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return handler(request)

    session = Session(max_connections=4, rate_limit=None, http_client=httpx.MockTransport(record))
    presigned = PresignedTarget.of(base_url)
    files = FileReader(
        HttpClient(session, Timeouts(), RetryPolicy(attempts=attempts, backoff=0.001), redactor=Redactor()), presigned
    )
    remaining = list(urls or ["http://files.test/a?signature=secret"])

    async def renew() -> str:
        return remaining.pop(0)

    return [line.text async for line in files.lines(remaining.pop(0), renew)], requests


async def test_complete_file() -> None:
    lines, requests = await read(lambda _: httpx.Response(200, content=FILE))
    assert lines == LINES
    assert set(requests[0].headers) == {"user-agent", "accept-encoding", "host", "content-length"}
    lines, _ = await read(lambda _: httpx.Response(200, content=FILE[:-1]))  # no line ending after the last line
    assert lines == LINES


async def test_repeatedly_interrupted() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        start = range_start(request) if "range" in request.headers else 0
        stream = Cut(FILE[start : start + 700])
        status = 206 if start else 200
        headers = {"etag": '"a"', "content-range": f"bytes {start}-{len(FILE) - 1}/{len(FILE)}"}
        whole = len(FILE) - start <= 700
        return (
            httpx.Response(status, headers=headers, content=FILE[start:])
            if whole
            else httpx.Response(status, headers=headers, stream=stream)
        )

    lines, requests = await read(handler, attempts=2)
    assert lines == LINES
    assert [range_start(request) for request in requests[1:4]] == [700, 1400, 2100]
    assert requests[1].headers["if-range"] == '"a"'


@pytest.mark.parametrize("kind", ["no ranges", "another file", "another range", "416"])
async def test_restart(kind: str) -> None:
    calls: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(1)
        if len(calls) == 1:
            return httpx.Response(200, stream=Cut(FILE[:1000]), headers={"etag": '"a"'})
        if "range" not in request.headers or kind == "no ranges":
            return httpx.Response(200, content=FILE, headers={"etag": '"b"'})
        if kind == "416":
            return httpx.Response(416)
        if kind == "another file":
            return partial(FILE[::-1][1000:], 1000, etag='"b"')
        return partial(FILE[500:], 500, etag='"a"')

    lines, _ = await read(handler)
    if kind == "416":  # it says that the whole file had been read
        assert lines == [*LINES[: len(lines) - 1], FILE[:1000].split(b"\n")[-1]]
    else:
        assert set(LINES) <= set(lines)


async def test_compressed() -> None:
    compressed = gzip.compress(FILE)
    calls: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(1)
        assert "range" not in request.headers
        if len(calls) == 1:
            return httpx.Response(
                200, stream=Cut(compressed[: len(compressed) // 2]), headers={"content-encoding": "gzip"}
            )
        return httpx.Response(200, stream=httpx.ByteStream(compressed), headers={"content-encoding": "gzip"})

    lines, _ = await read(handler)
    assert set(LINES) <= set(lines)


async def test_expired_urls() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=FILE) if request.url.path == "/c" else httpx.Response(403, text="secret")

    lines, requests = await read(handler, ["http://files.test/a", "http://files.test/b", "http://files.test/c"])
    assert lines == LINES
    assert [request.url.path for request in requests] == ["/a", "/b", "/c"]
    with pytest.raises(APIError) as caught:
        await read(
            lambda _: httpx.Response(403, text="signature=secret"), ["http://u:pw@files.test/a?signature=secret"] * 9
        )
    assert "secret" not in repr(vars(caught.value)) + str(caught.value)
    assert "pw" not in str(caught.value)


async def test_redirects() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/a":
            return httpx.Response(302, headers={"location": "http://other.test/b?signature=secret"})
        return httpx.Response(200, content=FILE)

    lines, requests = await read(handler)
    assert lines == LINES
    assert requests[1].headers["host"] == "other.test"
    with pytest.raises(APIError) as caught:
        await read(lambda _: httpx.Response(302, headers={"location": "http://files.test/a?signature=secret"}))
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["", "/relative", "file:///etc/passwd", "http://", "http://a:99999/", "ftp://a/b"])
async def test_invalid_urls(url: str) -> None:
    with pytest.raises(APIError, match="not an http"):
        await read(lambda _: httpx.Response(200, content=FILE), [url])


async def test_giving_up() -> None:
    with pytest.raises(APIError, match="status 500") as caught:
        await read(lambda _: httpx.Response(500), attempts=3)
    assert caught.value.attempts == 3
