"""Hooks, the log and the counters."""

from __future__ import annotations

import asyncio
import logging
import re
from typing import Any

import pytest
import respx

import moondream_async as md
from moondream_async import AsyncClient, Client, ConfigurationError, EncodedImage, Hooks, RetryPolicy, Stats
from tests.support.loopback import Exchange, serve, until

BASE = "https://api.moondream.ai/v1"
ANSWER = {
    "answer": "yes",
    "request_id": "r",
    "finish_reason": "stop",
    "metrics": {"input_tokens": 700, "output_tokens": 5},
}
FAST = RetryPolicy(backoff=0)


class Recorder:
    """Hooks that record their calls."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.hooks = Hooks(**{name: self.record_as(name) for name in ("request", "response", "retry", "event", "end")})

    def record_as(self, name: str) -> Any:
        return lambda info: self.calls.append((name, info))

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.calls]

    def last(self, name: str) -> Any:
        return next(info for called, info in reversed(self.calls) if called == name)


@respx.mock
async def test_a_call_with_a_retry(tiny: EncodedImage) -> None:
    import httpx

    respx.post(f"{BASE}/query").mock(side_effect=[httpx.Response(503), httpx.Response(200, json=ANSWER)])
    recorder = Recorder()
    async with AsyncClient("k", model="m", retry=FAST, hooks=recorder.hooks) as client:
        await client.query(tiny, "?")
        assert recorder.names == ["request", "response", "retry", "request", "response", "end"]
        assert len({id(info.call) for _, info in recorder.calls}) == 1
        call = recorder.calls[0][1].call
        assert (call.operation, call.model, call.stream, call.base_url) == ("query", "m", False, BASE)
        first, failed, retry = (info for _, info in recorder.calls[:3])
        assert (first.attempt, failed.status, retry.attempt) == (1, 503, 1)
        assert first.nbytes > len(tiny.uri)
        assert isinstance(failed.error, md.ServerError)
        assert isinstance(retry.error, md.ServerError)
        last = recorder.last("response")
        assert (last.attempt, last.status, last.error) == (2, 200, None)
        end = recorder.last("end")
        assert (end.attempts, end.error, end.request_id, end.finish_reason) == (2, None, "r", "stop")
        assert end.metrics.input_tokens == 700
        assert end.elapsed >= last.elapsed >= 0
        assert client.stats == Stats(
            calls=1, requests=2, retries=1, bytes_sent=2 * first.nbytes, input_tokens=700, output_tokens=5
        )


@respx.mock
async def test_hooks_can_add_headers_but_not_replace_them(tiny: EncodedImage) -> None:
    route = respx.post(f"{BASE}/query").respond(json=ANSWER)

    def add(info: md.RequestInfo) -> None:
        info.headers["X-Trace"] = f"attempt-{info.attempt}"
        info.headers["X-Moondream-Auth"] = "another key"

    async with AsyncClient("the-key", hooks=Hooks(request=add)) as client:
        await client.query(tiny, "?")
        assert route.calls.last.request.headers["x-trace"] == "attempt-1"
        assert route.calls.last.request.headers["x-moondream-auth"] == "the-key"


@respx.mock
async def test_multiple_hooks_with_async_and_failing_ones(tiny: EncodedImage, caplog: pytest.LogCaptureFixture) -> None:
    respx.post(f"{BASE}/query").respond(json=ANSWER)
    calls: list[str] = []

    async def asynchronous(info: md.RequestInfo) -> None:
        await asyncio.sleep(0)
        calls.append(info.call.operation)

    def broken(info: object) -> None:
        raise KeyError("a bug in a hook")

    hooks = [Hooks(request=broken, end=broken), Hooks(request=asynchronous, end=lambda info: calls.append("end"))]
    async with AsyncClient("k", hooks=hooks) as client:
        assert (await client.query(tiny, "?")).answer == "yes"
    assert calls == ["query", "end"]
    assert [record.getMessage() for record in caplog.records] == ["A hook failed; the call continues."] * 2


async def test_a_stream(tiny: EncodedImage) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.event({"chunk": "ye", "completed": False})
        await exchange.event({"chunk": "s", "completed": True, **ANSWER})
        await exchange.end_stream()

    recorder = Recorder()
    async with serve(handler) as server, AsyncClient(base_url=server.base_url, hooks=recorder.hooks) as client:
        async with await client.query(tiny, "?", stream=True) as stream:
            assert client.stats.in_flight == 1
            assert [piece async for piece in stream] == ["ye", "s"]
        assert recorder.names == ["request", "response", "event", "event", "end"]
        assert [info.index for name, info in recorder.calls if name == "event"] == [0, 1]
        assert recorder.last("event").data["request_id"] == "r"
        end = recorder.last("end")
        assert (end.error, end.request_id, end.metrics.output_tokens) == (None, "r", 5)
        assert client.stats.input_tokens == 700
        assert client.stats.in_flight == 0
        await stream.result()
        assert client.stats.input_tokens == 700


@pytest.mark.parametrize("how", ["cut", "closed", "error"])
async def test_streams_that_end_early(tiny: EncodedImage, how: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.event({"chunk": "ye", "completed": False})
        if how == "error":
            await exchange.event({"error": "Inference failed"})
        if how == "closed":
            await exchange.reader.read()
        exchange.cut()

    recorder = Recorder()
    async with serve(handler) as server, AsyncClient(base_url=server.base_url, hooks=recorder.hooks) as client:
        stream = await client.query(tiny, "?", stream=True)
        if how == "closed":
            await anext(stream)
            await stream.aclose()
            assert recorder.last("end").error is None
        else:
            with pytest.raises(md.StreamInterruptedError):
                await stream.result()
            assert isinstance(recorder.last("end").error, md.StreamInterruptedError)
        assert recorder.names.count("end") == 1
        assert client.stats.in_flight == 0


async def test_a_stream_cancelled_in_a_hook_is_closed(tiny: EncodedImage) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.event({"chunk": "ye", "completed": False})
        await exchange.reader.read()

    async def endless(info: object) -> None:
        await asyncio.sleep(60)

    async with serve(handler) as server:
        async with AsyncClient(base_url=server.base_url, hooks=Hooks(response=endless)) as client:
            task = asyncio.create_task(client.query(tiny, "?", stream=True))
            await until(lambda: server.requests == 1)
            await asyncio.sleep(0.05)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert client.stats.in_flight == 0
            await until(lambda: server.open == 0)


@respx.mock
async def test_failing_calls(tiny: EncodedImage) -> None:
    respx.post(f"{BASE}/query").respond(401, json={"error": "no"})
    recorder = Recorder()
    async with AsyncClient("k", hooks=recorder.hooks) as client:
        with pytest.raises(md.AuthenticationError):
            await client.query(tiny, "?")
        end = recorder.last("end")
        assert (type(end.error), end.attempts) == (md.AuthenticationError, 1)
        with pytest.raises(md.ImageError):
            await client.query(b"no image", "?")
        assert isinstance(recorder.last("end").error, md.ImageError)
        assert recorder.last("end").attempts == 0
        assert client.stats.in_flight == client.stats.waiting == 0


async def test_cancelled_and_waiting_calls(tiny: EncodedImage) -> None:
    hold = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        await hold.wait()
        await exchange.answer(ANSWER)

    recorder = Recorder()
    async with serve(handler) as server:
        async with AsyncClient(base_url=server.base_url, max_connections=2, hooks=recorder.hooks) as client:
            tasks = [asyncio.create_task(client.query(tiny, "?")) for _ in range(5)]
            await until(lambda: server.requests == 2)
            assert (client.stats.in_flight, client.stats.waiting, client.stats.calls) == (2, 3, 5)
            tasks[0].cancel()
            tasks[4].cancel()
            await until(lambda: recorder.names.count("end") == 2)
            assert all(isinstance(info.error, asyncio.CancelledError) for name, info in recorder.calls if name == "end")
            hold.set()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert (client.stats.in_flight, client.stats.waiting) == (0, 0)
            assert recorder.names.count("end") == 5


async def test_429s_are_counted(tiny: EncodedImage) -> None:
    async def handler(exchange: Exchange) -> None:
        if exchange.number < 3:
            await exchange.answer({"error": "slow down"}, status=429, headers="Retry-After: 0\r\n")
        else:
            await exchange.answer(ANSWER)

    async with serve(handler) as server, AsyncClient(base_url=server.base_url, retry=FAST) as client:
        await client.query(tiny, "?")
        assert (client.stats.rate_limited, client.stats.retries, client.stats.requests) == (2, 2, 3)


@respx.mock
def test_the_sync_client(tiny: EncodedImage) -> None:
    respx.post(f"{BASE}/query").respond(json=ANSWER)
    recorder = Recorder()
    with Client("k", hooks=recorder.hooks) as client:
        assert client.stats == Stats()
        client.query(tiny, "?")
        assert recorder.names == ["request", "response", "end"]
        assert client.stats.requests == 1
        other = Recorder()
        client.with_options(hooks=other.hooks).query(tiny, "?")
        assert len(recorder.calls) == 3
        assert len(other.calls) == 3
        assert client.stats.requests == 2


@respx.mock
async def test_the_log_contains_no_secrets(tiny: EncodedImage, caplog: pytest.LogCaptureFixture) -> None:
    import httpx

    respx.post(f"{BASE}/query").mock(side_effect=[httpx.Response(503), httpx.Response(200, json=ANSWER)])
    caplog.set_level(logging.DEBUG, logger="moondream_async")
    async with AsyncClient("the-secret-key", retry=FAST) as client:
        await client.query(tiny, "my private question")
    text = caplog.text
    assert "query, request 1" in text
    assert "status 503" in text
    assert "query: waiting 0.0 s before attempt 2 of 4: The server answered with status 503" in text
    for secret in ("the-secret-key", "private", "yes", "image_url", "base64"):
        assert secret not in text


@respx.mock
async def test_the_log_gives_the_reason_of_a_wait(tiny: EncodedImage, caplog: pytest.LogCaptureFixture) -> None:
    import httpx

    busy = httpx.Response(503, json={"error": "Busy;\nthe-secret-key may wait. " + "x" * 1_000})
    respx.post(f"{BASE}/query").mock(side_effect=[busy, httpx.Response(200, json=ANSWER)])
    caplog.set_level(logging.INFO, logger="moondream_async")
    async with AsyncClient("the-secret-key", retry=FAST) as client:
        await client.query(tiny, "my private question")
    (message,) = caplog.messages
    assert re.match(r"call \d+, query: waiting 0\.0 s before attempt 2 of 4: Busy;\\n\*\*\* may wait\. x", message)
    assert len(message) < 400


@respx.mock
async def test_no_observer_without_hooks_and_log(tiny: EncodedImage, monkeypatch: pytest.MonkeyPatch) -> None:
    from moondream_async._http import observer  # the package imports it on first use

    respx.post(f"{BASE}/query").respond(json=ANSWER)
    monkeypatch.setattr(observer, "CallObserver", None)  # creating one would fail
    logging.getLogger("moondream_async").setLevel(logging.WARNING)
    try:
        async with AsyncClient("k") as client:
            assert (await client.query(tiny, "?")).answer == "yes"
    finally:
        logging.getLogger("moondream_async").setLevel(logging.NOTSET)


@pytest.mark.parametrize("hooks", [print, [print], "x", {"request": print}, 3])
def test_bad_hooks(hooks: Any) -> None:
    with pytest.raises(ConfigurationError, match="hooks must be"):
        AsyncClient("k", hooks=hooks)


def test_a_hook_must_be_a_function() -> None:
    with pytest.raises(ConfigurationError, match="'retry' must be a function"):
        Hooks(retry=3)  # type: ignore[arg-type]
