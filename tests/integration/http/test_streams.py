"""Streams on real sockets: split at any byte, with any line ending, interrupted, too large, too slow, closed early."""

from __future__ import annotations

import asyncio
import gc
import json
import random
from typing import Any

import pytest

import moondream_async as md
from moondream_async import AsyncClient, EncodedImage, Timeouts
from moondream_async._http import event_stream
from tests.support.loopback import Exchange, serve, until

TRICKY = 'line\u2028sep \u0085 next 🦉 \ufeff \x00 \\ " é'
PIECES = ["The ", TRICKY, " end."]
TEXT = "".join(PIECES)


def stream_bytes(*, ascii_only: bool = False, end: str = "\n") -> bytes:
    events: list[dict[str, Any]] = [{"chunk": piece, "completed": False} for piece in PIECES]
    events.append({"chunk": "", "completed": True, "caption": TEXT, "request_id": "r", "finish_reason": "stop"})
    lines = [f": comment{end}{end}", f"retry: 10{end}id: 7{end}"]
    lines += [f"data: {json.dumps(event, ensure_ascii=ascii_only)}{end}{end}" for event in events]
    return "".join(lines).encode()


async def read(client: AsyncClient, image: EncodedImage) -> tuple[list[str], md.CaptionResult]:
    async with await client.caption(image, stream=True) as stream:
        pieces = [piece async for piece in stream]
        return pieces, await stream.result()


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("ascii_only", [True, False])
async def test_a_read_split_at_any_byte_gives_the_same_events(tiny: EncodedImage, end: str, ascii_only: bool) -> None:
    data = stream_bytes(ascii_only=ascii_only, end=end)

    async def split(exchange: Exchange) -> None:
        at = exchange.number % len(data)
        await exchange.start_stream()
        for part in (data[:at], data[at:]):
            if part:
                await exchange.chunk(part)
            await asyncio.sleep(0)
        await exchange.end_stream()

    async with serve(split) as server, AsyncClient(base_url=server.base_url, retry=1) as client:
        for _ in range(len(data)):
            pieces, result = await read(client, tiny)
            assert pieces == PIECES
            assert result.caption == TEXT
        assert server.connections == 1


async def test_byte_by_byte(tiny: EncodedImage) -> None:
    async def drip(exchange: Exchange) -> None:
        await exchange.start_stream()
        for byte in stream_bytes():
            await exchange.chunk(bytes([byte]))
        await exchange.end_stream()

    async with serve(drip) as server, AsyncClient(base_url=server.base_url) as client:
        assert (await read(client, tiny))[0] == PIECES


@pytest.mark.parametrize("tail", ["", "\n"])
async def test_a_last_event_without_its_blank_line_is_read(tiny: EncodedImage, tail: str) -> None:
    async def stop_short(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.chunk(stream_bytes().rstrip(b"\n") + tail.encode())
        await exchange.end_stream()

    async with serve(stop_short) as server, AsyncClient(base_url=server.base_url, retry=1) as client:
        assert (await read(client, tiny))[1].caption == TEXT


async def test_an_event_of_megabytes(tiny: EncodedImage) -> None:
    text = "word 🦉 " * 500_000

    async def large(exchange: Exchange) -> None:
        data = f"data: {json.dumps({'caption': text})}\n\n".encode()
        await exchange.start_stream()
        for start in range(0, len(data), 1000):
            await exchange.chunk(data[start : start + 1000])
        await exchange.end_stream()

    async with serve(large) as server, AsyncClient(base_url=server.base_url, retry=1) as client:
        assert (await read(client, tiny))[1].caption == text


@pytest.mark.parametrize("after", [0, 2])
async def test_an_endless_event_exceeds_the_limit(
    tiny: EncodedImage, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_stream, "MAX_EVENT", 200_000)

    async def endless(exchange: Exchange) -> None:
        await exchange.start_stream()
        for _ in range(after):
            await exchange.event({"chunk": "a"})
        await exchange.chunk(b'data: {"chunk": "')
        while True:
            await exchange.chunk(b"x" * 10_000)

    async with serve(endless) as server, AsyncClient(base_url=server.base_url) as client:
        with pytest.raises(md.MoondreamError, match="200,000 bytes") as caught:
            await read(client, tiny)
        assert server.requests == 1
        if after:
            assert isinstance(caught.value, md.StreamInterruptedError)
            assert caught.value.partial == "aa"
        await until(lambda: server.open == 0)


async def test_many_small_events_do_not_exceed_the_limit(tiny: EncodedImage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "MAX_EVENT", 5_000)

    async def many(exchange: Exchange) -> None:
        await exchange.start_stream()
        for _ in range(300):
            await exchange.event({"chunk": "x" * 100})
        await exchange.event({"completed": True})
        await exchange.end_stream()

    async with serve(many) as server, AsyncClient(base_url=server.base_url, retry=1) as client:
        assert len((await read(client, tiny))[1].caption) == 30_000


@pytest.mark.parametrize("how", ["cut", "end"])
async def test_a_stream_without_its_final_event_is_interrupted(tiny: EncodedImage, how: str) -> None:
    async def stop(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.event({"chunk": "half "})
        await exchange.event({"chunk": "an answer"})
        await asyncio.sleep(0.01)
        if how == "cut":
            exchange.cut()
        else:
            await exchange.end_stream()

    async with serve(stop) as server, AsyncClient(base_url=server.base_url) as client:
        stream = await client.query(tiny, "?", stream=True)
        pieces: list[str] = []
        with pytest.raises(md.StreamInterruptedError) as caught:
            async for piece in stream:
                pieces.append(piece)
        assert pieces == ["half ", "an answer"]
        assert caught.value.partial == stream.text == "half an answer"
        assert caught.value.attempts == server.requests == 1
        with pytest.raises(md.StreamInterruptedError):
            await stream.result()
        with pytest.raises(md.StreamInterruptedError):
            await anext(stream)


async def test_an_interrupted_segment_keeps_its_coarse_path(tiny: EncodedImage) -> None:
    async def stop(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.event({"type": "bbox", "bbox": {"x_min": 0, "y_min": 0, "x_max": 1, "y_max": 1}})
        await exchange.event({"type": "path_delta", "chunk": "M 0 0"})
        await exchange.end_stream()

    async with serve(stop) as server, AsyncClient(base_url=server.base_url) as client:
        stream = await client.segment(tiny, "cat", stream=True)
        with pytest.raises(md.StreamInterruptedError) as caught:
            await stream.result()
        assert caught.value.partial.path == "M 0 0"
        assert caught.value.partial.bbox == md.BoundingBox(0, 0, 1, 1)


@pytest.mark.parametrize(
    "failure", ["cut-before-headers", "cut-before-event", "end-before-event", "503", "error-event"]
)
async def test_a_stream_is_retried_before_its_first_event(tiny: EncodedImage, failure: str) -> None:
    async def fail_once(exchange: Exchange) -> None:
        if exchange.number > 1:
            await exchange.start_stream()
            await exchange.chunk(stream_bytes())
            await exchange.end_stream()
        elif failure == "503":
            await exchange.answer({"error": "Engine is not ready"}, 503)
        elif failure == "cut-before-headers":
            exchange.cut()
        else:
            await exchange.start_stream()
            if failure == "error-event":
                await exchange.event({"error": "Inference failed"})
            if failure == "cut-before-event":
                exchange.cut()
            else:
                await exchange.end_stream()

    async with (
        serve(fail_once) as server,
        AsyncClient(base_url=server.base_url, retry=md.RetryPolicy(backoff=0)) as client,
    ):
        pieces, result = await read(client, tiny)
        assert pieces == PIECES
        assert result.meta.attempts == server.requests == 2


async def test_an_error_event_in_the_middle(tiny: EncodedImage) -> None:
    async def fail(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.event({"chunk": "a"})
        await exchange.event({"error": "out of memory"})
        await asyncio.sleep(1)

    async with serve(fail) as server, AsyncClient(base_url=server.base_url) as client:
        with pytest.raises(md.StreamInterruptedError, match="out of memory") as caught:
            await read(client, tiny)
        assert caught.value.partial == "a"
        assert isinstance(caught.value.__cause__, md.ServerError)
        assert server.requests == 1


async def test_a_malformed_event(tiny: EncodedImage) -> None:
    async def fail(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.event({"chunk": "a"})
        await exchange.chunk(b'data: {"chunk": \n\n')
        await exchange.end_stream()

    async with serve(fail) as server, AsyncClient(base_url=server.base_url) as client:
        with pytest.raises(md.StreamInterruptedError, match="not JSON") as caught:
            await read(client, tiny)
        assert caught.value.partial == "a"


@pytest.mark.parametrize(
    ("status", "headers", "body", "kind"),
    [
        (200, "", {"error": "Queue is full", "status": "rejected"}, md.RateLimitError),
        (200, "", {"error": "image_url is required"}, md.BadRequestError),
        (401, "", {"error": {"message": "Invalid API key"}}, md.AuthenticationError),
        (400, "", {"error": "Streaming is not supported when reasoning is enabled"}, md.BadRequestError),
        (200, "Content-Type: text/html\r\n", b"<html>", md.APIError),
        (429, "Content-Type: text/event-stream\r\n", b"slow down", md.RateLimitError),
    ],
)
async def test_an_error_where_a_stream_was_expected(
    tiny: EncodedImage, status: int, headers: str, body: Any, kind: type[md.APIError]
) -> None:
    async def refuse(exchange: Exchange) -> None:
        await exchange.answer(body, status, headers)

    async with serve(refuse) as server, AsyncClient(base_url=server.base_url, retry=1) as client:
        with pytest.raises(kind):
            await client.query(tiny, "?", stream=True)


async def test_a_complete_response_where_a_stream_was_expected(tiny: EncodedImage) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.answer({"caption": TEXT, "finish_reason": "stop"})

    async with serve(answer) as server, AsyncClient(base_url=server.base_url, max_connections=1) as client:
        for _ in range(3):
            pieces, result = await read(client, tiny)
            assert pieces == [TEXT]
            assert result.finish_reason == "stop"


async def endless_pieces(exchange: Exchange) -> None:
    await exchange.start_stream()
    while True:
        await exchange.event({"chunk": "x"})
        await asyncio.sleep(0.001)


async def test_closing_early_closes_the_connection_and_releases_the_slot(tiny: EncodedImage) -> None:
    async with serve(endless_pieces) as server, AsyncClient(base_url=server.base_url, max_connections=1) as client:
        for _ in range(5):
            async with await client.query(tiny, "?", stream=True) as stream:
                async for _ in stream:
                    break
            await stream.aclose()
            with pytest.raises(md.StreamInterruptedError, match="closed before its end") as caught:
                await stream.result()
            assert caught.value.partial.startswith("x")
        await until(lambda: server.open == 0)


async def test_the_connection_of_a_finished_stream_is_reused(tiny: EncodedImage) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.chunk(stream_bytes())
        await asyncio.sleep(0.01)
        await exchange.end_stream()

    async with serve(answer) as server, AsyncClient(base_url=server.base_url, max_connections=1) as client:
        for _ in range(5):
            async for _ in await client.caption(tiny, stream=True):
                pass
            await (await client.caption(tiny, stream=True)).result()
        assert (server.requests, server.connections) == (10, 1)


async def test_a_body_that_never_ends_does_not_block(tiny: EncodedImage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "_DRAIN_TIMEOUT", 0.02)

    async def linger(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.chunk(stream_bytes())
        await exchange.reader.read()

    async with serve(linger) as server, AsyncClient(base_url=server.base_url) as client:
        assert (await read(client, tiny))[0] == PIECES
        await until(lambda: server.open == 0)


async def test_a_dropped_stream_warns_and_releases_its_slot(tiny: EncodedImage) -> None:
    async with serve(endless_pieces) as server, AsyncClient(base_url=server.base_url, max_connections=1) as client:
        stream = await client.query(tiny, "?", stream=True)
        await anext(stream)
        with pytest.warns(ResourceWarning, match="dropped before its end"):
            del stream
            gc.collect()
        await until(lambda: server.open == 0)
        async with await client.query(tiny, "?", stream=True) as again:
            assert await anext(again) == "x"


async def test_idle_and_total_timeouts(tiny: EncodedImage) -> None:
    async def stall(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.event({"chunk": "a"})
        await asyncio.sleep(60)

    async with serve(stall) as server:
        for timeouts in (Timeouts(idle=0.05), Timeouts(total=0.1)):
            async with AsyncClient(base_url=server.base_url, timeout=timeouts) as client:
                stream = await client.query(tiny, "?", stream=True)
                with pytest.raises(md.APITimeoutError):
                    await stream.result()
                assert stream.text == "a"
    async with serve(endless_pieces) as server:
        async with AsyncClient(base_url=server.base_url, timeout=Timeouts(idle=5, total=0.1)) as client:
            stream = await client.query(tiny, "?", stream=True)
            with pytest.raises(md.APITimeoutError, match="total"):
                await stream.result()
            assert set(stream.text) == {"x"}


async def test_random_cancellations_of_streams_leak_no_slot(tiny: EncodedImage) -> None:
    rng = random.Random(3)

    async def pieces(exchange: Exchange) -> None:
        await exchange.start_stream()
        for _ in range(5):
            await exchange.event({"chunk": "x"})
            await asyncio.sleep(rng.random() * 0.002)
        await exchange.event({"completed": True})
        await exchange.end_stream()

    async def consume(client: AsyncClient) -> None:
        async with await client.query(tiny, "?", stream=True) as stream:
            async for _ in stream:
                pass

    async with serve(pieces) as server, AsyncClient(base_url=server.base_url, max_connections=8, retry=1) as client:
        for _ in range(20):
            tasks = [asyncio.create_task(consume(client)) for _ in range(30)]
            for task in tasks:
                asyncio.get_running_loop().call_later(rng.random() * 0.02, task.cancel)
            await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.gather(*(consume(client) for _ in range(8)))
        limiter = client._api.http.session._limiters.get()  # pyright: ignore[reportPrivateUsage]
        assert limiter.borrowed_tokens == 0
        await until(lambda: server.open <= 8)


async def test_a_stream_can_be_indexed_like_the_official_clients_dict(tiny: EncodedImage) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.chunk(stream_bytes())
        await exchange.end_stream()

    async with serve(answer) as server, AsyncClient(base_url=server.base_url) as client:
        stream = await client.caption(tiny, stream=True)
        assert stream["answer"] is stream["caption"] is stream["chunk"] is stream.answer is stream.caption is stream
        assert "answer" in stream
        assert "text" not in stream
        with pytest.raises(KeyError):
            stream["text"]
        assert "".join([piece async for piece in stream["caption"]]) == TEXT


async def test_closing_from_another_task_ends_the_readers_wait(tiny: EncodedImage) -> None:
    async def stall(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.event({"chunk": "a"})
        await exchange.reader.read()

    async with serve(stall) as server, AsyncClient(base_url=server.base_url) as client:
        stream = await client.query(tiny, "?", stream=True)

        async def read() -> None:
            async for _ in stream:
                pass

        reader = asyncio.create_task(read())
        await until(lambda: stream.text == "a")
        await asyncio.sleep(0.01)
        second = asyncio.create_task(read())
        with pytest.raises(md.ConfigurationError, match="Two tasks"):
            await second
        await stream.aclose()
        with pytest.raises(md.MoondreamError):
            await reader
        limiter = client._api.http.session._limiters.get()  # pyright: ignore[reportPrivateUsage]
        assert limiter.borrowed_tokens == 0


async def test_a_null_in_the_final_event_keeps_the_text(tiny: EncodedImage) -> None:
    async def answer(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.event({"chunk": TEXT})
        await exchange.event({"completed": True, "caption": None})
        await exchange.end_stream()

    async with serve(answer) as server, AsyncClient(base_url=server.base_url) as client:
        assert (await read(client, tiny))[1].caption == TEXT


async def test_a_malformed_first_event_closes_the_connection(tiny: EncodedImage) -> None:
    async def fail(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.chunk(b"data: {\n\n")
        await exchange.reader.read()

    async with serve(fail) as server, AsyncClient(base_url=server.base_url) as client:
        gc.disable()  # so that only the client can close it
        try:
            with pytest.raises(md.APIError, match="not JSON"):
                await client.query(tiny, "?", stream=True)
            await until(lambda: server.open == 0)
        finally:
            gc.enable()
