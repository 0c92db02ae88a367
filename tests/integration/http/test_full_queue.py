"""Calls that are refused by a full queue or a rate limit wait while others succeed."""

from __future__ import annotations

import asyncio

import pytest

import moondream_async as md
from moondream_async import AsyncClient, EncodedImage, RetryPolicy
from tests.support.effort import scaled
from tests.support.loopback import Exchange, serve

FULL = {"error": "Queue is full", "status": "rejected"}  # as Station sends it, with status 200


class Station:
    """A server with one worker and a bounded queue; it refuses requests that do not fit."""

    def __init__(self, queue: int, seconds: float = 0.01) -> None:
        self.capacity, self.seconds = queue + 1, seconds
        self.worker = asyncio.Lock()
        self.refused = 0

    async def __call__(self, exchange: Exchange) -> None:
        if not self.capacity:
            self.refused += 1
            await exchange.answer(FULL)
            return
        self.capacity -= 1
        async with self.worker:
            await asyncio.sleep(self.seconds)
        self.capacity += 1
        if '"stream":true' in exchange.body.decode():
            await exchange.start_stream()
            await exchange.event({"chunk": "yes"})
            await exchange.event({"completed": True})
            await exchange.end_stream()
        else:
            await exchange.answer({"answer": "yes", "caption": "yes"})


async def test_calls_wait_for_a_full_queue(tiny: EncodedImage) -> None:
    calls = scaled(15, 60)
    station = Station(queue=2)
    policy = RetryPolicy(attempts=1, backoff=0.02)
    async with serve(station) as server, AsyncClient(base_url=server.base_url, retry=policy) as client:
        results = await asyncio.gather(*(client.query(tiny, "?") for _ in range(calls)))
        stats = client.stats
    assert [result.answer for result in results] == ["yes"] * calls
    assert station.refused > 0
    assert stats.rate_limited == station.refused
    assert sum(result.meta.attempts for result in results) == calls + station.refused


async def test_streams_wait_for_a_full_queue(tiny: EncodedImage) -> None:
    async def text(client: AsyncClient) -> str:
        async with await client.query(tiny, "?", stream=True) as stream:
            return (await stream.result()).answer

    calls, station = scaled(8, 20), Station(queue=2)
    policy = RetryPolicy(attempts=1, backoff=0.02)
    async with serve(station) as server, AsyncClient(base_url=server.base_url, retry=policy) as client:
        answers = await asyncio.gather(*(text(client) for _ in range(calls)))
    assert answers == ["yes"] * calls
    assert station.refused > 0


async def test_map_waits_for_a_full_queue(tiny: EncodedImage) -> None:
    items, policy = scaled(6, 20), RetryPolicy(attempts=1, backoff=0.02)
    async with serve(Station(queue=1)) as server, AsyncClient(base_url=server.base_url, retry=policy) as client:
        outcomes = [outcome.ok async for outcome in client.map("caption", [tiny] * items, concurrency=12)]
    assert outcomes == [True] * items


@pytest.mark.parametrize(("status", "body"), [(200, FULL), (429, {})])
@pytest.mark.parametrize("calls", [1, 3])
async def test_calls_fail_after_their_attempts_when_none_succeeds(
    tiny: EncodedImage, status: int, body: object, calls: int
) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.answer(body, status)

    policy = RetryPolicy(attempts=2, backoff=0)
    async with serve(refuse) as server, AsyncClient(base_url=server.base_url, retry=policy) as client:
        tasks = (client.query(tiny, "?") for _ in range(calls))
        errors = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(error, md.RateLimitError) for error in errors)
    if calls == 1:
        assert server.requests == 2


async def test_a_refused_call_ends_at_its_deadline_while_others_succeed(tiny: EncodedImage) -> None:
    async def refuse_one(exchange: Exchange) -> None:
        if exchange.json["question"] == "refused":
            await exchange.answer({}, 429, "Retry-After: 0\r\n")
        else:
            await exchange.answer({"answer": "yes"})

    policy = RetryPolicy(attempts=1, backoff=0, deadline=0.5)
    async with serve(refuse_one) as server, AsyncClient(base_url=server.base_url) as client:
        refused = asyncio.create_task(client.with_options(retry=policy).query(tiny, "refused"))
        while not refused.done():
            await client.query(tiny, "accepted")
        with pytest.raises(md.APITimeoutError, match="deadline"):
            await refused


async def test_excluded_statuses_are_not_retried(tiny: EncodedImage) -> None:
    station = Station(queue=0)
    policy = RetryPolicy(statuses={503})
    async with serve(station) as server, AsyncClient(base_url=server.base_url, retry=policy) as client:
        results = await asyncio.gather(*(client.query(tiny, "?") for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(result, md.RateLimitError) for result in results) == station.refused == 4


async def test_errors_do_not_count_as_successes_of_others(tiny: EncodedImage) -> None:
    async def fail_then_refuse(exchange: Exchange) -> None:
        await exchange.answer({}, 503 if exchange.number == 1 else 429)

    policy = RetryPolicy(attempts=3, backoff=0.001, max_backoff=0.002)
    async with serve(fail_then_refuse) as server, AsyncClient(base_url=server.base_url, retry=policy) as client:
        with pytest.raises(md.RateLimitError) as caught:
            await client.query(tiny, "?")
    assert caught.value.attempts == server.requests == 3
