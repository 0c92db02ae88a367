"""Logical calls: headers, retries, timeouts, errors, rate limiting; with respx and with real sockets."""

from __future__ import annotations

import asyncio
import gc
import json
import traceback
from typing import Any

import anyio
import httpx
import pytest
import respx

import moondream_async as md
from moondream_async import AsyncClient, EncodedImage, RetryPolicy, Timeouts
from moondream_async._http import rate_limiter
from tests.support.loopback import Exchange, serve, until

BASE = "https://api.moondream.ai/v1"
KEY = "secret-key-123"
FAST = RetryPolicy(backoff=0)
ANSWER = {"answer": "yes", "request_id": "r"}


@respx.mock
async def test_request(tiny: EncodedImage) -> None:
    route = respx.post(f"{BASE}/query").respond(json=ANSWER)
    async with AsyncClient(f' "{KEY}"\n', headers={"X-Team": "a"}, model="m") as client:
        result = await client.query(tiny, "what?", reasoning=False)
    request = route.calls.last.request
    assert request.headers["x-moondream-auth"] == KEY
    assert request.headers["content-type"] == "application/json"
    assert request.headers["user-agent"].startswith("moondream-async/")
    assert request.headers["x-team"] == "a"
    assert "authorization" not in request.headers
    assert int(request.headers["content-length"]) == len(request.content)
    sent = json.loads(request.content)
    assert sent == {"image_url": tiny.image_url, "question": "what?", "stream": False, "reasoning": False, "model": "m"}
    assert result.answer == "yes"
    assert result.meta.status == 200


@respx.mock
async def test_models_uses_a_bearer_token() -> None:
    route = respx.get(f"{BASE}/models").respond(json={"data": [{"id": "moondream3-preview"}]})
    async with AsyncClient(KEY) as client:
        assert [m.id for m in await client.models()] == ["moondream3-preview"]
    assert route.calls.last.request.headers["authorization"] == f"Bearer {KEY}"
    assert "x-moondream-auth" not in route.calls.last.request.headers


@respx.mock
async def test_no_key_no_header(tiny: EncodedImage) -> None:
    route = respx.post("http://localhost:2020/v1/query").respond(json=ANSWER)
    async with AsyncClient(base_url="http://localhost:2020") as client:
        await client.query(tiny, "?")
    assert "x-moondream-auth" not in route.calls.last.request.headers


@respx.mock
@pytest.mark.parametrize("status", [429, 500, 503, 524])
async def test_failures_are_retried_with_the_same_body(tiny: EncodedImage, status: int) -> None:
    route = respx.post(f"{BASE}/query").mock(
        side_effect=[httpx.Response(status), httpx.ConnectError("no"), httpx.Response(200, json=ANSWER)]
    )
    async with AsyncClient(KEY, retry=FAST) as client:
        result = await client.query(tiny, "?")
    assert result.meta.attempts == 3
    assert len({call.request.content for call in route.calls}) == 1


@respx.mock
async def test_giving_up(tiny: EncodedImage) -> None:
    route = respx.post(f"{BASE}/query").respond(503, json={"error": "Engine is not ready"})
    async with AsyncClient(KEY, retry=FAST) as client:
        with pytest.raises(md.ServerError, match="Engine is not ready") as caught:
            await client.query(tiny, "?")
    assert route.call_count == caught.value.attempts == 4
    assert caught.value.__context__ is None


@respx.mock
@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
async def test_refusals_are_not_retried(tiny: EncodedImage, status: int) -> None:
    route = respx.post(f"{BASE}/query").respond(status, json={"error": {"message": "no", "code": "c"}})
    async with AsyncClient(KEY) as client:
        with pytest.raises(md.APIError) as caught:
            await client.query(tiny, "?")
    assert caught.value.status == status
    assert route.call_count == 1


@respx.mock
async def test_station_errors_with_status_200_are_errors_and_are_retried(tiny: EncodedImage) -> None:
    full = httpx.Response(200, json={"error": "Queue is full", "status": "rejected"}, headers={"retry-after": "0"})
    route = respx.post("http://localhost:2020/v1/caption")
    route.mock(side_effect=[full, httpx.Response(200, json={"caption": "a", "_stats": {"tokens": 1}})])
    async with AsyncClient(base_url="http://localhost:2020", retry=FAST) as client:
        assert (await client.caption(tiny)).meta.attempts == 2
        route.mock(return_value=httpx.Response(200, json={"error": "image file is truncated"}))
        with pytest.raises(md.BadRequestError, match="truncated"):
            await client.caption(tiny)


@respx.mock
@pytest.mark.parametrize("body", [b"", b"<html>hello</html>", b"[]", b'{"result": 1}', b"\xff"])
async def test_invalid_responses_are_errors(tiny: EncodedImage, body: bytes) -> None:
    respx.post(f"{BASE}/query").respond(200, content=body)
    async with AsyncClient(KEY) as client:
        with pytest.raises(md.APIError, match="cannot be used") as caught:
            await client.query(tiny, "?")
    assert caught.value.__context__ is None


@respx.mock
async def test_a_key_echoed_by_the_server_is_redacted(tiny: EncodedImage) -> None:
    respx.post(f"{BASE}/query").respond(401, json={"error": {"message": f"Key {KEY} is unknown"}})
    async with AsyncClient(KEY) as client:
        with pytest.raises(md.AuthenticationError) as caught:
            await client.query(tiny, "?")
    assert KEY not in repr(caught.value.__dict__) + str(caught.value)


@respx.mock
async def test_redirects_are_not_followed(tiny: EncodedImage) -> None:
    respx.post(f"{BASE}/query").respond(307, headers={"location": "https://evil.example/"})
    evil = respx.post("https://evil.example/").respond(json=ANSWER)
    async with AsyncClient(KEY) as client:
        with pytest.raises(md.APIError, match="redirects"):
            await client.query(tiny, "?")
    assert not evil.called


@respx.mock
async def test_a_retry_after_beyond_the_cap_raises_at_once(tiny: EncodedImage) -> None:
    route = respx.post(f"{BASE}/query").respond(429, headers={"retry-after": "1800"})
    async with AsyncClient(KEY) as client:
        with pytest.raises(md.RateLimitError) as caught:
            await client.query(tiny, "?")
    assert caught.value.retry_after == 1800
    assert route.call_count == 1


@respx.mock
async def test_nothing_is_sent_for_bad_arguments(tiny: EncodedImage) -> None:
    async with AsyncClient(KEY) as client:
        for call in (
            client.query(tiny, ""),
            client.query("What is this?"),
            client.query(tiny, "?", spatial_refs=[(0.1, 7)]),
            client.caption(tiny, "epic"),  # type: ignore[arg-type]
            client.detect(tiny, " "),
            client.segment(None, "cat"),  # type: ignore[arg-type]
            client.caption(b"text"),
        ):
            with pytest.raises(md.MoondreamError):
                await call
    assert not respx.calls.called


@respx.mock
async def test_the_users_own_client_and_transport(tiny: EncodedImage) -> None:
    route = respx.post(f"{BASE}/query").respond(json=ANSWER)
    async with httpx.AsyncClient(headers={"X-Mine": "1"}) as http_client:
        async with AsyncClient(KEY, http_client=http_client) as client:
            assert (await client.query(tiny, "?")).answer == "yes"
        assert route.calls.last.request.headers["x-mine"] == "1"
        assert not http_client.is_closed
    async with AsyncClient(KEY, http_client=http_client) as client:
        with pytest.raises(md.ConfigurationError, match="http_client is closed"):
            await client.query(tiny, "?")
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json=ANSWER)

    async with AsyncClient(KEY, http_client=httpx.MockTransport(answer)) as client:
        assert (await client.query(tiny, "?")).answer == "yes"
    assert requests[0].headers["x-moondream-auth"] == KEY


async def test_environment_proxies_are_used(tiny: EncodedImage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def proxy(exchange: Exchange) -> None:
        assert exchange.head.startswith("POST http://moondream.invalid/v1/query ")
        await exchange.answer(ANSWER)

    async with serve(proxy) as server:
        monkeypatch.setenv("http_proxy", server.base_url.removesuffix("/v1"))
        async with AsyncClient(base_url="http://moondream.invalid", retry=1) as client:
            assert (await client.query(tiny, "?")).answer == "yes"


@respx.mock
async def test_with_options(tiny: EncodedImage) -> None:
    route = respx.post(f"{BASE}/query").respond(json=ANSWER)
    async with AsyncClient(KEY, headers={"X-A": "1", "X-B": "1"}) as client:
        other = client.with_options(model="m2", headers={"X-B": "2"}, timeout=5, retry=1)
        await other.query(tiny, "?")
        request = route.calls.last.request
        assert (request.headers["x-a"], request.headers["x-b"]) == ("1", "2")
        assert json.loads(request.content)["model"] == "m2"
        assert request.extensions["timeout"]["read"] == 5
        assert client.model is None
        assert other._api.http.session is client._api.http.session  # pyright: ignore[reportPrivateUsage]


async def test_use_after_close(tiny: EncodedImage) -> None:
    client = AsyncClient(KEY)
    await client.aclose()
    await client.aclose()
    with pytest.raises(md.ConfigurationError, match="closed"):
        await client.query(tiny, "?")


class TestTimeouts:
    async def test_idle(self, tiny: EncodedImage) -> None:
        async def hang(exchange: Exchange) -> None:
            await asyncio.sleep(30)

        async with serve(hang) as server:
            policy = RetryPolicy(attempts=2, backoff=0)
            async with AsyncClient(base_url=server.base_url, timeout=Timeouts(idle=0.05), retry=policy) as client:
                with pytest.raises(md.APITimeoutError, match=r"idle") as caught:
                    await client.query(tiny, "?")
                assert isinstance(caught.value, TimeoutError)
                assert (caught.value.attempts, server.requests) == (2, 2)
                once = client.with_options(retry=RetryPolicy(retry_timeouts=False))
                with pytest.raises(md.APITimeoutError):
                    await once.query(tiny, "?")
                assert server.requests == 3

    async def test_total_limits_a_dripping_response(self, tiny: EncodedImage) -> None:
        async def drip(exchange: Exchange) -> None:
            await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 99999\r\n\r\n")
            while True:
                await exchange.send(b" ")
                await asyncio.sleep(0.01)

        async with serve(drip) as server:
            async with AsyncClient(base_url=server.base_url, timeout=Timeouts(idle=5, total=0.1), retry=1) as client:
                with pytest.raises(md.APITimeoutError, match="total"):
                    await client.query(tiny, "?")

    async def test_deadline_limits_all_attempts(self, tiny: EncodedImage) -> None:
        async def hang(exchange: Exchange) -> None:
            await asyncio.sleep(30)

        async with serve(hang) as server:
            policy = RetryPolicy(attempts=100, backoff=0, deadline=0.2)
            async with AsyncClient(base_url=server.base_url, timeout=0.05, retry=policy) as client:
                with pytest.raises(md.APITimeoutError) as caught:
                    await client.query(tiny, "?")
                assert 2 <= caught.value.attempts < 100

    async def test_waiting_for_a_slot_is_not_part_of_the_total(self, tiny: EncodedImage) -> None:
        async def slow(exchange: Exchange) -> None:
            await asyncio.sleep(0.05)
            await exchange.answer(ANSWER)

        async with serve(slow) as server:
            client = AsyncClient(base_url=server.base_url, max_connections=1, timeout=0.25, retry=1)
            async with client:
                results = await asyncio.gather(*(client.query(tiny, "?") for _ in range(8)))
            assert len(results) == 8

    async def test_connect(self, tiny: EncodedImage) -> None:
        async with AsyncClient(base_url="http://127.0.0.1:9", timeout=0.2, retry=1) as client:
            with pytest.raises(md.APIConnectionError):
                await client.query(tiny, "?")


async def say_yes(exchange: Exchange) -> None:
    await exchange.answer(ANSWER)


class TestRateLimiting:
    async def test_a_429_holds_all_tasks_back_together(self, tiny: EncodedImage) -> None:
        async def refuse_first(exchange: Exchange) -> None:
            if exchange.number == 1:
                await exchange.answer({}, 429, "Retry-After: 60\r\n")
            else:
                await exchange.answer(ANSWER)

        async with serve(refuse_first) as server, AsyncClient(base_url=server.base_url) as client:
            tasks = [asyncio.create_task(client.query(tiny, "?"))]
            await until(lambda: not rate_of(client).free)
            tasks += [asyncio.create_task(client.query(tiny, "?")) for _ in range(5)]
            await asyncio.sleep(0.05)
            assert server.requests == 1
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def test_an_explicit_rate(self, tiny: EncodedImage, monkeypatch: pytest.MonkeyPatch) -> None:
        clock = FakeClock()
        monkeypatch.setattr(rate_limiter, "time", clock)
        monkeypatch.setattr(rate_limiter, "anyio", clock)
        async with serve(say_yes) as server, AsyncClient(base_url=server.base_url, rate_limit=4) as client:
            await asyncio.gather(*(client.query(tiny, "?") for _ in range(5)))
        assert clock.slept == [0.25] * 4

    async def test_cancelled_waiters_do_not_delay_others(self, tiny: EncodedImage) -> None:
        async with serve(say_yes) as server, AsyncClient(base_url=server.base_url, rate_limit=0.01) as client:
            await client.query(tiny, "?")
            before = rate_of(client).wait(0)
            waiting = [asyncio.create_task(client.query(tiny, "?")) for _ in range(50)]
            await asyncio.sleep(0.02)
            for task in waiting:
                task.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            assert rate_of(client).wait(0) == before


class FakeClock:
    """Replaces `time` and `anyio` in the rate limiter: sleeping moves the clock."""

    Lock = anyio.Lock

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def rate_of(client: AsyncClient) -> Any:
    return client._api.http.session.rate_limiter.rate  # pyright: ignore[reportPrivateUsage]


async def test_errors_keep_nothing_alive(tiny: EncodedImage) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.answer({"error": "no"}, 400)

    async with serve(refuse) as server, AsyncClient(base_url=server.base_url) as client:
        with pytest.raises(md.BadRequestError) as caught:
            await client.query(tiny, "?")
        error: Any = caught.value.with_traceback(None)
        del caught
        gc.collect()
        assert error.__cause__ is error.__context__ is None
        assert not any(isinstance(v, (httpx.Request, httpx.Response, EncodedImage)) for v in vars(error).values())


@respx.mock
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (200, '{"answer":"a","reasoning":{"text":"t","grounding":5}}'),
        (200, '{"answer":"a","reasoning":{"text":"t","grounding":[{"start_idx":NaN,"end_idx":1}]}}'),
        (200, '{"answer":"a","reasoning":{"text":"t","grounding":[{"start_idx":Infinity,"end_idx":1}]}}'),
        (422, '{"detail":[{"loc":5,"msg":"x"}]}'),
        (422, '{"detail":[5]}'),
    ],
)
async def test_malformed_json_is_a_typed_error(tiny: EncodedImage, status: int, body: str) -> None:
    respx.post(f"{BASE}/query").respond(status, content=body.encode())
    async with AsyncClient(KEY) as client:
        with pytest.raises(md.APIError) as caught:
            await client.query(tiny, "?")
    assert caught.value.status == status


@respx.mock
async def test_no_traceback_and_no_200_body_shows_the_key(tiny: EncodedImage) -> None:
    route = respx.post(f"{BASE}/query").respond(200, json={"error": f"Invalid API key {KEY}", "status": "error"})
    async with AsyncClient(KEY, retry=1) as client:
        for _ in range(2):
            with pytest.raises(md.APIError) as caught:
                await client.query(tiny, "?")
            shown = traceback.TracebackException.from_exception(caught.value, capture_locals=True)
            assert KEY not in "".join(
                line
                for frame in shown.stack
                if "moondream_async" in frame.filename
                for line in (frame.locals or {}).values()
            )
            assert KEY not in repr(vars(caught.value))
            route.respond(200, json={"no answer": KEY})


async def test_hooks_that_read_the_body(tiny: EncodedImage, moondream_sandbox: Any) -> None:
    async def log(response: httpx.Response) -> None:
        await response.aread()

    async with httpx.AsyncClient(event_hooks={"response": [log]}) as own:
        async with AsyncClient(base_url=moondream_sandbox.base_url, http_client=own, timeout=5, retry=1) as client:
            assert await client.models()
            stream = await client.caption(tiny, stream=True)
            assert (await stream.result()).caption


def test_a_proxy_in_several_event_loops(monkeypatch: pytest.MonkeyPatch) -> None:
    async def proxy(exchange: Exchange) -> None:
        await exchange.answer({"data": [{"id": "m"}]})

    client: AsyncClient | None = None

    async def once() -> None:
        nonlocal client
        async with serve(proxy) as server:
            monkeypatch.setenv("http_proxy", server.base_url.removesuffix("/v1"))
            client = client or AsyncClient(base_url="http://moondream.invalid", retry=1)
            assert [m.id for m in await client.models()] == ["m"]
            await client._api.http.session._transport.aclose()  # pyright: ignore[reportPrivateUsage]

    asyncio.run(once())
    asyncio.run(once())


@pytest.mark.parametrize("proxy", ["foo://bar", "http://256.1.1.1:1", "socks5://127.0.0.1:1"])
async def test_unusable_proxies(proxy: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", proxy)
    async with AsyncClient(base_url="http://moondream.invalid", retry=1) as client:
        with pytest.raises(md.MoondreamError):
            await client.models()


@pytest.mark.parametrize("url", ["http://256.1.1.1", "http://☃.x", "http://a..b", "http://" + "a" * 70 + ".x"])
async def test_invalid_hosts(url: str) -> None:
    async with AsyncClient(base_url=url, retry=1) as client:
        with pytest.raises(md.MoondreamError):
            await client.models()


@respx.mock
async def test_a_short_key_is_not_redacted_in_answers(tiny: EncodedImage) -> None:
    respx.post(f"{BASE}/query").respond(json={"answer": "This is a test."})
    async with AsyncClient("test") as client:
        assert (await client.query(tiny, "?")).answer == "This is a test."
