"""Our own HTTP/1.1 connections on sockets: odd servers, back-pressure, timeouts, TLS, cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import socket
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
import trustme

import moondream_async as md
from moondream_async import AsyncClient, EncodedImage, RetryPolicy, Timeouts
from moondream_async._http import http1, transport
from moondream_async._http.payloads import BytesBody, FileBody
from moondream_async._http.transport import PooledTransport
from tests.support import parsers
from tests.support.effort import scaled
from tests.support.loopback import Exchange, serve, until

TIMEOUTS = {"connect": 5.0, "read": 5.0, "write": 5.0}
with_each_parser = pytest.mark.parametrize("parser", parsers.NAMES)


def request(url: str, body: bytes | FileBody = b"", **timeouts: float) -> httpx.Request:
    stream = BytesBody(body) if isinstance(body, bytes) else body
    headers = {"Content-Length": str(len(body))}
    extensions = {"timeout": {**TIMEOUTS, **timeouts}}
    return httpx.Request("POST", url, headers=headers, stream=stream, extensions=extensions)


async def read(response: httpx.Response) -> bytes:
    stream: Any = response.stream
    try:
        return b"".join([chunk async for chunk in stream])
    finally:
        await stream.aclose()


@contextlib.asynccontextmanager
async def open_transport(parser: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[PooledTransport]:
    parsers.use(parser, monkeypatch)
    pooled = PooledTransport()
    try:
        yield pooled
    finally:
        await pooled.aclose()


@with_each_parser
@pytest.mark.parametrize("how", ["in one piece", "byte by byte", "split in the middle"])
async def test_interim_responses_extensions_and_trailers(
    how: str, parser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n"
        b'3;a="b;c"\r\nabc\r\n2\r\nde\r\n0\r\nX: y\r\n\r\n'
    )
    size = {"in one piece": len(answer), "byte by byte": 1, "split in the middle": len(answer) // 2}[how]

    async def handler(exchange: Exchange) -> None:
        for start in range(0, len(answer), size):
            await exchange.send(answer[start : start + size])
            await asyncio.sleep(0)

    async with serve(handler) as server, open_transport(parser, monkeypatch) as pooled:
        for _ in range(2):
            response = await pooled.handle_async_request(request(server.base_url))
            assert response.status_code == 200
            assert "link" not in response.headers
            assert await read(response) == b"abcde"
        assert server.connections == 1


@with_each_parser
@pytest.mark.parametrize("version", [b"1.0", b"1.1"])
async def test_a_body_that_ends_with_the_connection(
    version: bytes, parser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/%b 200 OK\r\n\r\n" % version)
        for _ in range(3):
            await exchange.send(b"x" * 10_000)
        exchange.close_after = True

    async with serve(handler) as server, open_transport(parser, monkeypatch) as pooled:
        for _ in range(2):
            assert len(await read(await pooled.handle_async_request(request(server.base_url)))) == 30_000
        assert server.connections == 2


@with_each_parser
async def test_a_lost_connection_ends_no_body(parser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\n\r\nx")
        await asyncio.sleep(0.02)
        exchange.writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET,
            socket.SO_LINGER,
            b"\x01\0\0\0\0\0\0\0",  # closing sends a reset
        )
        exchange.cut()

    async with serve(handler) as server, open_transport(parser, monkeypatch) as pooled:
        response = await pooled.handle_async_request(request(server.base_url))
        with pytest.raises(httpx.ReadError):
            await read(response)


@with_each_parser
@pytest.mark.parametrize(
    "answer", [b"HTTP/1.1 101 X\r\nUpgrade: a\r\nConnection: upgrade\r\n\r\n", b"\x16\x03\x01", b""]
)
async def test_what_is_not_a_response(answer: bytes, parser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.send(answer)
        exchange.close_after = True

    async with serve(handler) as server, open_transport(parser, monkeypatch) as pooled:
        with pytest.raises(httpx.RemoteProtocolError):
            await pooled.handle_async_request(request(server.base_url))
        await until(lambda: server.open == 0)


@with_each_parser
async def test_a_half_closed_server_is_not_used_again(parser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer(b"{}")
        exchange.writer.write_eof()

    async with serve(handler) as server, open_transport(parser, monkeypatch) as pooled:
        for _ in range(3):
            assert await read(await pooled.handle_async_request(request(server.base_url))) == b"{}"
            await asyncio.sleep(0.01)
        assert server.connections == 3


@with_each_parser
async def test_a_slow_reader_stops_the_server(parser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Unread data stays at the server, and not in memory."""
    size, sent = 60_000_000, 0

    async def handler(exchange: Exchange) -> None:
        nonlocal sent
        exchange.writer.transport.set_write_buffer_limits(high=0)
        await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            await exchange.send(bytes(500_000))
            sent += 500_000

    async with serve(handler) as server, open_transport(parser, monkeypatch) as pooled:
        response = await pooled.handle_async_request(request(server.base_url))
        stream: Any = response.stream
        received = len(await anext(stream))
        await asyncio.sleep(0.2)
        assert sent < 20_000_000  # what the buffers of two sockets hold
        async for chunk in stream:
            received += len(chunk)
        await stream.aclose()
        assert received == size


@with_each_parser
async def test_large_bodies_are_sent_in_parts(parser: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file of any size is sent with little memory, and bytes are not copied as a whole."""
    size = 30_000_000
    path = tmp_path / "large"
    path.write_bytes(bytes(size))
    received = 0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        await reader.readuntil(b"\r\n\r\n")
        while received < size:
            received += len(await reader.read(100_000))
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, limit=100_000)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    async with listener, open_transport(parser, monkeypatch) as pooled:
        for body in (FileBody(path, 0, size), bytes(size)):
            received = 0
            tracemalloc.start()
            try:
                assert await read(await pooled.handle_async_request(request(url, body))) == b"{}"
                assert tracemalloc.get_traced_memory()[1] < 10_000_000
            finally:
                tracemalloc.stop()


@with_each_parser
@pytest.mark.parametrize("then", ["closes", "reads on"])
async def test_a_refusal_in_mid_upload(then: str, parser: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The refusal counts, the rest of the body is not sent, and the connection is not used again."""
    received = 0
    path = tmp_path / "large"
    path.write_bytes(bytes(50_000_000))

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal received
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        if then == "reads on":
            await asyncio.sleep(0.1)
            while data := await reader.read(100_000):
                received += len(data)
        writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    async with listener, open_transport(parser, monkeypatch) as pooled:
        for body in (bytes(50_000_000), FileBody(path, 0, 50_000_000)):
            received = 0
            response = await pooled.handle_async_request(request(url, body))
            assert response.status_code == 413
            assert await read(response) == b"{}"
            await asyncio.sleep(0.2)
            assert received < 40_000_000


@with_each_parser
async def test_an_early_answer_counts_on_a_new_connection(parser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server may answer without reading the request; only on a used connection could it be another's answer."""

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    async with listener, open_transport(parser, monkeypatch) as pooled:
        response = await pooled.handle_async_request(request(url, bytes(20_000_000)))
        assert (response.status_code, await read(response)) == (200, b"{}")


@with_each_parser
async def test_a_server_that_drips_cannot_delay_a_write_timeout(
    parser: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "large"
    path.write_bytes(bytes(30_000_000))

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            for byte in b"HTTP/1.1 200 OK\r\nX: " + b"a" * 10_000:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.01)
        writer.close()
        closed.set()

    closed = asyncio.Event()
    listener = await asyncio.start_server(connected, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    async with listener, open_transport(parser, monkeypatch) as pooled:
        with pytest.raises(httpx.WriteTimeout):
            await pooled.handle_async_request(request(url, FileBody(path, 0, 30_000_000), write=0.1))
        await closed.wait()


@with_each_parser
async def test_data_before_an_error_in_the_same_packet(
    tiny: EncodedImage, parser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsers.use(parser, monkeypatch)

    async def handler(exchange: Exchange) -> None:
        event = b'data: {"chunk": "a"}\n\n'
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        await exchange.send(head + b"%x\r\n%b\r\nnonsense\r\n" % (len(event), event))

    async with serve(handler) as server, AsyncClient(base_url=server.base_url, retry=1) as client:
        with pytest.raises(md.StreamInterruptedError) as caught:
            await (await client.query(tiny, "?", stream=True)).result()
        assert caught.value.partial == "a"
        assert server.requests == 1


async def test_a_refusal_in_mid_upload_through_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    async def proxy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
        await writer.drain()
        await asyncio.sleep(0.05)
        writer.close()

    image = EncodedImage.of(bytes(9_000_000), media_type="image/png", size=(1, 1), original=(1, 1))
    listener = await asyncio.start_server(proxy, "127.0.0.1", 0)
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}")
    async with listener, AsyncClient(base_url="http://a.example/v1", retry=1) as client:
        with pytest.raises(md.PayloadTooLargeError):
            await client.query(image, "?")


@with_each_parser
async def test_timeouts(parser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(exchange: Exchange) -> None:
        if exchange.number == 1:
            await exchange.answer(b"{}")
        elif exchange.number == 2:
            await exchange.reader.read()
        else:
            await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
            await exchange.reader.read()

    async def never_reads(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await done.wait()
        writer.close()

    done = asyncio.Event()
    listener = await asyncio.start_server(never_reads, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/"
    async with serve(silent) as server, open_transport(parser, monkeypatch) as pooled, listener:
        await read(await pooled.handle_async_request(request(server.base_url, read=60)))
        # The timer of the first request is later than the timeout of the next one.
        with pytest.raises(httpx.ReadTimeout):
            await pooled.handle_async_request(request(server.base_url, read=0.05))
        response = await pooled.handle_async_request(request(server.base_url, read=0.05))
        with pytest.raises(httpx.ReadTimeout):
            await read(response)
        with pytest.raises(httpx.WriteTimeout):
            await pooled.handle_async_request(request(url, bytes(50_000_000), write=0.05))
        await until(lambda: server.open == 0)
        done.set()


async def test_connecting_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    full = socket.create_server(("127.0.0.1", 0), backlog=0)
    waiting = [socket.socket() for _ in range(4)]
    for each in waiting:  # fill the queue, so that nobody answers
        each.setblocking(False)
        each.connect_ex(full.getsockname())
    try:
        async with open_transport("h11", monkeypatch) as pooled:
            with pytest.raises(httpx.ConnectTimeout):
                await pooled.handle_async_request(request(f"http://127.0.0.1:{full.getsockname()[1]}/", connect=0.1))
    finally:
        for each in (full, *waiting):
            each.close()


@with_each_parser
@pytest.mark.parametrize("moment", range(8))
async def test_cancelling_at_any_moment_leaves_no_socket(
    moment: int, parser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handler(exchange: Exchange) -> None:
        for part in (b"HTTP/1.1 200 OK\r\n", b"Content-Length: 4\r\n", b"\r\n", b"ab", b"cd"):
            await exchange.send(part)
            await asyncio.sleep(0)

    async with serve(handler) as server, open_transport(parser, monkeypatch) as pooled:
        for turns in range(scaled(12, 40)):
            task = asyncio.create_task(fetch(pooled, server.base_url))
            for _ in range(turns * (moment + 1)):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        await pooled.aclose()
        await until(lambda: server.open == 0)


async def fetch(pooled: PooledTransport, url: str) -> bytes:
    return await read(await pooled.handle_async_request(request(url, bytes(300_000))))


@pytest.fixture
def tls(monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    authority = trustme.CA()
    context, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("localhost").configure_cert(context)
    authority.configure_trust(trusting)
    monkeypatch.setattr(transport, "shared_ssl_context", lambda: trusting)
    return context


@with_each_parser
async def test_closing_sends_close_notify(tls: ssl.SSLContext, parser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ends: list[bytes | str] = []

    async def handler(exchange: Exchange) -> None:
        await exchange.answer(b"{}")
        try:
            ends.append(await exchange.reader.read())
        except OSError as exc:  # ssl.SSLError: the connection ended without a close_notify
            ends.append(repr(exc))

    async with serve(handler, tls) as server:
        async with open_transport(parser, monkeypatch) as pooled:
            assert await read(await pooled.handle_async_request(request(server.base_url))) == b"{}"
        await until(lambda: bool(ends))
    assert ends == [b""]


async def test_closing_ends_a_cancelled_handshake(tls: ssl.SSLContext, tiny: EncodedImage) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    del tls
    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    url = f"https://localhost:{listener.sockets[0].getsockname()[1]}/v1"
    async with listener:
        before = len(asyncio.all_tasks())
        async with AsyncClient("k", base_url=url, retry=1) as client:
            calls = [asyncio.create_task(client.query(tiny, "?")) for _ in range(5)]
            await asyncio.sleep(0.1)
            for call in calls:
                call.cancel()
            await asyncio.gather(*calls, return_exceptions=True)
        await until(lambda: len(asyncio.all_tasks()) <= before)


@with_each_parser
async def test_large_bodies_over_tls(tls: ssl.SSLContext, parser: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer(exchange.body)

    body = random.Random(1).randbytes(3_000_000)
    async with serve(handler, tls) as server, open_transport(parser, monkeypatch) as pooled:
        for _ in range(2):
            assert await read(await pooled.handle_async_request(request(server.base_url, body))) == body
        assert server.connections == 1


@with_each_parser
@pytest.mark.parametrize("is_clean", [True, False])
async def test_a_body_over_tls_ends_with_close_notify_only(
    is_clean: bool, tls: ssl.SSLContext, parser: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Anybody on the way could cut off a connection; only the server can say that this was all."""

    async def handler(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\n\r\nhalf")
        await asyncio.sleep(0.02)
        if is_clean:
            exchange.close_after = True
        else:
            exchange.cut()

    async with serve(handler, tls) as server, open_transport(parser, monkeypatch) as pooled:
        response = await pooled.handle_async_request(request(server.base_url))
        if is_clean:
            assert await read(response) == b"half"
        else:
            with pytest.raises(httpx.ReadError):
                await read(response)


async def test_ipv6(tiny: EncodedImage) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert b"Host: [::1]:" in head
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 16\r\n\r\n{"answer":"yes"}')
        writer.close()

    try:
        listener = await asyncio.start_server(connected, "::1", 0)
    except OSError:
        pytest.skip("this machine has no IPv6")
    url = f"http://[::1]:{listener.sockets[0].getsockname()[1]}/v1"
    async with listener, AsyncClient(base_url=url, retry=1) as client:
        assert (await client.query(tiny, "?")).answer == "yes"


@pytest.mark.parametrize("url", ["ftp://127.0.0.1/", "http:///", "/v1"])
async def test_urls_that_cannot_be_called(url: str) -> None:
    with pytest.raises(httpx.UnsupportedProtocol):
        await PooledTransport().handle_async_request(request(url))


async def test_headers_with_line_breaks_are_not_sent() -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer(b"{}")

    async with serve(handler) as server:
        for value in (b"a\r\nX: b", b"a\nX: b", b"a\rb", b"a\0b"):
            headers = [(b"Content-Length", b"0"), (b"X", value)]
            bad = httpx.Request("POST", server.base_url, headers=headers, stream=BytesBody(b""))
            pooled = PooledTransport()
            with pytest.raises(httpx.LocalProtocolError):
                await pooled.handle_async_request(bad)
            await pooled.aclose()
        assert server.requests == 0


async def test_mocks_of_httpcore_are_used_even_if_there_are_connections(tiny: EncodedImage) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer({"answer": "the server's"})

    async with serve(handler) as server, AsyncClient(base_url=server.base_url, retry=1) as client:
        assert (await client.query(tiny, "?")).answer == "the server's"
        with respx.mock:
            respx.post(f"{server.base_url}/query").respond(json={"answer": "the mock's"})
            assert (await client.query(tiny, "?")).answer == "the mock's"
        assert (await client.query(tiny, "?")).answer == "the server's"
        assert (server.requests, server.connections) == (2, 1)


class SlowImage:
    """A file whose reading waits for a condition of the server."""

    def __init__(self, condition: Callable[[], bool], data: bytes) -> None:
        self._condition, self._data = condition, data

    async def read(self, size: int = -1) -> bytes:
        await until(self._condition)
        data, self._data = self._data, b""
        return data


async def test_connects_while_the_image_is_prepared(scene: bytes) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer({"answer": "yes"})

    async with serve(handler) as server, AsyncClient(base_url=server.base_url, retry=1) as client:
        image = SlowImage(lambda: server.connections == 1, scene)
        assert (await client.query(image, "?")).answer == "yes"
        assert (await client.query(SlowImage(lambda: True, scene), "?")).answer == "yes"
        assert server.connections == 1
        with pytest.raises(md.ImageError):
            await client.query(b"no image", "?")
        assert server.connections == 1


async def test_a_connection_for_an_image_that_fails_is_kept(scene: bytes) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer({"answer": "yes"})

    async with serve(handler) as server, AsyncClient(base_url=server.base_url, retry=1) as client:
        with pytest.raises(md.ImageError):
            await client.query(SlowImage(lambda: server.connections == 1, b"no image"), "?")
        assert (await client.query(scene, "?")).answer == "yes"
        assert server.connections == 1


async def test_images_that_fail_open_few_connections(scene: bytes) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer({"answer": "yes"})

    async with serve(handler) as server:
        async with AsyncClient(base_url=server.base_url, retry=1, max_connections=4) as client:
            calls = [client.query(b"no image", str(number)) for number in range(100)]
            assert all(isinstance(each, md.ImageError) for each in await asyncio.gather(*calls, return_exceptions=True))
            await until(lambda: server.open <= 4)
            assert (await client.query(scene, "?")).answer == "yes"
            assert server.open <= 4


async def test_a_request_on_a_connection_opened_ahead_is_sent_once(scene: bytes) -> None:
    async def handler(exchange: Exchange) -> None:
        exchange.cut()

    async with serve(handler) as server, AsyncClient(base_url=server.base_url, retry=1) as client:
        with pytest.raises(md.APIConnectionError):
            await client.query(scene, "?")
        assert server.requests == 1


async def test_connecting_ahead_to_a_closed_port(scene: bytes) -> None:
    policy = RetryPolicy(attempts=2, backoff=0)
    async with AsyncClient(base_url="http://127.0.0.1:9/v1", retry=policy) as client:
        with pytest.raises(md.APIConnectionError) as caught:
            await client.query(scene, "?")
        assert caught.value.attempts == 2
        with pytest.raises(md.ImageError):
            await client.query(b"no image", "?")
    gc.collect()  # an exception that nobody saw would be logged here


async def test_closing_while_connecting_ahead(scene: bytes) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer({"answer": "yes"})

    dice = random.Random(5)
    async with serve(handler) as server:
        for _ in range(scaled(20, 100)):
            client = AsyncClient(base_url=server.base_url, retry=1)
            tasks: list[Awaitable[Any]] = [asyncio.create_task(client.query(scene, str(n))) for n in range(4)]
            for _ in range(dice.randrange(12)):
                await asyncio.sleep(0)
            await client.aclose()
            await asyncio.gather(*tasks, return_exceptions=True)
            await client.aclose()
        await until(lambda: server.open == 0)


async def test_the_total_timeout_of_a_stream_needs_no_scope(tiny: EncodedImage) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.event({"chunk": "a"})
        await exchange.reader.read()

    async with serve(handler) as server:
        async with AsyncClient(base_url=server.base_url, timeout=Timeouts(total=0.2, idle=5), retry=1) as client:
            stream = await client.query(tiny, "?", stream=True)
            with pytest.raises(md.APITimeoutError, match="total"):
                await stream.result()


def test_the_fastest_parser_is_used() -> None:
    pytest.importorskip("httptools")
    assert type(http1.new_parser()).__name__ == "HttptoolsParser"
