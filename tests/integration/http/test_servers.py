"""Several servers behind one client, on real sockets."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from moondream_async import (
    APIConnectionError,
    AsyncClient,
    BadRequestError,
    Client,
    ConfigurationError,
    EncodedImage,
    ServerError,
    StreamInterruptedError,
)
from moondream_async.sandbox import Sandbox
from tests.support import loopback
from tests.support.loopback import Exchange
from tests.support.sandboxes import PooledSandbox


async def answer(exchange: Exchange) -> None:
    await exchange.answer({"answer": "x"})


async def refuse(exchange: Exchange) -> None:
    await exchange.answer({"error": "Queue is full", "status": "rejected"})


async def fail(exchange: Exchange) -> None:
    await exchange.answer({"error": {"message": "broken"}}, 500)


async def cut(exchange: Exchange) -> None:
    exchange.cut()


async def test_calls_are_spread():
    async with loopback.serve(answer) as first, loopback.serve(answer) as second:
        async with AsyncClient(base_url=[first.base_url, second.base_url]) as client:
            await asyncio.gather(*(client.query(question="x") for _ in range(40)))
            assert abs(first.requests - second.requests) <= 6
            one, two = client.stats.servers
            assert (one.base_url, two.base_url) == client.base_urls == (first.base_url, second.base_url)
            assert one.requests + two.requests == 40
            assert one.in_flight == two.in_flight == 0
            assert client.stats.requests == 40


def test_sync():
    with PooledSandbox() as first, PooledSandbox() as second:
        with Client(base_url=(first.base_url, second.base_url)) as client:
            for _ in range(10):
                client.query(question="x")
            assert sum(server.requests for server in client.stats.servers) == 10


@pytest.mark.parametrize("trouble", [refuse, fail, cut])
async def test_a_call_goes_to_another_server_at_once(trouble: Any):
    async with loopback.serve(trouble) as bad, loopback.serve(answer) as good:
        async with AsyncClient(base_url=[bad.base_url, good.base_url], retry=1) as client:  # these do not count
            for _ in range(20):
                assert (await client.query(question="x")).answer == "x"
            assert good.requests == 20
            assert 1 <= bad.requests <= 10  # it rests


async def test_a_server_that_is_not_there(tiny: EncodedImage):
    async with loopback.serve(answer) as good:
        async with AsyncClient(base_url=["http://127.0.0.1:9/v1", good.base_url], retry=1) as client:
            results = await asyncio.gather(*(client.query(tiny, "x") for _ in range(50)))
            assert len(results) == good.requests == 50
            bad, _ = client.stats.servers
            assert not bad.is_healthy
            assert bad.failures >= 1


async def test_no_server_is_there():
    urls = ["http://127.0.0.1:9/v1", "http://127.0.0.1:19/v1"]
    async with AsyncClient(base_url=urls, retry=2) as client:
        with pytest.raises(APIConnectionError) as raised:
            await client.query(question="x")
    assert raised.value.attempts <= 2 + 2 * 2


async def test_a_request_that_is_wrong_is_not_sent_to_all():
    async def wrong(exchange: Exchange) -> None:
        await exchange.answer({"error": {"message": "no such field"}}, 400)

    async with loopback.serve(wrong) as first, loopback.serve(wrong) as second:
        async with AsyncClient(base_url=[first.base_url, second.base_url]) as client:
            with pytest.raises(BadRequestError):
                await client.query(question="x")
            assert first.requests + second.requests == 1
            assert all(server.is_healthy for server in client.stats.servers)


async def test_an_image_that_breaks_every_server_ends():
    async with loopback.serve(fail) as first, loopback.serve(fail) as second:
        urls = [first.base_url, second.base_url]
        async with AsyncClient(base_url=urls, retry=2) as client:
            with pytest.raises(ServerError) as raised:
                await client.query(question="x")
            assert raised.value.url in (f"{urls[0]}/query", f"{urls[1]}/query")
            assert first.requests + second.requests <= 6


async def test_pace_is_kept_for_each_server():
    """A 429 of one server does not slow the calls to the other."""

    async def slow_down(exchange: Exchange) -> None:
        await exchange.answer({"error": {"message": "slow down"}}, 429, "Retry-After: 60\r\n")

    async with loopback.serve(slow_down) as busy, loopback.serve(answer) as free:
        async with AsyncClient(base_url=[busy.base_url, free.base_url]) as client:
            await asyncio.gather(*(client.query(question="x") for _ in range(30)))
            for _ in range(10):
                await client.query(question="x")
            first, second = client.stats.servers
            assert free.requests == 40
            assert first.rate is not None
            assert second.rate is None
            assert first.rate_limited == busy.requests == client.stats.rate_limited
            assert busy.requests <= 16


async def test_full_queues_are_learned():
    """Each server takes two calls at a time; no more are sent than the first refusals show."""
    active: dict[str, int] = {}
    go_on = asyncio.Event()

    async def station(exchange: Exchange) -> None:
        port = exchange.writer.get_extra_info("sockname")[1]
        if active.get(port, 0) >= 2:
            await refuse(exchange)
            return
        active[port] = active.get(port, 0) + 1
        await asyncio.sleep(0.01)
        active[port] -= 1
        await answer(exchange)

    async with loopback.serve(station) as first, loopback.serve(station) as second:
        async with AsyncClient(base_url=[first.base_url, second.base_url]) as client:
            results = await asyncio.gather(*(client.query(question="x") for _ in range(200)))
            assert len(results) == 200
            refused = first.requests + second.requests - 200
            assert refused == client.stats.rate_limited
            # All of the first burst but four are refused, as nothing is known then.
            await asyncio.gather(*(client.query(question="x") for _ in range(200)))
            assert first.requests + second.requests - 400 - refused <= 20
    go_on.set()


async def test_streams_stay_where_they_began(scene: bytes):
    with PooledSandbox(cut=2) as first, PooledSandbox(cut=2) as second:
        async with AsyncClient(base_url=[first.base_url, second.base_url]) as client:
            stream = await client.caption(scene, stream=True)
            assert sum(server.in_flight for server in client.stats.servers) == 1
            with pytest.raises(StreamInterruptedError):
                await stream.result()
            assert first.requests + second.requests == 1
            assert sum(server.in_flight for server in client.stats.servers) == 0


async def test_a_stream_that_is_refused_goes_elsewhere(scene: bytes):
    with PooledSandbox(status=503, times=0) as bad, PooledSandbox() as good:
        async with AsyncClient(base_url=[bad.base_url, good.base_url], retry=1) as client:
            for _ in range(4):
                stream = await client.caption(scene, stream=True)
                assert (await stream.result()).caption
            assert good.requests == 4


async def test_other_requests_go_to_the_first(scene: bytes):
    with PooledSandbox() as first, PooledSandbox() as second:
        async with AsyncClient(base_url=[first.base_url, second.base_url]) as client:
            for _ in range(3):
                await client.models()
            assert [batch async for batch in client.batches.list()] == []
            assert [finetune async for finetune in client.tuning.list()] == []
            assert (first.requests, second.requests) == (5, 0)
            await asyncio.gather(*(client.chat([{"role": "user", "content": "x"}]) for _ in range(6)))
            assert second.requests > 0


async def test_one_that_is_killed_and_comes_back(scene: bytes, caplog: pytest.LogCaptureFixture):
    """No call is lost, and the server is used again."""
    caplog.set_level(logging.INFO, "moondream_async")
    speeds = (0.0, 0.01, 0.03)
    sandboxes = [Sandbox(latency=latency).start() for latency in speeds]
    victim = sandboxes[1]
    try:
        async with AsyncClient(base_url=[sandbox.base_url for sandbox in sandboxes], max_connections=24) as client:
            image = await client.encode_image(scene)
            done = 0

            async def work(count: int) -> None:
                nonlocal done
                for _ in range(count):
                    assert "red" in (await client.caption(image)).caption
                    done += 1

            load = asyncio.gather(*(work(40) for _ in range(24)))
            await loopback.until(lambda: done > 200)
            await asyncio.to_thread(victim.stop)
            await loopback.until(lambda: done > 500)
            before = client.stats.servers[1].requests
            back = Sandbox(port=victim.port, latency=0.01)
            await asyncio.to_thread(back.start)
            sandboxes[1] = back
            await load
            assert done == 960
            for _ in range(200):
                if client.stats.servers[1].is_healthy:
                    break
                await client.caption(image)
                await asyncio.sleep(0.05)
            assert client.stats.servers[1].is_healthy
            assert client.stats.servers[1].requests > before
            assert all(server.in_flight == 0 for server in client.stats.servers)
            lines = [
                line
                for line in caplog.messages
                if victim.base_url in line and "attempt" not in line and "sandbox" not in line
            ]
            assert "other servers get its calls" in lines[0]
            assert lines[-1] == f"{victim.base_url} answers again"
    finally:
        for sandbox in sandboxes:
            sandbox.stop()


async def test_cancelled_calls_leave_nothing():
    async def never(exchange: Exchange) -> None:
        await exchange.reader.read()

    async with loopback.serve(never) as first, loopback.serve(never) as second:
        async with AsyncClient(base_url=[first.base_url, second.base_url]) as client:
            calls = [asyncio.create_task(client.query(question="x")) for _ in range(20)]
            await loopback.until(lambda: first.requests + second.requests == 20)
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
            assert [server.in_flight for server in client.stats.servers] == [0, 0]


def test_several_loops():
    with PooledSandbox() as first, PooledSandbox() as second:
        client = AsyncClient(base_url=[first.base_url, second.base_url])
        for _ in range(3):
            asyncio.run(client.query(question="x"))
        assert client.stats.requests == 3


@pytest.mark.parametrize(
    ("base_url", "message"),
    [
        ([], "at least one"),
        (["http://a/v1", "http://a"], "http://a/v1 twice"),
        (["http://a/v1", 5], "must be a str"),
        (["http://a/v1", "ftp://b"], "must look like"),
        (["http://a/v1", "https://api.moondream.ai/v1"], "No API key"),
    ],
)
def test_bad_lists(base_url: Any, message: str):
    with pytest.raises(ConfigurationError, match=message):
        AsyncClient(base_url=base_url)
