"""Streams as server-sent events: what frameworks send, and what happens when the browser has gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import anyio
import httpx
import pytest
import trio
from fastapi import FastAPI, Request, UploadFile
from fastapi.responses import JSONResponse, StreamingResponse
from httpx_sse import EventSource, ServerSentEvent

from moondream_async import AsyncClient, Client, ConfigurationError, MoondreamError
from moondream_async.sandbox import Sandbox
from moondream_async.web import SSE_HEADERS, error_body, http_status, sse
from tests.support import loopback
from tests.support.loopback import until
from tests.support.sandboxes import PooledSandbox
from tests.support.servers import running


def parse(data: bytes) -> list[ServerSentEvent]:
    response = httpx.Response(200, headers=dict(SSE_HEADERS), content=data)
    return list(EventSource(response).iter_sse())


async def collect(events: AsyncIterator[bytes]) -> list[ServerSentEvent]:
    return parse(b"".join([event async for event in events]))


async def test_text(scene: bytes):
    with PooledSandbox() as sandbox:
        async with AsyncClient(base_url=sandbox.base_url) as client:
            whole = await client.caption(scene)
            *pieces, last = [event.json() for event in await collect(sse(await client.caption(scene, stream=True)))]
    assert "".join(piece["chunk"] for piece in pieces) == whole.caption
    assert all(piece["completed"] is False for piece in pieces)
    assert len(pieces) > 2
    assert (last["completed"], last["chunk"], last["caption"]) == (True, "", whole.caption)
    assert last["metrics"]["output_tokens"] > 0
    assert last["finish_reason"] == "stop"
    assert "org_id" not in last


async def test_segment(scene: bytes):
    with PooledSandbox() as sandbox:
        async with AsyncClient(base_url=sandbox.base_url) as client:
            whole = await client.segment(scene, "red")
            events = [event.json() for event in await collect(sse(await client.segment(scene, "red", stream=True)))]
    assert [events[0]["type"], events[1]["type"], events[-1]["type"]] == ["bbox", "path_delta", "final"]
    assert events[-1]["path"] == whole.path
    assert set(events[-1]["bbox"]) == {"x_min", "y_min", "x_max", "y_max"}
    assert [event["completed"] for event in events] == [False] * (len(events) - 1) + [True]


async def test_chat(scene: bytes):
    with PooledSandbox() as sandbox:
        async with AsyncClient(base_url=sandbox.base_url) as client:
            stream = await client.chat([{"role": "user", "content": "What is this?"}], stream=True)
            *pieces, last = [event.json() for event in await collect(sse(stream))]
    assert "".join(piece.get("content", "") for piece in pieces) == last["content"]
    assert last["completed"] is True


async def test_our_own_client_reads_it(scene: bytes):
    """The events are those of Moondream's API, so a backend can stand before another."""

    async def answer(exchange: loopback.Exchange) -> None:
        await exchange.start_stream()
        async for event in sse(await inner.query(scene, "How many?", stream=True)):
            await exchange.chunk(event)
        await exchange.end_stream()

    with PooledSandbox() as sandbox:
        async with AsyncClient(base_url=sandbox.base_url) as inner, loopback.serve(answer) as server:
            async with AsyncClient(base_url=server.base_url) as outer:
                stream = await outer.query(scene, "How many?", stream=True)
                assert (await stream.result()).answer == (await inner.query(scene, "How many?")).answer


def test_sync(scene: bytes):
    with PooledSandbox() as sandbox, Client(base_url=sandbox.base_url) as client:
        events = parse(b"".join(sse(client.caption(scene, stream=True))))
        assert events[-1].json()["caption"] == client.caption(scene).caption
        stream = client.caption(scene, stream=True)
        body = sse(stream)
        next(body)
        body.close()
        with pytest.raises(MoondreamError, match="closed"):
            stream.result()


def test_trio(scene: bytes):
    async def main() -> None:
        async with AsyncClient(base_url=sandbox.base_url) as client:
            body = sse(await client.caption(scene, stream=True), heartbeat=0.05)
            data = b"".join([event async for event in body])
        assert parse(data)[-1].json()["completed"] is True
        assert b": \n\n" in data

    with PooledSandbox(drip=0.02) as sandbox:
        trio.run(main)


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        ({"cut": 2}, "stream_interrupted_error"),
        ({"malformed": 2}, "stream_interrupted_error"),
        ({"error_event": 2}, "stream_interrupted_error"),
    ],
)
async def test_error_after_the_first_piece(scene: bytes, fault: dict[str, Any], kind: str):
    with PooledSandbox(**fault) as sandbox:
        async with AsyncClient(base_url=sandbox.base_url) as client:
            *_, last = await collect(sse(await client.caption(scene, stream=True)))
    assert last.event == "error"
    assert last.json()["error"]["type"] == kind
    assert last.json()["status"] == 502
    assert "127.0.0.1" not in last.data


async def test_heartbeat():
    """A pause sends comments, and loses no event."""
    go_on = asyncio.Event()

    async def answer(exchange: loopback.Exchange) -> None:
        await exchange.start_stream()
        await exchange.event({"chunk": "a"})
        await go_on.wait()
        await exchange.event({"chunk": "b", "completed": True})
        await exchange.end_stream()

    async with loopback.serve(answer) as server, AsyncClient(base_url=server.base_url) as client:
        body = sse(await client.query(question="x", stream=True), heartbeat=0.01)
        assert json.loads((await anext(body))[6:])["chunk"] == "a"
        assert [await anext(body) for _ in range(3)] == [b": \n\n"] * 3
        go_on.set()
        rest = [event async for event in body]
        assert parse(b"".join(rest))[-1].json()["answer"] == "ab"


async def test_no_heartbeat():
    async def answer(exchange: loopback.Exchange) -> None:
        await exchange.start_stream()
        await exchange.event({"chunk": "a"})
        await asyncio.sleep(0.05)
        await exchange.event({"completed": True})
        await exchange.end_stream()

    async with loopback.serve(answer) as server, AsyncClient(base_url=server.base_url) as client:
        body = sse(await client.query(question="x", stream=True), heartbeat=None)
        assert b": \n\n" not in [event async for event in body]


async def test_misuse(scene: bytes):
    with PooledSandbox() as sandbox:
        async with AsyncClient(base_url=sandbox.base_url) as client:
            with pytest.raises(ConfigurationError, match=r"await client\.caption"):
                sse(client.caption(scene, stream=True))  # type: ignore[call-overload]  # pyright: ignore
            with pytest.raises(ConfigurationError, match="not CaptionResult"):
                sse(await client.caption(scene))  # type: ignore[call-overload]  # pyright: ignore
            for heartbeat in (0, -1, float("nan"), "5"):
                async with await client.caption(scene, stream=True) as stream:
                    with pytest.raises(ConfigurationError, match="heartbeat"):
                        sse(stream, heartbeat=heartbeat)


def build(client: AsyncClient) -> FastAPI:
    app = FastAPI()

    @app.post("/caption")
    async def caption(image: UploadFile) -> StreamingResponse:
        return StreamingResponse(sse(await client.caption(image, stream=True)), headers=SSE_HEADERS)

    @app.exception_handler(MoondreamError)
    async def failed(_: Request, exc: MoondreamError) -> JSONResponse:
        return JSONResponse(error_body(exc), http_status(exc))

    return app


async def test_fastapi(scene: bytes):
    with PooledSandbox() as sandbox:
        async with AsyncClient(base_url=sandbox.base_url) as client:
            async with running(build(client)) as url, httpx.AsyncClient(base_url=url) as browser:
                response = await browser.post("/caption", files={"image": ("a.png", scene)})
                assert response.headers["content-type"] == "text/event-stream; charset=utf-8"
                assert response.headers["x-accel-buffering"] == "no"
                assert parse(response.content)[-1].json()["completed"] is True


@pytest.mark.parametrize(
    ("fault", "status"),
    [({"status": 503, "times": 0}, 503), ({"status": 401, "times": 0}, 500), ({"status": 413, "times": 0}, 413)],
)
async def test_errors_before_the_first_piece_have_their_status(scene: bytes, fault: dict[str, Any], status: int):
    with PooledSandbox(**fault) as sandbox:
        async with AsyncClient("a-key", base_url=sandbox.base_url, retry=1) as client:
            async with running(build(client)) as url, httpx.AsyncClient(base_url=url) as browser:
                response = await browser.post("/caption", files={"image": ("a.png", scene)})
                assert response.status_code == status
                assert response.json()["error"]["message"]
                not_an_image = await browser.post("/caption", files={"image": ("a.txt", b"hello")})
                assert (not_an_image.status_code, not_an_image.json()["error"]["type"]) == (422, "image_error")


async def test_browser_that_goes_away_stops_the_work():
    """The connection to the model's server is closed, not read to its end."""
    closed = asyncio.Event()

    async def answer(exchange: loopback.Exchange) -> None:
        await exchange.start_stream()
        await exchange.event({"chunk": "a"})
        await exchange.reader.read()  # until the connection closes
        closed.set()

    async with loopback.serve(answer) as server, AsyncClient(base_url=server.base_url) as client:
        app = FastAPI()

        @app.get("/")
        async def root() -> StreamingResponse:
            return StreamingResponse(sse(await client.query(question="x", stream=True)), headers=SSE_HEADERS)

        async with running(app) as url:
            async with httpx.AsyncClient() as browser, browser.stream("GET", url) as response:
                async for line in response.aiter_lines():
                    assert line.startswith("data:")
                    break
            with anyio.fail_after(5):
                await closed.wait()
            await until(lambda: client.stats.in_flight == 0)


async def test_closed_before_its_first_event(scene: bytes):
    with PooledSandbox() as sandbox:
        async with AsyncClient(base_url=sandbox.base_url) as client:
            stream = await client.caption(scene, stream=True)
            await sse(stream).aclose()
            assert client.stats.in_flight == 0
            with pytest.raises(MoondreamError, match="closed"):
                await stream.result()


async def test_cancelled_reader_whose_iterator_is_kept():
    """As middleware does that waits for the next event to be sent."""
    closed = asyncio.Event()

    async def answer(exchange: loopback.Exchange) -> None:
        await exchange.start_stream()
        await exchange.event({"chunk": "a"})
        await exchange.reader.read()
        closed.set()

    async with loopback.serve(answer) as server, AsyncClient(base_url=server.base_url) as client:
        body = sse(await client.query(question="x", stream=True))
        begun = asyncio.Event()

        async def send() -> None:
            async for _ in body:
                begun.set()
                await asyncio.sleep(60)  # the browser does not read

        task = asyncio.create_task(send())
        await begun.wait()
        task.cancel()
        await asyncio.wait_for(closed.wait(), 5)
        await body.aclose()


async def test_dropped_generator_closes_the_stream(scene: bytes):
    """Some servers just stop reading when the browser has gone."""
    with Sandbox(drip=0.05) as sandbox:
        async with AsyncClient(base_url=sandbox.base_url) as client:
            body = sse(await client.caption(scene, stream=True))
            await anext(body)
            assert client.stats.in_flight == 1
            del body
            await until(lambda: client.stats.in_flight == 0)
