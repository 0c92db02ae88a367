"""A connection with unread data is not reused: no call gets the response of another, on any event loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
import trio
import trustme

from moondream_async import AsyncClient, EncodedImage, ImageOptions, MoondreamError, PayloadTooLargeError
from moondream_async._http import transport
from moondream_async.fal import AsyncFalClient
from tests.support import parsers
from tests.support.loopback import Exchange, serve, serve_in_thread

Main = Callable[[], Awaitable[None]]


def on_uvloop(main: Main) -> None:
    uvloop = pytest.importorskip("uvloop")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())  # type: ignore[arg-type]


LOOPS: dict[str, Callable[[Main], Any]] = {
    "asyncio": lambda main: asyncio.run(main()),  # type: ignore[arg-type]
    "uvloop": on_uvloop,
    "trio": trio.run,
}
KINDS = [*((loop, parser) for loop in ("asyncio", "uvloop") for parser in parsers.NAMES), ("trio", "h11")]
on_every_loop = pytest.mark.parametrize(("loop", "parser"), KINDS)
EXTRA = b'HTTP/1.1 200 OK\r\nContent-Length: 18\r\n\r\n{"answer":"EXTRA"}'


def answer_of(number: int, headers: bytes = b"") -> bytes:
    body = b'{"answer":"%d"}' % number
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n" % (len(body), headers) + body


async def at_once(exchange: Exchange) -> None:
    await exchange.send(answer_of(exchange.number) + EXTRA)


async def shortly_after(exchange: Exchange) -> None:
    await exchange.send(answer_of(exchange.number))
    await asyncio.sleep(0.02)
    await exchange.send(EXTRA)


async def incomplete(exchange: Exchange) -> None:
    await exchange.send(answer_of(exchange.number) + EXTRA[:30])


async def after_chunks(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
    await exchange.chunk(b'{"answer":"%d"}' % exchange.number)
    await exchange.send(b"0\r\n\r\n" + EXTRA)


async def both_framings(exchange: Exchange) -> None:
    # Content-Length puts the end of the response here; its chunks end earlier.
    body = b'%x\r\n{"answer":"%d"}\r\n0\r\n\r\n' % (14, exchange.number)
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: %d\r\n\r\n" % (len(body) + len(EXTRA))
    await exchange.send(head + body)
    await asyncio.sleep(0.02)
    await exchange.send(EXTRA)


SURPLUS = (at_once, shortly_after, incomplete, after_chunks, both_framings)


@pytest.fixture
def tls(monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    authority = trustme.CA()
    context, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(trusting)
    monkeypatch.setattr(transport, "shared_ssl_context", lambda: trusting)
    return context


async def ask_three_times(base_url: str, image: EncodedImage) -> list[str]:
    answers: list[str] = []
    async with AsyncClient("k", base_url=base_url, retry=1, timeout=10) as client:
        for _ in range(3):
            try:
                answers.append((await client.query(image, "?")).answer)
            except MoondreamError as exc:
                answers.append(type(exc).__name__)
            await anyio.sleep(0.05)
    return answers


@on_every_loop
@pytest.mark.parametrize("surplus", SURPLUS)
def test_surplus_response(
    loop: str, parser: str, surplus: Any, tiny: EncodedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsers.use(parser, monkeypatch)
    answers: list[str] = []

    async def main() -> None:
        answers.extend(await ask_three_times(server.base_url, tiny))

    with serve_in_thread(surplus) as server:
        LOOPS[loop](main)
    assert answers == ["1", "2", "3"]


@on_every_loop
@pytest.mark.parametrize("surplus", [at_once, shortly_after])
def test_surplus_response_over_tls(
    loop: str, parser: str, surplus: Any, tiny: EncodedImage, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsers.use(parser, monkeypatch)
    answers: list[str] = []

    async def main() -> None:
        answers.extend(await ask_three_times(server.base_url, tiny))

    with serve_in_thread(surplus, tls) as server:
        LOOPS[loop](main)
    assert answers == ["1", "2", "3"]


@on_every_loop
@pytest.mark.parametrize("encrypted", [False, True])
def test_clean_connections_are_kept(
    loop: str, parser: str, encrypted: bool, tiny: EncodedImage, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsers.use(parser, monkeypatch)

    async def handler(exchange: Exchange) -> None:
        await exchange.send(answer_of(exchange.number))

    async def main() -> None:
        assert await ask_three_times(server.base_url, tiny) == ["1", "2", "3"]

    with serve_in_thread(handler, tls if encrypted else None) as server:
        LOOPS[loop](main)
        assert server.connections == 1


@pytest.mark.parametrize("status", [204, 304])
async def test_a_body_after_a_status_without_one(status: int, tiny: EncodedImage) -> None:
    async def handler(exchange: Exchange) -> None:
        if exchange.number > 1:
            await exchange.send(answer_of(exchange.number))
            return
        await exchange.send(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n" % (status, len(EXTRA)))
        await asyncio.sleep(0.01)
        await exchange.send(EXTRA)

    async with serve(handler) as server, AsyncClient(base_url=server.base_url, retry=1) as client:
        with pytest.raises(MoondreamError):
            await client.query(tiny, "?")
        assert (await client.query(tiny, "?")).answer == "2"
        assert server.connections == 2


async def test_a_response_before_its_request(tiny: EncodedImage) -> None:
    """A response that arrives while the request's image is still being sent is not accepted."""
    large = EncodedImage.of(bytes(6_000_000), media_type="image/png", size=(1, 1), original=(1, 1))

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        first = True
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                if not first:
                    writer.write(EXTRA)
                    await writer.drain()
                    await asyncio.sleep(0.02)
                length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-len"))
                await reader.readexactly(length)
                requests += 1
                writer.write(answer_of(requests))
                await writer.drain()
                first = False
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    requests = 0
    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener, AsyncClient(base_url=f"http://127.0.0.1:{port}/v1", retry=1) as client:
        assert (await client.query(tiny, "?")).answer == "1"
        for _ in range(3):
            assert (await client.query(large, "?")).answer != "EXTRA"


async def test_an_early_refusal_counts(tiny: EncodedImage) -> None:
    """A server may refuse a request before it has read all of it; that alone does not cause a retry."""
    large = EncodedImage.of(bytes(6_000_000), media_type="image/png", size=(1, 1), original=(1, 1))

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                requests += 1
                length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-len"))
                if length > 100_000:
                    writer.write(b"HTTP/1.1 413 X\r\nContent-Length: 2\r\n\r\n{}")
                    await writer.drain()
                await reader.readexactly(length)
                writer.write(answer_of(requests))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    requests = 0
    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    port = listener.sockets[0].getsockname()[1]
    async with listener, AsyncClient(base_url=f"http://127.0.0.1:{port}/v1", retry=1) as client:
        assert (await client.query(tiny, "?")).answer == "1"
        with pytest.raises(PayloadTooLargeError):
            await client.query(large, "?")
        assert requests == 2
        assert (await client.query(tiny, "?")).answer == "3"


async def test_downloads(scene: bytes, tiny: EncodedImage) -> None:
    async def handler(exchange: Exchange) -> None:
        if "GET" in exchange.head:
            image = b"HTTP/1.1 200 OK\r\nContent-Type: image/png\r\nContent-Length: %d\r\n\r\n" % len(scene)
            await exchange.send(image + scene + b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nlies")

    async with (
        serve(handler) as server,
        AsyncClient(base_url=server.base_url, retry=1, image_options=ImageOptions(allow_private_urls=True)) as client,
    ):
        for _ in range(3):
            assert (await client.encode_image(f"{server.base_url}/a.png")).original_size == (640, 480)
        assert server.connections == 3


async def test_fal() -> None:
    async def handler(exchange: Exchange) -> None:
        status = b'{"status":"IN_QUEUE","queue_position":%d,"request_id":"r"}'
        for position in (exchange.number, 99):
            body = status % position
            await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    async with serve(handler) as server, AsyncFalClient("k", base_url=server.base_url, retry=1) as client:
        statuses: list[Any] = [await client.status("fal-ai/x", "r") for _ in range(3)]
    assert [status.position for status in statuses] == [1, 2, 3]
