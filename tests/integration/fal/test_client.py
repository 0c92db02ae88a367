"""fal.ai's skills and queue: the same results, no request lost or billed twice, the key sent to fal only."""

from __future__ import annotations

import asyncio
import inspect
import pickle
import traceback
from contextlib import aclosing
from pathlib import Path
from typing import Any

import attrs
import pytest
from PIL import Image

import moondream_async as md
from moondream_async import (
    APIConnectionError,
    APITimeoutError,
    AsyncClient,
    AuthenticationError,
    ConfigurationError,
    ImageError,
    NotFoundError,
    RateLimitError,
    RetryPolicy,
    ServerError,
    UnprocessableEntityError,
)
from moondream_async.fal import AsyncFalClient, AsyncRequestHandle, Completed, FalClient, InProgress, Queued, Status
from moondream_async.sandbox import Sandbox
from tests.support.fal import KEY
from tests.support.loopback import Exchange, serve, until
from tests.support.sandboxes import PooledSandbox

ECHO = "sandbox/echo"
QUICK = RetryPolicy(attempts=4, backoff=0.01)


def client_with_fault(sandbox: Sandbox, fault: str, **options: Any) -> AsyncFalClient:
    return AsyncFalClient(KEY, base_url=sandbox.fal_url, headers={"X-Sandbox-Fault": fault}, retry=QUICK, **options)


async def test_skills_have_the_same_results_as_moondream_cloud(
    fal: AsyncFalClient, fal_sandbox: Sandbox, scene: bytes
) -> None:
    async with AsyncClient(KEY, base_url=fal_sandbox.base_url) as cloud:
        pairs = [
            (
                await fal.query(scene, "How many?", reasoning=True),
                await cloud.query(scene, "How many?", reasoning=True),
            ),
            (await fal.caption(scene, "short"), await cloud.caption(scene, "short")),
            (await fal.detect(scene, "red"), await cloud.detect(scene, "red")),
            (await fal.detect(scene, ["red", "blue"]), await cloud.detect(scene, ["red", "blue"])),
            (await fal.point(scene, "red"), await cloud.point(scene, "red")),
            (await fal.point(scene, ["red", "blue"]), await cloud.point(scene, ["red", "blue"])),
            (await fal.segment(scene, "red"), await cloud.segment(scene, "red")),
            (
                await fal.segment(scene, "objects", spatial_refs=[[0.7, 0.4]], settings={"max_tokens": 99}),
                await cloud.segment(scene, "objects", spatial_refs=[[0.7, 0.4]]),
            ),
            (await fal.segment(scene, "pink"), await cloud.segment(scene, "pink")),
        ]
    for actual, expected in pairs:
        assert attrs.evolve(actual, request_id=None, metrics=None) == attrs.evolve(
            expected, request_id=None, metrics=None
        )
        assert type(actual) is type(expected)
        assert actual.metrics is not None
    assert fal.stats.output_tokens > 0
    assert pairs[0][0].request_id


def test_skills_have_the_same_signatures() -> None:
    for name in ("query", "caption", "detect", "point", "segment", "encode_image"):
        actual, expected = (inspect.signature(getattr(cls, name)).parameters for cls in (AsyncFalClient, AsyncClient))
        # On fal, `subscribe` takes any fields; a skill needs no `extra_body`. Tiles are for many calls at once.
        assert [(p.name, p.kind, p.default) for p in actual.values()] == [
            (p.name, p.kind, p.default) for p in expected.values() if p.name not in ("extra_body", "tiles")
        ]
    for name, method in inspect.getmembers(AsyncFalClient, inspect.isfunction):
        if not name.startswith("_") and name != "aclose":
            sync = inspect.signature(getattr(FalClient, name))
            assert list(sync.parameters) == list(inspect.signature(method).parameters)


@pytest.mark.parametrize("model_id", ["nope", "", "moondream2", 1, None])
async def test_unknown_models_of_batched(fal: AsyncFalClient, scene: bytes, model_id: Any) -> None:
    arguments = {"inputs": [{"image_url": scene}], "model_id": model_id}
    with pytest.raises(md.UnprocessableEntityError, match="model_id") as error:
        await fal.subscribe("fal-ai/moondream/batched", arguments)
    assert error.value.status == 422


async def test_batched(fal: AsyncFalClient, scene: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(scene)
    with Image.open(path) as image:
        result = await fal.batched([scene, (path, "How many red?"), {"image_url": image}], max_tokens=500)
    assert len(result.outputs) == 3
    assert result.outputs[1] == "One red region."
    assert "red square" in result.outputs[2]
    assert (result.partial, result.filenames) == (False, None)
    assert result.timings["total"] > 0
    assert result.request_id
    assert result["outputs"] == list(result.outputs)
    short = await fal.batched([scene], max_tokens=2, model_id="fal-ai/moondream2-docci")
    assert len(short.outputs[0].split()) == 2


@pytest.mark.parametrize(
    "call",
    [
        lambda c, i: c.query(None, "?"),
        lambda c, i: c.query(i, ""),
        lambda c, i: c.query(i, "?", stream=True),
        lambda c, i: c.query(i, "?", spatial_refs=[[0, 0]]),
        lambda c, i: c.query(i, "?", settings={"max_tokens": 5}),
        lambda c, i: c.caption(i, "huge"),
        lambda c, i: c.detect(i, "x", settings={"max_objects": 5}),
        lambda c, i: c.detect(i, []),
        lambda c, i: c.point(i, "x", spatial_refs=[[0, 0]]),
        lambda c, i: c.segment(i, "x", stream=True),
        lambda c, i: c.segment(i, "x", spatial_refs=[[2, 0]]),
        lambda c, i: c.batched([]),
        lambda c, i: c.batched("a.jpg"),
        lambda c, i: c.batched([(i, 1, 2)]),
        lambda c, i: c.batched([{"image": i}]),
        lambda c, i: c.batched([i], model_id="gpt"),
        lambda c, i: c.batched([i], repetition_penalty=0),
        lambda c, i: c.submit("x", {}),
        lambda c, i: c.submit(ECHO, []),
        lambda c, i: c.submit(ECHO, {"a": float("nan")}),
        lambda c, i: c.submit(ECHO, {"a": object()}),
        lambda c, i: c.submit(ECHO, {}, priority="high"),
        lambda c, i: c.submit(ECHO, {}, start_timeout=1),
        lambda c, i: c.subscribe(ECHO, {}, timeout=-1),
        lambda c, i: c.upload("nowhere.jpg"),
        lambda c, i: c.upload(b""),
    ],
)
async def test_invalid_arguments_are_refused_before_a_request(call: Any, fal: AsyncFalClient, scene: bytes) -> None:
    with pytest.raises(ConfigurationError):
        await call(fal, scene)
    assert fal.stats.requests == 0


async def test_invalid_images(fal: AsyncFalClient) -> None:
    with pytest.raises(ImageError):
        await fal.caption(b"no image")
    assert fal.stats.requests == 0


async def test_the_quick_start(fal: AsyncFalClient, scene: bytes) -> None:
    handle = await fal.submit("fal-ai/moondream/batched", {"inputs": [{"image_url": scene}]})
    first = await handle.status()
    assert isinstance(first, (Queued, InProgress))
    assert "red square" in (await handle.result())["outputs"][0]
    last = await fal.status(handle.endpoint, handle.request_id, logs=True)
    assert isinstance(last, Completed)
    assert [log.message for log in last.logs] == ["Runner assigned", "Loading the image", "Running the model"]
    again = fal.handle("fal-ai/moondream/batched", handle.request_id)
    assert (await again.result())["outputs"] == (await fal.result(handle.endpoint, handle.request_id))["outputs"]
    assert repr(again) == f"AsyncRequestHandle('fal-ai/moondream/batched', '{handle.request_id}')"


@pytest.mark.parametrize("fault", ["", "on=stream; status=405; times=0", "on=stream; cut=1"])
async def test_each_event_and_log_line_is_yielded_once(fault: str, fal_sandbox: Sandbox) -> None:
    async with client_with_fault(fal_sandbox, f"work=0.4; {fault}") as client:
        handle = await client.submit(ECHO, {})
        events: list[Status] = [event async for event in handle.events(logs=True)]
    assert isinstance(events[-1], Completed)
    assert [type(event) for event in events] == sorted(
        (type(event) for event in events), key=[Queued, InProgress, Completed].index
    )
    lines = [log.message for event in events if not isinstance(event, Queued) for log in event.logs]
    assert lines == ["Runner assigned", "Loading the image", "Running the model"]


async def test_queue_positions(fal_sandbox: Sandbox) -> None:
    async with client_with_fault(fal_sandbox, "queue=0; work=0.15") as client:
        handles = [await client.submit(ECHO, {}) for _ in range(6)]
        positions = [e.position async for e in handles[-1].events() if isinstance(e, Queued)]
    assert positions[-1] in (0, 1)
    assert positions[0] is not None
    assert positions[0] >= 2
    assert positions == sorted(positions, reverse=True)  # type: ignore[type-var]


async def test_subscribe(fal: AsyncFalClient) -> None:
    updates: list[Any] = []

    async def record(status: Status) -> None:
        await asyncio.sleep(0)
        updates.append(status)

    result = await fal.subscribe(ECHO, {"a": 1}, on_enqueue=updates.append, on_queue_update=record, logs=True)
    assert result == {"arguments": {"a": 1}}
    assert isinstance(updates[0], str)
    assert isinstance(updates[-1], Completed)


@pytest.mark.parametrize(("status", "kind"), [(422, UnprocessableEntityError), (500, ServerError), (503, ServerError)])
async def test_failed_requests_raise(status: int, kind: type[Exception], fal: AsyncFalClient) -> None:
    handle = await fal.submit("sandbox/fail", {"status": status, "type": "image_too_small"})
    with pytest.raises(kind) as failed:
        await handle.result()
    error: Any = failed.value
    assert (error.status, error.type, error.param) == (status, "image_too_small", "body.prompt")
    assert error.request_id == handle.request_id
    assert pickle.loads(pickle.dumps(error)).request_id == handle.request_id
    before = fal.stats.requests
    with pytest.raises(kind):
        await handle.result()
    assert fal.stats.requests - before == 2  # the model's own error is not retried


async def test_cancel_in_each_state(fal_sandbox: Sandbox) -> None:
    async with client_with_fault(fal_sandbox, "queue=0; work=1.5") as client:
        working = [await client.submit(ECHO, {}) for _ in range(2)]
        queued = await client.submit(ECHO, {})
        async with aclosing(working[0].events()) as events:
            async for event in events:
                if isinstance(event, InProgress):
                    break
        for handle in (queued, *working):
            assert await handle.cancel()
            with pytest.raises(md.APIError) as failed:
                await handle.result()
            assert (failed.value.status, failed.value.type) == (499, "client_cancelled")
            assert not await handle.cancel()
        with pytest.raises(NotFoundError):
            await client.cancel(ECHO, "no-such-request")
        with pytest.raises(NotFoundError):
            await client.status(ECHO, "no-such-request")


async def test_a_timeout_error_has_the_request_id(fal_sandbox: Sandbox, scene: bytes) -> None:
    async with client_with_fault(fal_sandbox, "work=0.6", job_timeout=0.2) as client:
        with pytest.raises(APITimeoutError, match="it continues on the server") as late:
            await client.caption(scene)
        assert late.value.request_id
        handle = client.handle("fal-ai/moondream3-preview/caption", late.value.request_id)
        assert "red square" in (await handle.result())["output"]
        with pytest.raises(APITimeoutError) as late:
            await client.subscribe(ECHO, {}, on_queue_update=lambda status: None)
        assert late.value.request_id


@pytest.mark.parametrize("how", ["cancelled", "timed out"])
@pytest.mark.parametrize("cancels", [True, False])
async def test_the_request_is_cancelled_with_its_caller(how: str, cancels: bool, fal_sandbox: Sandbox) -> None:
    ids: list[str] = []
    async with client_with_fault(fal_sandbox, "work=0.5") as client:
        timeout = 0.2 if how == "timed out" else None
        task = asyncio.create_task(
            client.subscribe(ECHO, {}, on_enqueue=ids.append, cancel_job=cancels, timeout=timeout)
        )
        await until(lambda: bool(ids))
        if how == "cancelled":
            task.cancel()
        with pytest.raises((asyncio.CancelledError, APITimeoutError)):
            await task
        handle = client.handle(ECHO, ids[0])
        if cancels:
            with pytest.raises(md.APIError, match="cancelled"):
                await handle.result()
        else:
            assert await handle.result() == {"arguments": {}}


async def test_start_timeout(fal_sandbox: Sandbox) -> None:
    async with client_with_fault(fal_sandbox, "queue=3") as client:
        with pytest.raises(ServerError, match="timed out") as late:
            await client.subscribe(ECHO, {}, start_timeout=1.1)
        assert late.value.type == "request_timeout"


async def test_max_queue_length(fal_sandbox: Sandbox) -> None:
    async with client_with_fault(fal_sandbox, "queue=0.5") as client:
        handles = [await client.submit(ECHO, {}) for _ in range(3)]
        with pytest.raises(RateLimitError, match="too long"):
            await client.submit(ECHO, {}, max_queue_length=1)
        for handle in handles:
            await handle.cancel()


@pytest.mark.parametrize("step", ["status", "stream", "result", "token", "upload"])
@pytest.mark.parametrize("fault", ["drop=1", "status=503", "status=502"])
async def test_failed_steps_are_retried(step: str, fault: str, scene: bytes) -> None:
    with PooledSandbox(
        api_key=KEY, on=step, drop="drop" in fault, status=int(fault[-3:]) if "status" in fault else 0
    ) as sandbox:
        options: Any = {"retry": QUICK, "inline_limit": 0}
        async with AsyncFalClient(KEY, base_url=sandbox.fal_url, **options) as client:
            assert "red square" in (await client.caption(scene)).caption
            handle = await client.submit(ECHO, {"image": scene})
            assert (await handle.result())["arguments"]["image"].startswith(sandbox.fal_url)


async def test_a_lost_submit_is_retried_only_with_resubmit(scene: bytes) -> None:
    for resubmit in (False, True):
        with PooledSandbox(api_key=KEY, on="submit", drop=True) as sandbox:
            async with AsyncFalClient(KEY, base_url=sandbox.fal_url, retry=QUICK) as client:
                if resubmit:
                    await client.submit(ECHO, {}, resubmit=True)
                else:
                    with pytest.raises(APIConnectionError, match="may have been accepted"):
                        await client.submit(ECHO, {})
            jobs: Any = sandbox._app.state.fal.queue.jobs
            assert len(jobs) == (2 if resubmit else 1)


@pytest.mark.parametrize(("status", "retried"), [(503, True), (429, True), (502, False), (504, False), (500, False)])
async def test_retries_of_refused_submits(status: int, retried: bool) -> None:
    with PooledSandbox(on="submit", status=status, retry_after=0) as sandbox:
        async with AsyncFalClient(base_url=sandbox.fal_url, retry=QUICK) as client:
            if retried:
                await client.submit(ECHO, {})
            else:
                with pytest.raises(ServerError):
                    await client.submit(ECHO, {})
            assert client.stats.requests == 1 + retried


async def test_a_submit_that_reached_no_server_is_retried() -> None:
    async with AsyncFalClient(base_url="http://127.0.0.1:1", retry=QUICK) as client:
        with pytest.raises(APIConnectionError) as failed:
            await client.submit(ECHO, {})
        assert failed.value.attempts == 4
        assert "may have been accepted" not in str(failed.value)


async def test_each_submit_uses_a_new_connection() -> None:
    """If the server closed an idle connection just then, the submit's outcome would be unknown."""

    async def handler(exchange: Exchange) -> None:
        base = f"http://{exchange.head.lower().split('host: ')[1].split()[0]}/queue/sandbox/echo/requests/r1"
        await exchange.answer({"request_id": "r1", "status_url": f"{base}/status"})

    async with serve(handler) as server:
        async with AsyncFalClient(base_url=server.base_url.removesuffix("/v1"), retry=QUICK) as client:
            for _ in range(3):
                await client.submit(ECHO, {})
        assert (server.requests, server.connections) == (3, 3)


async def test_the_key_is_sent_to_fal_only(scene: bytes) -> None:
    requests: list[str] = []

    async def record_request(exchange: Exchange) -> None:
        requests.append(exchange.head)
        await exchange.answer({"status": "COMPLETED"})

    async with serve(record_request) as other_server:
        other = other_server.base_url

        async def handler(exchange: Exchange) -> None:
            path = exchange.head.split()[1]
            if "/requests/" not in path:
                await exchange.answer(
                    {"request_id": "r1", "status_url": other, "response_url": other, "cancel_url": other}
                )
            elif path.endswith("/stream"):
                await exchange.answer({}, status=404)
            elif path.endswith("/status"):
                await exchange.answer({"status": "COMPLETED"})
            else:
                await exchange.answer({"fine": True})

        async with serve(handler) as server:
            async with AsyncFalClient(KEY, base_url=server.base_url.removesuffix("/v1")) as client:
                handle = await client.submit(ECHO, {})
                assert await handle.result() == {"fine": True}
                await handle.cancel()
    assert requests == []


async def test_an_invalid_key_is_not_shown(fal_sandbox: Sandbox) -> None:
    async with AsyncFalClient("wrong:key-of-somebody", base_url=fal_sandbox.fal_url) as client:
        with pytest.raises(AuthenticationError) as refused:
            await client.submit(ECHO, {})
    assert "wrong:key" not in repr(refused.value) + repr(client) + str(refused.value.__dict__)


def test_sources_of_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="FAL_KEY"):
        AsyncFalClient()
    with pytest.raises(ConfigurationError, match="characters that no key has"):
        AsyncFalClient("a b")
    monkeypatch.setenv("FAL_KEY_ID", "a")
    with pytest.raises(ConfigurationError, match="FAL_KEY"):
        AsyncFalClient()
    monkeypatch.setenv("FAL_KEY_SECRET", "b")
    assert AsyncFalClient()._connection.auth["Authorization"] == "Key a:b"
    monkeypatch.setenv("FAL_KEY", " 'c:d' ")
    assert AsyncFalClient()._connection.auth["Authorization"] == "Key c:d"
    assert AsyncFalClient("e:f")._connection.auth["Authorization"] == "Key e:f"
    assert "c:d" not in repr(AsyncFalClient())


async def test_headers_of_a_submit() -> None:
    heads: list[str] = []

    async def handler(exchange: Exchange) -> None:
        heads.append(exchange.head.lower())
        await exchange.answer({"request_id": "r1"})

    async with serve(handler) as server:
        async with AsyncFalClient(KEY, base_url=server.base_url.removesuffix("/v1")) as client:
            await client.submit(
                *(ECHO, {}),
                priority="low",
                hint="same",
                start_timeout=30,
                headers={"X-Fal-Store-IO": "0"},
                webhook_url="http://127.0.0.1/x?y",
                path="sub",
            )
    head = heads[0]
    assert head.startswith("post /queue/sandbox/echo/sub?fal_webhook=http%3a%2f%2f127.0.0.1%2fx%3fy ")
    for line in (
        "x-fal-queue-priority: low",
        "x-fal-runner-hint: same",
        "x-fal-request-timeout: 30.0",
        "x-fal-store-io: 0",
    ):
        assert line in head
    assert f"authorization: key {KEY}" in head


def test_sync(fal_sandbox: Sandbox, scene: bytes, tmp_path: Path) -> None:
    with FalClient(KEY, base_url=fal_sandbox.fal_url) as client:
        assert "red square" in client.caption(scene).caption
        assert len(client.detect(scene, ["red", "blue"]).objects) == 2
        assert "\nred," in md.vision.to_csv(client.detect(scene, "red"))
        updates: list[Status] = []
        assert client.subscribe(ECHO, {"a": 1}, on_queue_update=updates.append, logs=True) == {"arguments": {"a": 1}}
        assert isinstance(updates[-1], Completed)
        handle = client.submit(ECHO, {"a": 2})
        assert repr(handle) == f"RequestHandle('{ECHO}', '{handle.request_id}')"
        for event in handle.events(logs=True):
            assert event.request_id == handle.request_id
            if isinstance(event, InProgress):
                break  # leaving early is fine
        assert isinstance(list(handle.events())[-1], Completed)
        assert handle.result(timeout=5) == client.handle(ECHO, handle.request_id).result() == {"arguments": {"a": 2}}
        assert isinstance(handle.status(), Completed)
        assert not handle.cancel()
        assert client.upload(scene).startswith(fal_sandbox.fal_url)
        with pytest.raises(UnprocessableEntityError):
            client.subscribe("sandbox/fail", {})
        assert "FalClient(" in repr(client)
    with pytest.raises(ConfigurationError, match="closed"):
        client.caption(scene)


def test_events_is_an_async_generator() -> None:
    assert inspect.isasyncgenfunction(AsyncRequestHandle.events)


@pytest.mark.parametrize("max_connections", [1, 4])
async def test_more_concurrent_calls_than_connections(max_connections: int, fal_sandbox: Sandbox, scene: bytes) -> None:
    """A status stream must not block other requests, or those of its own call."""
    options: Any = {"max_connections": max_connections, "job_timeout": 20}
    async with AsyncFalClient(KEY, base_url=fal_sandbox.fal_url, **options) as client:
        image = await client.encode_image(scene)
        results = await asyncio.gather(*(client.caption(image) for _ in range(20)))
        assert len({result.request_id for result in results}) == 20
        handle = await client.submit(ECHO, {})
        async with aclosing(handle.events()) as events:
            async for _ in events:
                assert isinstance(await handle.cancel(), bool)  # with the stream still open


@pytest.mark.parametrize("how", ["silence", "pings"])
async def test_the_status_is_polled_while_its_stream_is_silent(how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moondream_async._fal.request_handle._STREAM_TIMEOUT", 0.3)

    async def handler(exchange: Exchange) -> None:
        path = exchange.head.split()[1]
        if path.endswith("/stream"):
            await exchange.start_stream()
            await exchange.event({"status": "IN_PROGRESS"})
            while True:
                await asyncio.sleep(0.05)
                if how == "pings":
                    await exchange.chunk(b": ping\n\n")
        elif path.endswith("/status"):
            await exchange.answer({"status": "COMPLETED"})
        else:
            await exchange.answer({"request_id": "r1", "fine": True})

    async with serve(handler) as server:
        async with AsyncFalClient(base_url=server.base_url.removesuffix("/v1"), retry=QUICK) as client:
            assert (await client.subscribe(ECHO, {}, timeout=10))["fine"]


class FakeQueue:
    """A server of one request. Each operation has a list of responses, the last of which is repeated."""

    def __init__(self, **responses: list[Any]) -> None:
        self.responses: dict[str, list[Any]] = {
            "submit": [{"request_id": "r1"}],
            "status": [{"status": "COMPLETED"}],
            "result": [{"fine": True}],
            **responses,
        }
        self.operations: list[str] = []

    async def __call__(self, exchange: Exchange) -> None:
        method, path = exchange.head.split()[:2]
        operation = {"POST": "submit", "PUT": "cancel"}.get(method, path.rpartition("/")[2])
        operation = operation if operation in ("submit", "cancel", "status", "stream") else "result"
        self.operations.append(operation)
        remaining = self.responses.get(operation, [{}])
        response = remaining.pop(0) if len(remaining) > 1 else remaining[0]
        if callable(response):
            response = await response()
        status, body, headers = response if isinstance(response, tuple) else (200, response, "")
        await exchange.answer(body, status=404 if operation == "stream" else status, headers=headers)


FINAL = "x-fal-request-id: r1\r\n"


@pytest.mark.parametrize(
    "status",
    [
        (500, {}, FINAL),
        (503, {}, FINAL),
        (200, b"<html>", ""),
        {"status": "FAILED"},
        {"status": "IN_PROGRESS", "logs": 5},
        [],
        (429, {}, "Retry-After: 0\r\n"),
    ],
    ids=str,
)
async def test_one_invalid_status_is_tolerated(status: Any) -> None:
    fake = FakeQueue(status=[status, {"status": "COMPLETED"}])
    async with serve(fake) as server:
        async with AsyncFalClient(base_url=server.base_url.removesuffix("/v1"), retry=1) as client:
            assert await client.subscribe(ECHO, {}) == {"fine": True}


async def test_a_result_that_is_not_available_yet() -> None:
    fake = FakeQueue(result=[(400, {"detail": "Request is still in progress"}, ""), {"fine": True}])
    async with serve(fake) as server:
        async with AsyncFalClient(base_url=server.base_url.removesuffix("/v1"), retry=QUICK) as client:
            assert await client.subscribe(ECHO, {}) == {"fine": True}


@pytest.mark.parametrize("error", ["", False, None])
async def test_an_empty_error_is_no_error(error: Any) -> None:
    async with serve(FakeQueue(status=[{"status": "COMPLETED", "error": error}])) as server:
        async with AsyncFalClient(base_url=server.base_url.removesuffix("/v1"), retry=QUICK) as client:
            assert await client.subscribe(ECHO, {}) == {"fine": True}


@pytest.mark.parametrize("result", [{"fine": True}, (404, {}, "")])
async def test_the_error_of_the_status_is_the_fallback(result: Any) -> None:
    fake = FakeQueue(status=[{"status": "COMPLETED", "error": "boom", "error_type": "x"}], result=[result])
    async with serve(fake) as server:
        async with AsyncFalClient(base_url=server.base_url.removesuffix("/v1"), retry=QUICK) as client:
            with pytest.raises(ServerError, match="boom") as failed:
                await client.subscribe(ECHO, {})
    assert (failed.value.type, failed.value.request_id) == ("x", "r1")


@pytest.mark.parametrize("when", ["submit", "on_enqueue", "polling fails", "callback fails"])
async def test_the_request_is_cancelled_at_any_stage(when: str) -> None:
    started = asyncio.Event()

    async def respond_slowly() -> Any:
        started.set()
        await asyncio.sleep(0.1)
        return {"request_id": "r1"}

    async def wait_in_callback(_: str) -> None:
        started.set()
        await asyncio.sleep(10)

    def fail_in_callback(_: Status) -> None:
        raise RuntimeError("callback failed")

    fake = FakeQueue(status=[{"status": "IN_PROGRESS"}])
    if when == "submit":
        fake.responses["submit"] = [respond_slowly]
    if when == "polling fails":
        fake.responses["status"] = [(403, {}, "")]
    async with serve(fake) as server:
        async with AsyncFalClient(base_url=server.base_url.removesuffix("/v1"), cancel_jobs=True) as client:
            callbacks: Any = {"on_enqueue": wait_in_callback} if when == "on_enqueue" else {}
            callbacks |= {"on_queue_update": fail_in_callback} if when == "callback fails" else {}
            task = asyncio.create_task(client.subscribe(ECHO, {}, **callbacks))
            if when in ("submit", "on_enqueue"):
                await started.wait()
                task.cancel()
            with pytest.raises((asyncio.CancelledError, md.PermissionDeniedError, RuntimeError)):
                await task
            await until(lambda: "cancel" in fake.operations)
    assert fake.operations.count("submit") == 1


async def test_the_timeout_includes_the_submit() -> None:
    async def respond_late() -> Any:
        await asyncio.sleep(30)

    async with serve(FakeQueue(submit=[respond_late])) as server:
        async with AsyncFalClient(base_url=server.base_url.removesuffix("/v1"), retry=QUICK) as client:
            with pytest.raises(APITimeoutError, match="did not acknowledge"):
                await client.subscribe(ECHO, {}, timeout=0.2)


@pytest.mark.parametrize("timeout", ["x", float("nan"), True, 0, -1])
async def test_timeouts_are_checked(timeout: Any, fal: AsyncFalClient) -> None:
    with pytest.raises(ConfigurationError, match="timeout"):
        await fal.handle(ECHO, "r1").result(timeout=timeout)


@pytest.mark.parametrize("url", ["https://[::1", "https://queue\u2100.fal.run/x", 5, ""])
async def test_invalid_urls_in_responses_are_ignored(url: Any) -> None:
    fake = FakeQueue(submit=[{"request_id": "req.123:4", "status_url": url, "response_url": url}])
    async with serve(fake) as server:
        async with AsyncFalClient(base_url=server.base_url.removesuffix("/v1"), retry=QUICK) as client:
            handle = await client.submit(ECHO, {})
            assert await handle.result() == {"fine": True}
            with pytest.raises(ImageError):
                await client.caption("https://[bad/x.jpg")


async def test_a_server_that_echoes_the_key() -> None:
    async def handler(exchange: Exchange) -> None:
        line = next(line for line in exchange.head.split("\r\n") if line.lower().startswith("authorization"))
        await exchange.answer({"detail": f"invalid {line}"}, status=400, headers=f"x-echo: {line}\r\n")

    async with serve(handler) as server:
        async with AsyncFalClient(KEY, base_url=server.base_url.removesuffix("/v1")) as client:
            with pytest.raises(md.BadRequestError) as failed:
                await client.submit(ECHO, {})
    shown = "".join(traceback.TracebackException.from_exception(failed.value, capture_locals=True).format())
    for text in (str(failed.value), str(failed.value.body), repr(client._connection), shown):
        assert "the-secret" not in text.replace(repr(KEY), "")


@pytest.mark.parametrize(
    "arguments",
    [
        {"path": 5},
        {"path": "a\udc80"},
        {"webhook_url": 5},
        {"webhook_url": "http://a/\udc80"},
        {"headers": {"a": 5}},
        {"hint": "\n"},
    ],
)
async def test_arguments_that_fit_no_url_or_header(fal: AsyncFalClient, arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        await fal.submit("sandbox/echo", {}, **arguments)


@pytest.mark.parametrize("request_id", ["\udc80", "", "a/b", "..", 5, None])
async def test_request_ids_that_fit_no_url(fal: AsyncFalClient, request_id: Any) -> None:
    with pytest.raises(ConfigurationError):
        await fal.status("sandbox/echo", request_id)


@pytest.mark.parametrize(
    "url", ["http://user:hidden-word@[::1", "https://host/?key=hidden-word", "https://u:hidden-word@h"]
)
def test_base_urls_with_credentials_are_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        AsyncFalClient(KEY, base_url=url)
    assert "hidden-word" not in str(caught.value)


async def test_a_lifecycle_of_the_wrong_type(fal: AsyncFalClient) -> None:
    with pytest.raises(ConfigurationError, match="Lifecycle"):
        await fal.upload(b"data", lifecycle={"expires_in": 5})  # type: ignore[arg-type]


async def test_hooks_see_each_request(fal_sandbox: Sandbox) -> None:
    calls: list[tuple[str, str, bool]] = []
    ended: list[tuple[str, BaseException | None]] = []
    sent: list[int] = []
    hooks = md.Hooks(
        request=lambda info: sent.append(info.nbytes),
        response=lambda info: calls.append((info.call.operation, info.call.base_url, info.call.stream)),
        end=lambda info: ended.append((info.call.operation, info.error)),
    )
    async with AsyncFalClient(KEY, base_url=fal_sandbox.fal_url, hooks=hooks, retry=QUICK) as fal:
        assert await fal.subscribe(ECHO, {"a": 1})
        with pytest.raises(NotFoundError):
            await fal.status(ECHO, "no-such-request")
    queue = f"{fal_sandbox.fal_url}/queue"
    assert calls == [
        ("submit", queue, False),
        ("status", queue, True),
        ("result", queue, False),
        ("status", queue, False),
    ]
    assert [operation for operation, _ in ended] == ["submit", "status", "result", "status"]
    assert [type(error) for _, error in ended] == [type(None)] * 3 + [NotFoundError]
    assert len(sent) == 4


async def test_hooks_see_a_status_stream_that_fails(fal_sandbox: Sandbox) -> None:
    responses: list[tuple[str, bool, int | None, type[BaseException]]] = []
    hooks = md.Hooks(
        response=lambda info: responses.append((info.call.operation, info.call.stream, info.status, type(info.error)))
    )
    async with AsyncFalClient(KEY, base_url=fal_sandbox.fal_url, hooks=hooks, retry=QUICK) as fal:
        with pytest.raises(NotFoundError):
            await fal.result(ECHO, "no-such-request", timeout=20)
    assert responses[0] == ("status", True, 404, NotFoundError)
