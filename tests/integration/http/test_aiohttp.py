"""Calls over aiohttp's connections."""

from __future__ import annotations

import asyncio
import ssl
import sys

import anyio
import pytest
import trustme

import moondream_async as md
from moondream_async import AsyncClient, ConfigurationError, EncodedImage, RetryPolicy, Timeouts
from tests.support.loopback import Exchange, serve

FAST = RetryPolicy(backoff=0)
ANSWER = {"answer": "yes"}


async def answer(exchange: Exchange) -> None:
    await exchange.answer(ANSWER, headers="Set-Cookie: a=b\r\n")


async def test_many_calls_share_few_connections(tiny: EncodedImage) -> None:
    heads: list[str] = []

    async def handler(exchange: Exchange) -> None:
        heads.append(exchange.head.lower())
        await answer(exchange)

    async with serve(handler) as server:
        async with AsyncClient("k", base_url=server.base_url, max_connections=8, http_client="aiohttp") as client:
            results = await asyncio.gather(*(client.query(tiny, "?") for _ in range(100)))
        assert {result.answer for result in results} == {"yes"}
        assert server.connections <= 8
    assert all("x-moondream-auth: k" in head and "content-length" in head for head in heads)
    assert not any("cookie:" in head or "transfer-encoding" in head for head in heads)


async def test_streams(tiny: EncodedImage) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start_stream()
        for word in ("a", "b"):
            await exchange.event({"chunk": word, "completed": False})
        if exchange.number == 1:
            await exchange.event({"chunk": "c", "completed": True, "answer": "abc"})
            await exchange.end_stream()
        else:
            exchange.cut()

    async with serve(handler) as server:
        async with AsyncClient(base_url=server.base_url, http_client="aiohttp") as client:
            stream = await client.query(tiny, "?", stream=True)
            assert "".join([piece async for piece in stream]) == "abc"
            with pytest.raises(md.StreamInterruptedError) as caught:
                await (await client.query(tiny, "?", stream=True)).result()
            assert caught.value.partial == "ab"


@pytest.mark.parametrize("how", ["close", "garbage", "half", "silence", "drip"])
async def test_broken_servers(tiny: EncodedImage, how: str) -> None:
    async def handler(exchange: Exchange) -> None:
        if exchange.number == 2:
            await answer(exchange)
        elif how == "garbage":
            await exchange.send(b"this is not HTTP\r\n\r\n")
            exchange.cut()
        elif how == "half":
            await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
            exchange.cut()
        elif how == "silence":
            await exchange.reader.read()
        elif how == "drip":
            await exchange.start_stream()
            for _ in range(100):
                await exchange.chunk(b" ")
                await asyncio.sleep(0.05)
        else:
            exchange.cut()

    timeouts = Timeouts(connect=1, idle=0.2, total=0.4)
    async with serve(handler) as server:
        async with AsyncClient(base_url=server.base_url, timeout=timeouts, retry=FAST, http_client="aiohttp") as client:
            result = await client.query(tiny, "?")
            assert (result.answer, result.meta.attempts) == ("yes", 2)
        async with AsyncClient(base_url=server.base_url, timeout=timeouts, retry=1, http_client="aiohttp") as client:
            server.requests = 0
            with pytest.raises((md.APIConnectionError, md.APITimeoutError)):
                await client.query(tiny, "?")


async def test_no_server(tiny: EncodedImage) -> None:
    async with AsyncClient(base_url="http://127.0.0.1:1/v1", retry=1, http_client="aiohttp") as client:
        with pytest.raises(md.APIConnectionError, match=r"127\.0\.0\.1:1"):
            await client.query(tiny, "?")


async def test_certificates_are_checked(tiny: EncodedImage) -> None:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    trustme.CA().issue_cert("localhost").configure_cert(context)
    async with serve(answer, tls=context) as server:
        async with AsyncClient(base_url=server.base_url, retry=1, http_client="aiohttp") as client:
            with pytest.raises(md.APIConnectionError):
                await client.query(tiny, "?")


async def test_cancelled_calls_free_their_slots(tiny: EncodedImage) -> None:
    async def handler(exchange: Exchange) -> None:
        if exchange.number <= 4:
            await exchange.reader.read()
        await answer(exchange)

    async with serve(handler) as server:
        async with AsyncClient(base_url=server.base_url, max_connections=4, http_client="aiohttp") as client:
            tasks = [asyncio.create_task(client.query(tiny, "?")) for _ in range(4)]
            await asyncio.sleep(0.1)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert (await client.query(tiny, "?")).answer == "yes"


def test_several_loops(tiny: EncodedImage) -> None:
    async def once(client: AsyncClient, url: str) -> str:
        async with client:
            return (await client.query(tiny, "?")).answer

    async def main() -> str:
        async with serve(answer) as server:
            return await once(AsyncClient(base_url=server.base_url, http_client="aiohttp"), server.base_url)

    assert [asyncio.run(main()) for _ in range(2)] == ["yes", "yes"]


def test_not_on_trio(tiny: EncodedImage) -> None:
    async def main() -> None:
        async with AsyncClient(base_url="http://127.0.0.1:1/v1", http_client="aiohttp") as client:
            with pytest.raises(ConfigurationError, match="asyncio only"):
                await client.query(tiny, "?")

    anyio.run(main, backend="trio")


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "moondream_async._http.aiohttp_transport", raising=False)
    monkeypatch.setitem(sys.modules, "httpx_aiohttp", None)
    with pytest.raises(ConfigurationError, match=r"moondream-async\[aiohttp\]"):
        AsyncClient("k", http_client="aiohttp")


def test_unknown_http_client() -> None:
    with pytest.raises(ConfigurationError, match="not curl"):
        AsyncClient("k", http_client="curl")  # type: ignore[arg-type]
