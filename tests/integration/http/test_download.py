"""Images by URL: downloaded within limits, from checked addresses, and without the key."""

from __future__ import annotations

import asyncio
import gzip
import socket
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from PIL import Image

from moondream_async import AsyncClient, ConfigurationError, ImageError, ImageOptions, RetryPolicy, Timeouts
from moondream_async._http import image_download, public_network
from tests.support.loopback import Exchange, serve
from tests.support.pictures import file

IMAGE = file(Image.new("RGB", (40, 30), "red"), "PNG")
ANYWHERE = ImageOptions(allow_private_urls=True)


@pytest.fixture
def resolve(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Set the addresses of successive name lookups, of which the last one repeats; returns the names looked up."""
    lookups: list[str] = []

    def set_up(*results: str | list[str]) -> list[str]:
        remaining = list(results)

        async def getaddrinfo(host: Any, port: Any, **_: Any) -> Any:
            lookups.append(host)
            result = remaining.pop(0) if len(remaining) > 1 else remaining[0]
            return [
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
                for address in ([result] if isinstance(result, str) else result)
            ]

        monkeypatch.setattr(anyio, "getaddrinfo", getaddrinfo)
        return lookups

    return set_up


def client(**options: Any) -> AsyncClient:
    options.setdefault("retry", RetryPolicy(attempts=2, backoff=0))
    return AsyncClient("the-key", base_url="http://localhost:1/v1", **options)


async def image_server(exchange: Exchange) -> None:
    await exchange.answer(IMAGE, headers="Content-Type: image/png\r\nSet-Cookie: a=b; Path=/\r\n")


async def test_an_image_by_url_with_no_key_and_no_cookies() -> None:
    heads: list[str] = []

    async def handler(exchange: Exchange) -> None:
        heads.append(exchange.head)
        await image_server(exchange)

    async with serve(handler) as server, client(image_options=ANYWHERE, headers={"X-Mine": "secret"}) as c:
        for _ in range(2):
            image = await c.encode_image(server.base_url + "/cat.png?signature=x")
            assert image.data == IMAGE
    assert "GET /v1/cat.png?signature=x HTTP/1.1" in heads[0]
    for head in heads:
        assert "the-key" not in head
        assert "secret" not in head
        assert "cookie" not in head.lower()
    assert server.connections == 1  # it was reused


async def test_concurrent_calls_share_one_download(monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(exchange: Exchange) -> None:
        if exchange.head.startswith("GET"):
            await asyncio.sleep(0.05)
            await image_server(exchange)
        else:
            await exchange.answer({"caption": "red", "answer": "red", "objects": []})

    async with serve(handler) as server:
        async with AsyncClient(base_url=server.base_url, image_options=ANYWHERE) as c:
            url = server.base_url + "/cat.png"
            await asyncio.gather(c.caption(url), c.query(url, "what?"), c.detect(url, "cat"))
        assert server.requests == 4


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "0.0.0.0", "[::1]", "2130706433", "0x7f.1", "127.1", "[::ffff:127.0.0.1]"]
)
async def test_private_addresses_are_refused_in_any_notation(host: str) -> None:
    async with serve(image_server) as server, client() as c:
        port = server.base_url.rsplit(":", 1)[1].split("/")[0]
        with pytest.raises(ImageError, match=r"no public address|cannot be resolved"):
            await c.encode_image(f"http://{host}:{port}/cat.png")
        assert server.connections == 0


async def test_names_of_private_addresses_are_refused(resolve: Callable[..., list[str]]) -> None:
    resolve("169.254.169.254")
    async with client() as c:
        with pytest.raises(ImageError, match=r"metadata.example has no public address.*allow_private_urls"):
            await c.encode_image("http://metadata.example/latest")


async def test_connects_to_the_address_that_was_checked(
    resolve: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name resolves to a public address first, and to a private one from then on."""
    monkeypatch.setattr(public_network, "is_public", lambda address: address == "127.0.0.2")
    lookups = resolve(["127.0.0.1", "127.0.0.2"], "127.0.0.1")
    peers: list[Any] = []

    async def handler(exchange: Exchange) -> None:
        peers.append(exchange.writer.get_extra_info("sockname")[0])
        exchange.close_after = True
        await image_server(exchange)

    listener = await asyncio.start_server(lambda r, w: _serve_one(handler, r, w), "127.0.0.2", 0)
    port = listener.sockets[0].getsockname()[1]
    async with client() as c:
        assert (await c.encode_image(f"http://rebind.example:{port}/a.png")).data == IMAGE
        assert lookups == ["rebind.example"]
        with pytest.raises(ImageError, match="no public address"):
            await c.encode_image(f"http://rebind.example:{port}/a.png")
    listener.close()
    assert peers == ["127.0.0.2"]


async def _serve_one(handler: Any, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    from tests.support.loopback import Server

    await Server(handler).connected(reader, writer)


async def test_redirects_are_followed_and_checked_again(
    resolve: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(public_network, "is_public", lambda address: address == "127.0.0.1")
    resolve(*["127.0.0.1"] * 3, "10.0.0.7")  # the first host's connection is reused

    async def handler(exchange: Exchange) -> None:
        if "/start" in exchange.head:
            await exchange.answer(b"", status=302, headers="Location: next\r\n")
        elif "/next" in exchange.head:
            host = exchange.head.partition("Host: ")[2].split("\r\n")[0].replace("first", "second")
            await exchange.answer(b"", status=307, headers=f"Location: http://{host}/inner\r\n")
        else:
            await image_server(exchange)

    async with serve(handler) as server, client() as c:
        port = server.base_url.rsplit(":", 1)[1].split("/")[0]
        assert (await c.encode_image(f"http://first.example:{port}/start")).data == IMAGE
    async with serve(handler) as server, client() as c:
        port = server.base_url.rsplit(":", 1)[1].split("/")[0]
        with pytest.raises(ImageError, match=r"second.example has no public address"):
            await c.encode_image(f"http://first.example:{port}/start")


@pytest.mark.parametrize(
    ("location", "message"),
    [
        ("file:///etc/passwd", "something other than an http"),
        ("ftp://example.com/a", "something other than an http"),
        ("http://user:password@example.com/a", "user name or password"),
        ("/again", "more than 5 redirects"),
    ],
)
async def test_refused_redirects(location: str, message: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer(b"", status=301, headers=f"Location: {location}\r\n")

    async with serve(handler) as server, client(image_options=ANYWHERE) as c:
        with pytest.raises(ImageError, match=message):
            await c.encode_image(server.base_url + "/a.png")


@pytest.mark.parametrize("announced", [True, False])
async def test_too_large(announced: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_download, "MAX_DOWNLOAD", 100_000)

    async def handler(exchange: Exchange) -> None:
        if announced:
            await exchange.answer(b"x" * 200_000)
        else:
            await exchange.start_stream()
            for _ in range(1000):
                await exchange.chunk(b"x" * 1000)

    async with serve(handler) as server, client(image_options=ANYWHERE) as c:
        with pytest.raises(ImageError, match=r"200,000 bytes; the limit is 100,000|more than 100,000 bytes"):
            await c.encode_image(server.base_url + "/a.png")
        assert server.requests == 1  # not retried


@pytest.mark.parametrize("body", [b"<!DOCTYPE html><html>Not found</html>", b"", b"\x89PNG\r\n\x1a\n broken"])
async def test_the_content_type_is_not_trusted(body: bytes) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer(body, headers="Content-Type: image/png\r\n")

    async with serve(handler) as server, client(image_options=ANYWHERE) as c:
        with pytest.raises(ImageError):
            await c.encode_image(server.base_url + "/a.png")


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip, gzip", "br"])
async def test_nothing_is_decompressed(encoding: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer(
            gzip.compress(gzip.compress(bytes(10_000_000))), headers=f"Content-Encoding: {encoding}\r\n"
        )

    async with serve(handler) as server, client(image_options=ANYWHERE) as c:
        with pytest.raises(ImageError, match="compressed for transport"):
            await c.encode_image(server.base_url + "/a.png")


async def test_an_image_may_have_any_content_type() -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer(IMAGE, headers="Content-Type: application/octet-stream\r\n")

    async with serve(handler) as server, client(image_options=ANYWHERE) as c:
        assert (await c.encode_image("  " + server.base_url + "/a b.png ")).data == IMAGE


@pytest.mark.parametrize(("status", "requests"), [(404, 1), (403, 1), (503, 2), (429, 2), (204, 1), (302, 1)])
async def test_statuses(status: int, requests: int) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer(b"", status=status)

    async with serve(handler) as server, client(image_options=ANYWHERE) as c:
        with pytest.raises(ImageError, match=f"/v1/a.png answered with status {status}") as caught:
            await c.encode_image(server.base_url + "/a.png?X-Signature=secret")
        assert server.requests == requests
        assert caught.value.attempts == requests
        assert "secret" not in str(caught.value)


async def test_a_429_of_another_host_does_not_slow_the_calls() -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer(b"", status=429, headers="Retry-After: 0\r\n")

    async with serve(handler) as server, client(image_options=ANYWHERE) as c:
        with pytest.raises(ImageError):
            await c.encode_image(server.base_url + "/a.png")
        assert c._api.http.session.rate_limiter.rate.rate is None


async def test_the_total_timeout_ends_a_dripping_download() -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start_stream()
        for _ in range(1000):
            await exchange.chunk(b"\x89")
            await asyncio.sleep(0.02)

    timeouts = Timeouts(connect=1, idle=1, total=0.2)
    async with serve(handler) as server, client(image_options=ANYWHERE, timeout=timeouts, retry=1) as c:
        with pytest.raises(ImageError, match=r"No complete response from .* within 0.2 s"):
            await c.encode_image(server.base_url + "/a.png")


async def test_an_interrupted_download_is_retried() -> None:
    async def handler(exchange: Exchange) -> None:
        if exchange.number == 1:
            await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nabc")
            exchange.cut()
        else:
            await image_server(exchange)

    async with serve(handler) as server, client(image_options=ANYWHERE) as c:
        assert (await c.encode_image(server.base_url + "/a.png")).data == IMAGE


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://user:pw@example.com/a.png", "user name or password"),
        ("http://", "something other|not valid"),
        ("http://[bad/a.png", "not valid|failed"),
        ("https://exa mple.invalid/a.png", "not"),
        ("http://127.0.0.1:1/a.png", "failed"),
        ("http://xn--a/", "not valid|failed"),
        ("https://xn--0/x", "not valid|failed"),
        ("http://127.0.0.1:99999/a.png", "an invalid port"),
    ],
)
async def test_bad_urls(url: str, message: str) -> None:
    async with client(image_options=ANYWHERE) as c:
        with pytest.raises(ImageError, match=message):
            await c.encode_image(url)


async def test_downloads_through_a_proxy_need_consent(monkeypatch: pytest.MonkeyPatch) -> None:
    async def proxy(exchange: Exchange) -> None:
        assert exchange.head.startswith("GET http://pictures.example/a.png HTTP/1.1")
        await image_server(exchange)

    async with serve(proxy) as server:
        monkeypatch.setenv("http_proxy", server.base_url.removesuffix("/v1"))
        monkeypatch.setenv("no_proxy", "localhost")
        async with client() as c:
            with pytest.raises(ImageError, match="a proxy is set"):
                await c.encode_image("http://pictures.example/a.png")
            assert (await c.encode_image("http://pictures.example/a.png", ANYWHERE)).data == IMAGE


async def test_each_waiting_client_has_its_own_timeouts() -> None:
    async def handler(exchange: Exchange) -> None:
        await asyncio.sleep(0.5)
        await image_server(exchange)

    async with serve(handler) as server, client(image_options=ANYWHERE, timeout=30) as patient:
        hasty = patient.with_options(timeout=0.1, retry=1)
        url = server.base_url + "/a.png"
        first, second = await asyncio.gather(hasty.encode_image(url), patient.encode_image(url), return_exceptions=True)
        assert isinstance(first, ImageError)
        assert not isinstance(second, BaseException)
        assert second.data == IMAGE


async def test_an_expired_deadline_and_a_closed_client() -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.reader.read()

    async with serve(handler) as server:
        c = client(image_options=ANYWHERE, retry=RetryPolicy(deadline=0.1))
        with pytest.raises(ImageError, match=r"RetryPolicy.deadline"):
            await c.encode_image(server.base_url + "/a.png")
        await c.aclose()
        with pytest.raises(ConfigurationError, match="closed"):
            await c.encode_image(server.base_url + "/a.png")


async def test_after_a_redirect_the_error_names_the_failed_url() -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer(b"", status=302, headers="Location: http://127.0.0.1:1/b.png\r\n")

    async with serve(handler) as server, client(image_options=ANYWHERE) as c:
        with pytest.raises(ImageError, match=r"connection to http://127.0.0.1:1/b.png failed"):
            await c.encode_image(server.base_url + "/a.png")


def test_on_trio(resolve: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with client() as c:
            with pytest.raises(ImageError, match="no public address"):
                await c.encode_image("http://127.0.0.1:1/a.png")
            with pytest.raises(ImageError, match="failed"):
                await c.encode_image("http://127.0.0.1:1/a.png", ANYWHERE)

    anyio.run(main, backend="trio")


@pytest.mark.parametrize("headers", ["Content-Encoding: gzip\r\n", ""])
async def test_bodies_of_errors_are_not_read(headers: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.send(f"HTTP/1.1 404 Not Found\r\n{headers}Content-Length: 1000000000\r\n\r\nabc".encode())
        await asyncio.sleep(5)

    async with serve(handler) as server, client(image_options=ANYWHERE) as c:
        with pytest.raises(ImageError, match="answered with status 404") as caught:
            await c.encode_image(server.base_url + "/a.png")
        assert caught.value.attempts == server.requests == 1


async def test_a_429_counts_as_an_attempt_whatever_other_hosts_answer() -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.answer(b"", status=429)

    policy = RetryPolicy(attempts=3, backoff=0.001, max_backoff=0.002)
    async with serve(image_server) as good, serve(refuse) as bad, client(image_options=ANYWHERE, retry=policy) as c:

        async def download_others() -> None:
            while True:
                await c.encode_image(good.base_url + "/a.png")

        others = asyncio.create_task(download_others())
        with pytest.raises(ImageError, match="429"):
            await c.encode_image(bad.base_url + "/a.png")
        others.cancel()
        assert bad.requests == 3
