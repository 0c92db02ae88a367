"""The transport on real sockets: reuse, stale connections, cancellation, many calls, event loops, TLS."""

from __future__ import annotations

import asyncio
import gc
import random
import ssl
from typing import Any

import pytest
import trio
import trustme

from moondream_async import APIConnectionError, AsyncClient, EncodedImage, RetryPolicy
from moondream_async._http import transport
from tests.support.effort import scaled
from tests.support.loopback import Exchange, Server, serve, until

ANSWER = {"answer": "yes", "request_id": "r"}


async def say_yes(exchange: Exchange) -> None:
    await exchange.answer(ANSWER)


def slots_in_use(client: AsyncClient) -> int:
    return client._api.http.session._limiters.get().borrowed_tokens  # pyright: ignore[reportPrivateUsage]


def idle_connections(client: AsyncClient) -> int:
    pool: Any = client._api.http.session._transport  # pyright: ignore[reportPrivateUsage]
    return sum(len(stack) for stack in pool._pools.get()._stacks.values())


async def test_connections_are_reused(tiny: EncodedImage) -> None:
    async with serve(say_yes) as server, AsyncClient(base_url=server.base_url) as client:
        for _ in range(20):
            await client.query(tiny, "?")
        assert (server.requests, server.connections) == (20, 1)
        await asyncio.gather(*(client.query(tiny, "?") for _ in range(10)))
        assert server.connections <= 10


async def test_closing_closes_every_connection(tiny: EncodedImage) -> None:
    async with serve(say_yes) as server:
        async with AsyncClient(base_url=server.base_url) as client:
            await asyncio.gather(*(client.query(tiny, "?") for _ in range(10)))
        await until(lambda: server.open == 0)


@pytest.mark.parametrize("closing", ["with-the-response", "later"])
async def test_a_stale_connection_is_replaced_without_using_an_attempt(tiny: EncodedImage, closing: str) -> None:
    async def answer_and_close(exchange: Exchange) -> None:
        await exchange.answer(ANSWER)
        if closing == "later":
            await asyncio.sleep(0.02)
        exchange.cut()

    async with serve(answer_and_close) as server, AsyncClient(base_url=server.base_url, retry=1) as client:
        for _ in range(5):
            assert (await client.query(tiny, "?")).meta.attempts == 1
            await asyncio.sleep(0.04 if closing == "later" else 0)


async def test_a_connection_that_breaks_on_reuse_is_replaced(tiny: EncodedImage) -> None:
    async def cut_on_reuse(exchange: Exchange) -> None:
        requests = getattr(exchange.writer, "requests", 0)
        exchange.writer.requests = requests + 1  # type: ignore[attr-defined]
        if requests:
            exchange.cut()
        else:
            await exchange.answer(ANSWER)

    async with serve(cut_on_reuse) as server, AsyncClient(base_url=server.base_url, retry=1) as client:
        for _ in range(3):
            assert (await client.query(tiny, "?")).answer == "yes"
        assert server.connections == 3


async def test_a_new_connection_that_breaks_is_an_error(tiny: EncodedImage) -> None:
    async def cut(exchange: Exchange) -> None:
        exchange.cut()

    async with serve(cut) as server, AsyncClient(base_url=server.base_url, retry=1) as client:
        with pytest.raises(APIConnectionError) as caught:
            await client.query(tiny, "?")
        assert caught.value.attempts == 1
        assert caught.value.__context__ is None
        assert slots_in_use(client) == 0


async def test_requests_in_flight_never_exceed_the_limit(tiny: EncodedImage) -> None:
    in_flight = peak = 0

    async def count(exchange: Exchange) -> None:
        nonlocal in_flight, peak
        in_flight += 1
        peak = max(peak, in_flight)
        await asyncio.sleep(0.005)
        in_flight -= 1
        await exchange.answer(ANSWER)

    async with serve(count) as server, AsyncClient(base_url=server.base_url, max_connections=7) as client:
        await asyncio.gather(*(client.query(tiny, "?") for _ in range(100)))
        assert peak == 7
        assert server.connections <= 7


async def test_thousands_at_once(tiny: EncodedImage) -> None:
    calls = scaled(2000, 6000)
    async with serve(say_yes) as server, AsyncClient(base_url=server.base_url, retry=1) as client:
        results = await asyncio.gather(*(client.query(tiny, "?") for _ in range(calls)))
        assert len(results) == calls
        assert server.requests == calls
        assert server.connections <= 256
        assert slots_in_use(client) == 0


async def test_cancellation_leaks_no_slot_and_no_connection(tiny: EncodedImage) -> None:
    rng, rounds = random.Random(7), scaled(30, 100)

    async def slow(exchange: Exchange) -> None:
        await asyncio.sleep(rng.random() * 0.004)
        await exchange.answer(ANSWER)

    async with serve(slow) as server, AsyncClient(base_url=server.base_url, max_connections=16, retry=1) as client:
        cancelled = 0
        for _ in range(rounds):
            tasks = [asyncio.create_task(client.query(tiny, "?")) for _ in range(100)]
            for task in tasks:
                delay = rng.choice((0, 0, rng.random() * 0.01))
                asyncio.get_running_loop().call_later(delay, task.cancel)
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            cancelled += sum(isinstance(o, asyncio.CancelledError) for o in outcomes)
            assert all(isinstance(o, asyncio.CancelledError) or not isinstance(o, BaseException) for o in outcomes)
        assert cancelled > 50 * rounds
        assert slots_in_use(client) == 0
        results = await asyncio.gather(*(client.query(tiny, "?") for _ in range(16)))
        assert all(r.answer == "yes" for r in results)
        assert idle_connections(client) <= 16
        await until(lambda: server.open <= 16)


async def test_thousands_of_cancellations_while_connecting(tiny: EncodedImage) -> None:
    async with serve(say_yes) as server, AsyncClient(base_url=server.base_url, max_connections=10, retry=1) as client:
        for step in range(scaled(36, 100)):
            tasks = [asyncio.create_task(client.query(tiny, "?")) for _ in range(100)]
            for _ in range(step % 12):
                await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        assert slots_in_use(client) == 0
        await asyncio.gather(*(client.query(tiny, "?") for _ in range(10)))


def test_one_client_in_several_event_loops(tiny: EncodedImage) -> None:
    client: AsyncClient | None = None

    async def once() -> Server:
        nonlocal client
        async with serve(say_yes) as server:
            client = client or AsyncClient(base_url=server.base_url)
            shared = client.with_options()
            here = AsyncClient(base_url=server.base_url)._api.settings.server  # each loop's server has its own port
            shared._api = shared._api.with_settings(server=here)
            await asyncio.gather(*(shared.query(tiny, "?") for _ in range(5)))
        return server

    for _ in range(3):
        assert asyncio.run(once()).requests == 5
    gc.collect()  # an unclosed socket would warn here, and warnings are errors


def test_trio(tiny: EncodedImage, moondream_sandbox: Any) -> None:
    async def main() -> None:
        async with AsyncClient(base_url=moondream_sandbox.base_url) as client:
            answers: list[str] = []

            async def ask() -> None:
                answers.append((await client.query(tiny, "how big?")).answer)

            async with trio.open_nursery() as nursery:
                for _ in range(20):
                    nursery.start_soon(ask)
            assert answers == ["1 by 1 pixels."] * 20
            async with await client.caption(tiny, stream=True) as stream:
                text = "".join([piece async for piece in stream])
            assert text == (await stream.result()).caption
            with trio.move_on_after(0.001):
                await client.query(tiny, "?")
            await client.query(tiny, "?")

    trio.run(main)


async def test_tls(tiny: EncodedImage, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = trustme.CA()
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(server_context)
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    async with serve(say_yes, tls=server_context) as server:
        async with AsyncClient("k", base_url=server.base_url) as client:
            with pytest.raises(APIConnectionError, match="not trusted") as caught:
                await client.query(tiny, "?")
            assert caught.value.attempts == 1
        monkeypatch.setattr(transport, "shared_ssl_context", lambda: trusting)
        async with AsyncClient("k", base_url=server.base_url) as client:
            await asyncio.gather(*(client.query(tiny, "?") for _ in range(5)))
            await client.query(tiny, "?")
            assert server.requests == 6


async def test_large_bodies_both_ways() -> None:
    size = 0

    async def echo_size(exchange: Exchange) -> None:
        nonlocal size
        size = len(exchange.body)
        await exchange.answer({"answer": "y" * 3_000_000})

    image = EncodedImage.of(bytes(9_000_000), media_type="image/png", size=(1, 1), original=(1, 1))
    async with serve(echo_size) as server, AsyncClient(base_url=server.base_url) as client:
        results = await asyncio.gather(*(client.query(image, "?") for _ in range(3)))
        assert all(len(r.answer) == 3_000_000 for r in results)
        assert size > 12_000_000


async def test_no_server(tiny: EncodedImage) -> None:
    async with serve(say_yes) as server:
        closed_url = server.base_url
    policy = RetryPolicy(attempts=3, backoff=0)
    async with AsyncClient(base_url=closed_url, retry=policy) as client:
        with pytest.raises(APIConnectionError, match=closed_url) as caught:
            await client.query(tiny, "?")
        assert caught.value.attempts == 3
