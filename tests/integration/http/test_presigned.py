"""Presigned URLs of a public API must use https and public addresses; those of a private API need not."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from typing import Any

import anyio
import httpx
import pytest

import moondream_async as md
from moondream_async._http.client import HttpClient
from moondream_async._http.presigned_download import FileReader
from moondream_async._http.presigned_urls import PresignedTarget
from moondream_async._http.session import Session
from moondream_async._wire.redact import Redactor
from moondream_async.config import RetryPolicy, Timeouts
from moondream_async.fal import AsyncFalClient
from tests.support.loopback import Exchange, serve

PUBLIC = "https://api.test/v1"


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], list[str]]:
    """Set the addresses of names; returns the names looked up."""
    lookups: list[str] = []

    def set_up(names: dict[str, str]) -> list[str]:
        async def getaddrinfo(host: Any, port: Any, **_: Any) -> Any:
            lookups.append(host)
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (names.get(host, host), port))]

        monkeypatch.setattr(anyio, "getaddrinfo", getaddrinfo)
        return lookups

    return set_up


async def read(url: str, presigned: PresignedTarget, transport: httpx.AsyncBaseTransport | None = None) -> list[bytes]:
    session = Session(max_connections=4, rate_limit=None, http_client=transport)
    files = FileReader(
        HttpClient(session, Timeouts(connect=1), RetryPolicy(attempts=1), redactor=Redactor()), presigned
    )

    async def renew() -> str:
        return url

    try:
        return [line.text async for line in files.lines(url, renew)]
    finally:
        await session.aclose()


@pytest.mark.parametrize(
    ("base_url", "allow_private", "http", "private"),
    [
        ("https://api.moondream.ai/v1", False, False, False),
        ("https://api.moondream.ai/v1", True, False, True),
        ("https://10.1.2.3/v1", False, True, True),
        ("https://localhost:2020/v1", False, True, True),
        ("https://[::1]/v1", False, True, True),
        ("http://127.0.0.1:2020/v1", False, True, True),
        ("http://example.com/v1", False, True, False),
    ],
)
def test_allowed_urls_by_base_url(base_url: str, allow_private: bool, http: bool, private: bool) -> None:
    presigned = PresignedTarget.of(base_url, allow_private=allow_private)
    assert (presigned.allow_http, presigned.allow_private) == (http, private)


def test_https_only() -> None:
    strict, loose = PresignedTarget.of(PUBLIC), PresignedTarget.of("http://api.test/v1")
    assert str(strict.check("https://files.test/a?sig=1")) == "https://files.test/a?sig=1"
    for url in ("http://files.test/a?sig=secret", "ftp://files.test/a", "files.test", "", "https://", "https://a:0/"):
        with pytest.raises(md.APIError, match="cannot be used") as caught:
            strict.check(url)
        assert "secret" not in str(caught.value)
    assert loose.check("http://files.test/a").scheme == "http"
    with pytest.raises(md.APIError, match="only https"):
        loose.check("http://files.test/a", from_url=httpx.URL("https://files.test/"))


@pytest.mark.parametrize(
    "location", ["http://files.test/b?sig=secret", "file:///etc/passwd", "https://a:b:c/", "ftp://a/b"]
)
async def test_redirects_stay_on_https(location: str) -> None:
    requests: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(str(request.url))
        return httpx.Response(302, headers={"location": location})

    with pytest.raises(md.APIError, match="cannot be used") as caught:
        await read("https://93.184.216.34/a?sig=secret", PresignedTarget.of(PUBLIC), httpx.MockTransport(answer))
    assert requests == ["https://93.184.216.34/a?sig=secret"]
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "192.168.1.1", "100.64.0.1"])
@pytest.mark.parametrize("own", [False, True])
async def test_private_addresses_are_not_called(
    address: str, own: bool, resolve: Callable[[dict[str, str]], list[str]]
) -> None:
    resolve({"files.test": address, "api.test": "93.184.216.34"})

    def answer(_: httpx.Request) -> httpx.Response:
        raise AssertionError("it was called")

    transport = httpx.MockTransport(answer) if own else None
    for host in ("files.test", address):
        with pytest.raises(md.APIError, match=f"{host} has no public address.*allow_private_urls") as caught:
            await read(f"https://{host}/a?sig=secret", PresignedTarget.of(PUBLIC), transport)
        assert "secret" not in str(caught.value)


async def test_a_redirect_into_a_private_network(resolve: Callable[[dict[str, str]], list[str]]) -> None:
    resolve({"files.test": "93.184.216.34", "inside.test": "10.0.0.1", "api.test": "93.184.216.34"})
    requests: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request.url.host)
        return httpx.Response(302, headers={"location": "https://inside.test/admin"})

    with pytest.raises(md.APIError, match=r"inside\.test has no public address"):
        await read("https://files.test/a", PresignedTarget.of(PUBLIC), httpx.MockTransport(answer))
    assert requests == ["files.test"]


async def test_an_api_in_a_private_network_may_use_private_urls(
    resolve: Callable[[dict[str, str]], list[str]],
) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer(b"one\ntwo\n")

    async with serve(handler) as server:
        port = server.base_url.rpartition(":")[2].removesuffix("/v1")
        lookups = resolve({"files.test": "127.0.0.1", "api.internal": "10.0.0.1"})
        presigned = PresignedTarget.of("http://api.internal/v1")
        assert await read(f"http://127.0.0.1:{port}/a", presigned) == [b"one", b"two"]
        assert lookups == ["127.0.0.1", "api.internal"]
        allowed = PresignedTarget.of(PUBLIC, allow_private=True)
        allowed.allow_http = True
        assert await read(f"http://127.0.0.1:{port}/a", allowed) == [b"one", b"two"]


async def test_allow_private_urls_applies_to_files() -> None:
    options = md.ImageOptions(allow_private_urls=True)
    for client, private in ((md.AsyncClient("a-key"), False), (md.AsyncClient("a-key", image_options=options), True)):
        assert client._api.files._target.allow_private is private  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize("url", ["http://files.test/a?sig=secret", "https://127.0.0.1:1/a?sig=secret"])
async def test_fal_uploads_go_to_public_addresses(url: str) -> None:
    sent: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(f"{request.method} {request.url.host}")
        if request.url.path == "/storage/upload/initiate":
            return httpx.Response(200, json={"upload_url": url, "file_url": "https://v3.fal.media/files/a"})
        return httpx.Response(500)

    transport = httpx.MockTransport(answer)
    async with AsyncFalClient("an-id:a-secret-of-fal", retry=1, http_client=transport) as fal:
        with pytest.raises(md.APIError, match="cannot be used") as caught:
            await fal.upload(b"data")
    assert not any(line.startswith("PUT") for line in sent)
    assert "secret" not in str(caught.value) + repr(vars(caught.value))


async def test_errors_do_not_keep_responses_with_signatures() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/storage/upload/initiate":
            return httpx.Response(200, content=json.dumps({"upload_url": 1, "other": "https://a/?sig=secret"}))
        return httpx.Response(500)

    transport = httpx.MockTransport(answer)
    async with AsyncFalClient("an-id:a-secret-of-fal", retry=1, http_client=transport) as fal:
        with pytest.raises(md.APIError, match="upload_url") as caught:
            await fal.upload(b"data")
    assert "sig=" not in repr(vars(caught.value))
