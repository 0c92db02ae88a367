"""Hostile responses: bounded memory, typed errors, closed connections, and no blocked event loop."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import trio

import moondream_async as md
from moondream_async import AsyncClient, EncodedImage, RetryPolicy, Timeouts
from moondream_async._http.response_body import read_all
from tests.support import parsers
from tests.support.loopback import Exchange, serve, serve_in_thread

LOOPS: dict[str, Callable[[Any], Any]] = {"asyncio": lambda main: asyncio.run(main()), "trio": trio.run}
KINDS = [*(("asyncio", parser) for parser in parsers.NAMES), ("trio", "h11")]


async def endless_interim(exchange: Exchange) -> None:
    for _ in range(10_000):
        await exchange.send(b"HTTP/1.1 103 Early\r\n\r\n" * 1000)


async def endless_header(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nX: ")
    for _ in range(10_000):
        await exchange.send(b"a" * 50_000)


async def endless_headers(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\n")
    for _ in range(10_000):
        await exchange.send(b"X: y\r\n" * 1000)


async def endless_extension(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;x=")
    for _ in range(10_000):
        await exchange.send(b"a" * 50_000)


async def endless_trailers(exchange: Exchange) -> None:
    await exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n")
    for _ in range(10_000):
        await exchange.send(b"X: y\r\n" * 1000)


async def not_http(exchange: Exchange) -> None:
    for _ in range(10_000):
        await exchange.send(b"nonsense" * 5000)


ENDLESS = (endless_interim, endless_header, endless_headers, endless_extension, endless_trailers, not_http)


@pytest.mark.parametrize(("loop", "parser"), KINDS)
@pytest.mark.parametrize("respond", ENDLESS)
def test_endless_responses(
    loop: str, parser: str, respond: Any, tiny: EncodedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsers.use(parser, monkeypatch)
    written = 0
    caught: list[md.MoondreamError] = []

    async def handler(exchange: Exchange) -> None:
        send = exchange.send

        async def count_and_send(data: bytes) -> None:
            nonlocal written
            written += len(data)
            await send(data)

        exchange.send = count_and_send  # type: ignore[method-assign]
        await respond(exchange)

    async def main() -> None:
        async with AsyncClient(base_url=server.base_url, retry=RetryPolicy(attempts=2, backoff=0)) as client:
            try:
                await client.query(tiny, "?")
            except md.MoondreamError as exc:
                caught.append(exc)

    with serve_in_thread(handler) as server:
        LOOPS[loop](main)
    assert isinstance(caught[0], md.APIConnectionError)
    assert written < 100_000_000
    assert server.open == 0 or server.connections == 2


async def test_the_total_timeout_ends_dripping_headers(tiny: EncodedImage) -> None:
    async def drip(exchange: Exchange) -> None:
        await exchange.send(b"HTTP/1.1 200 OK\r\nX: ")
        while True:
            await exchange.send(b"a")
            await asyncio.sleep(0.01)

    async with serve(drip) as server:
        async with AsyncClient(base_url=server.base_url, timeout=Timeouts(total=0.3), retry=1) as client:
            with pytest.raises(md.APITimeoutError, match="total"):
                await client.query(tiny, "?")


@pytest.mark.parametrize("parser", parsers.NAMES)
@pytest.mark.parametrize("flood", ["interim", "chunks"])
async def test_other_tasks_run_during_a_flood(
    flood: str, parser: str, tiny: EncodedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another task runs regularly while tens of thousands of tiny pieces are read; httptools parses 64 KB in a go."""
    parsers.use(parser, monkeypatch)
    pieces = 60_000

    async def handler(exchange: Exchange) -> None:
        if flood == "interim":
            await exchange.send(b"HTTP/1.1 103 Early\r\n\r\n" * 2000)
            await exchange.answer({"answer": "yes"})
            return
        await exchange.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        await exchange.send(b'b\r\n{"answer":"\r\n' + b"1\r\ny\r\n" * pieces + b'2\r\n"}\r\n0\r\n\r\n')

    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    with serve_in_thread(handler) as server:
        async with AsyncClient(base_url=server.base_url, retry=1) as client:
            task = asyncio.create_task(count())
            before, answer = turns, await client.query(tiny, "?")
            task.cancel()
    assert len(answer.answer) == (3 if flood == "interim" else pieces)
    regularly = pieces // 128 if parser == "h11" else pieces * 6 // 65536
    assert turns - before >= (3 if flood == "interim" else regularly)


async def test_memory_of_tiny_chunks_is_proportional() -> None:
    class Chunks(httpx.AsyncByteStream):
        async def __aiter__(self) -> Any:
            for _ in range(300_000):
                yield bytes(2)

    response = httpx.Response(200, stream=Chunks())
    tracemalloc.start()
    try:
        assert len(await read_all(response)) == 600_000
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()
