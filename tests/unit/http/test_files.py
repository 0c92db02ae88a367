"""Files behind presigned URLs: gone on with by range, begun anew when they have changed, never with more than is needed."""

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
    """So many bytes, and then the connection is gone."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for at in range(0, len(self._data), 500):
            yield self._data[at : at + 500]
        raise httpx.ReadError("cut")


def part_of(request: httpx.Request) -> int:
    return int(request.headers["range"].removeprefix("bytes=").removesuffix("-"))


def partial(data: bytes, start: int, **headers: str) -> httpx.Response:
    return httpx.Response(
        206, content=data, headers={"content-range": f"bytes {start}-{len(FILE) - 1}/{len(FILE)}", **headers}
    )


async def read(
    handler: Handler, urls: list[str] | None = None, *, attempts: int = 4, base_url: str = "http://api.test/v1"
) -> tuple[list[bytes], list[httpx.Request]]:
    asked: list[httpx.Request] = []

    def noted(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return handler(request)

    session = Session(max_connections=4, rate_limit=None, http_client=httpx.MockTransport(noted))
    presigned = PresignedTarget.of(base_url)
    files = FileReader(
        HttpClient(session, Timeouts(), RetryPolicy(attempts=attempts, backoff=0.001), redactor=Redactor()), presigned
    )
    known = list(urls or ["http://files.test/a?signature=secret"])

    async def renew() -> str:
        return known.pop(0)

    return [line.text async for line in files.lines(known.pop(0), renew)], asked


async def test_whole() -> None:
    lines, asked = await read(lambda _: httpx.Response(200, content=FILE))
    assert lines == LINES
    assert set(asked[0].headers) == {"user-agent", "accept-encoding", "host", "content-length"}
    lines, _ = await read(lambda _: httpx.Response(200, content=FILE[:-1]))  # the last line has no end
    assert lines == LINES


async def test_cut_again_and_again() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        start = part_of(request) if "range" in request.headers else 0
        stream = Cut(FILE[start : start + 700])
        status = 206 if start else 200
        headers = {"etag": '"a"', "content-range": f"bytes {start}-{len(FILE) - 1}/{len(FILE)}"}
        whole = len(FILE) - start <= 700
        return (
            httpx.Response(status, headers=headers, content=FILE[start:])
            if whole
            else httpx.Response(status, headers=headers, stream=stream)
        )

    lines, asked = await read(handler, attempts=2)
    assert lines == LINES
    assert [part_of(request) for request in asked[1:4]] == [700, 1400, 2100]
    assert asked[1].headers["if-range"] == '"a"'


@pytest.mark.parametrize("kind", ["knows no parts", "another file", "another part", "416"])
async def test_begun_anew(kind: str) -> None:
    calls: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(1)
        if len(calls) == 1:
            return httpx.Response(200, stream=Cut(FILE[:1000]), headers={"etag": '"a"'})
        if "range" not in request.headers or kind == "knows no parts":
            return httpx.Response(200, content=FILE, headers={"etag": '"b"'})
        if kind == "416":
            return httpx.Response(416)
        if kind == "another file":
            return partial(FILE[::-1][1000:], 1000, etag='"b"')
        return partial(FILE[500:], 500, etag='"a"')

    lines, _ = await read(handler)
    if kind == "416":  # it says that all of it had been read
        assert lines == [*LINES[: len(lines) - 1], FILE[:1000].split(b"\n")[-1]]
    else:
        assert set(LINES) <= set(lines)


async def test_packed() -> None:
    packed = gzip.compress(FILE)
    calls: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        calls.append(1)
        assert "range" not in request.headers
        if len(calls) == 1:
            return httpx.Response(200, stream=Cut(packed[: len(packed) // 2]), headers={"content-encoding": "gzip"})
        return httpx.Response(200, stream=httpx.ByteStream(packed), headers={"content-encoding": "gzip"})

    lines, _ = await read(handler)
    assert set(LINES) <= set(lines)


async def test_addresses_that_expire() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, content=FILE) if request.url.path == "/c" else httpx.Response(403, text="secret")

    lines, asked = await read(handler, ["http://files.test/a", "http://files.test/b", "http://files.test/c"])
    assert lines == LINES
    assert [request.url.path for request in asked] == ["/a", "/b", "/c"]
    with pytest.raises(APIError) as info:
        await read(
            lambda _: httpx.Response(403, text="signature=secret"), ["http://u:pw@files.test/a?signature=secret"] * 9
        )
    assert "secret" not in repr(vars(info.value)) + str(info.value)
    assert "pw" not in str(info.value)


async def test_redirects() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/a":
            return httpx.Response(302, headers={"location": "http://other.test/b?signature=secret"})
        return httpx.Response(200, content=FILE)

    lines, asked = await read(handler)
    assert lines == LINES
    assert asked[1].headers["host"] == "other.test"
    with pytest.raises(APIError) as info:
        await read(lambda _: httpx.Response(302, headers={"location": "http://files.test/a?signature=secret"}))
    assert "secret" not in str(info.value)


@pytest.mark.parametrize("url", ["", "/relative", "file:///etc/passwd", "http://", "http://a:99999/", "ftp://a/b"])
async def test_addresses_that_are_none(url: str) -> None:
    with pytest.raises(APIError, match="not an http"):
        await read(lambda _: httpx.Response(200, content=FILE), [url])


async def test_giving_up() -> None:
    with pytest.raises(APIError, match="status 500") as info:
        await read(lambda _: httpx.Response(500), attempts=3)
    assert info.value.attempts == 3
