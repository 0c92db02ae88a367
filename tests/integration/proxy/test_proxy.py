"""The proxy for browsers: what it passes on, what it refuses, and that it never shows the key."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.routing import Mount

from moondream_async import AsyncClient, ConfigurationError
from moondream_async._proxy import bodies
from moondream_async.fal import AsyncFalClient
from moondream_async.proxy import Proxy
from moondream_async.sandbox import Sandbox
from tests.support import loopback
from tests.support.loopback import Exchange, until
from tests.support.sandboxes import PooledSandbox
from tests.support.servers import running

KEY = "md-secret-key-0123456789"
FAL_KEY = "fal-id-0123456789:fal-secret-0123456789"
QUEUE = "https://queue.fal.run"
UNFINISHED = (
    b"POST /v1/caption HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{"
)


@pytest.fixture
def sandbox() -> Iterator[PooledSandbox]:
    with PooledSandbox(api_key=KEY) as sandbox:
        yield sandbox


@pytest.fixture
def fal_sandbox() -> Iterator[PooledSandbox]:
    with PooledSandbox(api_key=FAL_KEY) as sandbox:
        yield sandbox


def uri(picture: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(picture).decode()


def proxy_of(base_url: str, fal_url: str | None = None, **options: Any) -> Proxy:
    fal = None if fal_url is None else AsyncFalClient(FAL_KEY, base_url=fal_url)
    return Proxy(client=AsyncClient(KEY, base_url=base_url), fal=fal, **options)


@asynccontextmanager
async def browser(app: Any, **options: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client that calls the application without a socket, from this machine."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=options.pop("raise_app_exceptions", True))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost", **options) as client:
        yield client


class TestMoondream:
    @pytest.mark.parametrize(
        ("skill", "arguments", "field"),
        [
            ("query", {"question": "How many?"}, "answer"),
            ("caption", {"length": "short"}, "caption"),
            ("detect", {"object": "red"}, "objects"),
            ("point", {"object": "red"}, "points"),
            ("segment", {"object": "red"}, "path"),
        ],
    )
    async def test_skills(self, sandbox: Sandbox, scene: bytes, skill: str, arguments: dict[str, Any], field: str):
        async with browser(proxy_of(sandbox.base_url)) as client:
            response = await client.post(f"/v1/{skill}", json={"image_url": uri(scene), **arguments})
        assert response.status_code == 200
        assert response.json()[field]
        assert response.headers["content-type"] == "application/json"
        assert response.headers["x-content-type-options"] == "nosniff"

    async def test_chat(self, sandbox: Sandbox):
        async with browser(proxy_of(sandbox.base_url)) as client:
            body = {"model": "moondream3-preview", "messages": [{"role": "user", "content": "What is this?"}]}
            response = await client.post("/v1/chat/completions", json=body)
        assert response.json()["choices"][0]["message"]["content"]

    async def test_our_own_client(self, sandbox: Sandbox, scene: bytes):
        async with running(proxy_of(sandbox.base_url)) as url, AsyncClient(base_url=f"{url}/v1") as client:
            assert "red" in (await client.caption(scene)).caption
            stream = await client.segment(scene, "red", stream=True)
            assert (await stream.result()).path

    async def test_errors_of_the_server(self, sandbox: Sandbox):
        async with browser(proxy_of(sandbox.base_url)) as client:
            response = await client.post("/v1/query", json={"question": ""})
        assert response.status_code == 400
        assert response.json()["error"]["message"]

    async def test_retry_after_is_passed_on(self, scene: bytes):
        with PooledSandbox(api_key=KEY, status=429, times=0, retry_after=7) as sandbox:
            async with browser(proxy_of(sandbox.base_url)) as client:
                response = await client.post("/v1/caption", json={"image_url": uri(scene)})
        assert (response.status_code, response.headers["retry-after"]) == (429, "7")

    async def test_stream_is_not_collected(self):
        """Each event comes before the next is sent."""
        received = asyncio.Event()

        async def answer(exchange: Exchange) -> None:
            await exchange.start_stream()
            await exchange.event({"chunk": "a"})
            await asyncio.wait_for(received.wait(), 10)
            await exchange.event({"completed": True})
            await exchange.end_stream()

        async with loopback.serve(answer) as server, running(proxy_of(server.base_url)) as url:
            async with httpx.AsyncClient() as client:
                async with client.stream("POST", f"{url}/v1/query", json={"question": "x", "stream": True}) as response:
                    assert response.headers["content-type"].startswith("text/event-stream")
                    assert response.headers["x-accel-buffering"] == "no"
                    lines = response.aiter_lines()
                    assert json.loads((await anext(lines))[6:]) == {"chunk": "a"}
                    received.set()
                    rest = [line async for line in lines if line]
        assert json.loads(rest[-1][6:]) == {"completed": True}

    async def test_stream_that_breaks_off_is_not_ended(self):
        async def answer(exchange: Exchange) -> None:
            await exchange.start_stream()
            await exchange.event({"chunk": "a"})
            exchange.cut()

        async with loopback.serve(answer) as server, running(proxy_of(server.base_url)) as url:
            async with httpx.AsyncClient() as client:
                with pytest.raises(httpx.RemoteProtocolError):
                    await client.post(f"{url}/v1/query", json={"question": "x", "stream": True})

    @pytest.mark.parametrize("streams", [False, True])
    async def test_browser_that_goes_away_stops_the_call(self, streams: bool):
        begun, closed = asyncio.Event(), asyncio.Event()

        async def answer(exchange: Exchange) -> None:
            if streams:
                await exchange.start_stream()
                await exchange.event({"chunk": "a"})
            begun.set()
            await exchange.reader.read()
            closed.set()

        async with loopback.serve(answer) as server, running(proxy_of(server.base_url)) as url:
            async with httpx.AsyncClient() as client:
                call = asyncio.create_task(client.post(f"{url}/v1/query", json={"question": "x", "stream": streams}))
                await begun.wait()
                call.cancel()
                await asyncio.wait([call])
            await asyncio.wait_for(closed.wait(), 5)

    async def test_model_of_the_client(self):
        async def answer(exchange: Exchange) -> None:
            await exchange.answer(exchange.json)

        async with loopback.serve(answer) as server:
            app = Proxy(client=AsyncClient(KEY, base_url=server.base_url, model="md-3"))
            async with browser(app) as client:
                assert (await client.post("/v1/query", json={"question": "x"})).json() == {
                    "model": "md-3",
                    "question": "x",
                }
                own = await client.post("/v1/query", json={"question": "x", "model": "mine"})
                assert own.json()["model"] == "mine"
                assert (await client.post("/v1/query", json={})).json() == {"model": "md-3"}

    async def test_server_that_is_down(self):
        async with browser(proxy_of("http://127.0.0.1:9/v1")) as client:
            response = await client.post("/v1/query", json={"question": "x"})
        assert response.status_code == 502
        assert response.json()["error"] == {
            "type": "api_connection_error", "message": "The model's server cannot be reached.",
        }  # fmt: skip

    async def test_skills_that_are_not_allowed(self, sandbox: PooledSandbox):
        async with browser(proxy_of(sandbox.base_url, skills=["caption"])) as client:
            for path in (
                "query",
                "chat/completions",
                "models",
                "batch",
                "tuning/finetunes",
                "",
                "caption/../query",
                "caption%2F..%2Fquery",
            ):
                response = await client.post(f"/v1/{path}", json={})
                assert response.status_code in (403, 404), path
                assert (await client.get(f"/v1/{path}")).status_code == 405
        assert sandbox.requests == 0


class TestKey:
    """Ways to get at the key."""

    @staticmethod
    def hunted(response: httpx.Response, secret: str = KEY) -> str:
        shown = response.text + repr(response.headers.raw)
        assert secret not in shown
        assert secret.partition(":")[2][-12:] not in shown or ":" not in secret
        assert base64.b64encode(secret.encode()).decode()[:16] not in shown
        assert json.dumps(secret)[1:-1].replace("-", "\\u002d") not in shown
        return shown

    @pytest.mark.parametrize(
        "echo",
        [
            lambda key: {"caption": f"Your key is {key}."},
            lambda key: {"caption": "x", "headers": {"x-moondream-auth": key, key: "as a name"}},
            lambda key: {"caption": base64.b64encode(f"x{key}".encode()).decode()},
            lambda key: {"caption": key.encode().hex()},
        ],
    )
    @pytest.mark.parametrize("status", [200, 400, 500])
    async def test_echo(self, echo: Any, status: int):
        async def answer(exchange: Exchange) -> None:
            assert KEY in exchange.head
            await exchange.answer(echo(KEY), status, f"X-Request-Id: {KEY}\r\nX-Moondream-Auth: {KEY}\r\n")

        async with loopback.serve(answer) as server, browser(proxy_of(server.base_url)) as client:
            self.hunted(await client.post("/v1/caption", json={}))

    @pytest.mark.parametrize("kind", ["text/html", "text/plain", "application/octet-stream"])
    @pytest.mark.parametrize(
        "form", [KEY, KEY.replace("-", "\\u002d"), KEY.replace("-", "%2D"), KEY.replace("-", "&#45;")]
    )
    async def test_echo_in_text(self, kind: str, form: str):
        async def answer(exchange: Exchange) -> None:
            await exchange.answer(f"<script>{form}</script>".encode(), 502, f"Content-Type: {kind}\r\n")

        async with loopback.serve(answer) as server, browser(proxy_of(server.base_url)) as client:
            response = await client.post("/v1/caption", json={})
        assert form not in self.hunted(response)
        assert response.headers["content-type"] == "text/plain; charset=utf-8"  # not a page

    async def test_echo_in_a_stream(self):
        async def answer(exchange: Exchange) -> None:
            await exchange.start_stream()
            event = f"data: {json.dumps({'chunk': f'the key: {KEY}!'})}\n\n".encode()
            for start in range(0, len(event), 7):  # in parts that hold no whole key
                await exchange.chunk(event[start : start + 7])
            await exchange.event({"chunk": KEY.replace("-", "\\u002d")})
            await exchange.event({"completed": True})
            await exchange.end_stream()

        async with loopback.serve(answer) as server, browser(proxy_of(server.base_url)) as client:
            response = await client.post("/v1/caption", json={"stream": True})
        assert "the key: ***!" in self.hunted(response)

    @pytest.mark.parametrize(
        "location", ["http://127.0.0.1:1/", "https://evil.example/", "//evil.example/", "/v1/other"]
    )
    @pytest.mark.parametrize("status", [301, 302, 307, 308])
    async def test_redirects_are_not_followed(self, location: str, status: int):
        async def answer(exchange: Exchange) -> None:
            await exchange.answer({}, status, f"Location: {location}\r\n")

        async with loopback.serve(answer) as server, browser(proxy_of(server.base_url)) as client:
            response = await client.post("/v1/caption", json={})
            assert server.requests == 1
        assert response.status_code == 502
        assert "location" not in response.headers

    async def test_headers_of_the_browser_are_not_passed_on(self):
        async def answer(exchange: Exchange) -> None:
            await exchange.answer({"head": exchange.head.lower()})

        async with loopback.serve(answer) as server, browser(proxy_of(server.base_url)) as client:
            headers = {
                "X-Moondream-Auth": "browser-key", "Authorization": "Bearer browser-key", "Cookie": "session=1",
                "X-Sandbox-Fault": "status=500", "User-Agent": "browser", "X-HTTP-Method-Override": "GET",
                "Referer": "http://localhost/private",
            }  # fmt: skip
            head = (await client.post("/v1/caption", json={}, headers=headers)).json()["head"]
        for value in ("browser", "session", "sandbox-fault", "override", "referer"):
            assert value not in head
        assert "x-moondream-auth: ***" in head

    async def test_log(self, sandbox: Sandbox, scene: bytes, caplog: pytest.LogCaptureFixture):
        caplog.set_level(logging.DEBUG)
        async with browser(proxy_of(sandbox.base_url)) as client:
            response = await client.post("/v1/caption", json={"image_url": uri(scene)})
            await client.post("/v1/nothing", json={})
        lines = [record.getMessage() for record in caplog.records if record.name == "moondream_async.proxy"]
        assert "only programs and pages of this machine" in lines[0]
        assert lines[1].startswith("POST caption: 200 in ")
        assert response.json()["request_id"] in lines[1]
        assert response.headers["x-request-id"] in lines[1]
        assert lines[2].startswith("POST -: 403 in ")
        assert KEY not in caplog.text


class TestBodies:
    async def test_too_large(self, sandbox: PooledSandbox):
        async with running(proxy_of(sandbox.base_url, max_body=1000)) as url, httpx.AsyncClient(base_url=url) as client:
            for size in (1001, 3000, 100_000):
                response = await client.post(
                    "/v1/caption", content=b"x" * size, headers={"content-type": "application/json"}
                )
                assert response.status_code == 413, size
                assert "1,000 bytes" in response.json()["error"]["message"]

            async def endless() -> AsyncIterator[bytes]:
                for _ in range(3):
                    yield b"x" * 600

            response = await client.post("/v1/caption", content=endless(), headers={"content-type": "application/json"})
            assert response.status_code == 413
        assert sandbox.requests == 0

    async def test_default_limit(self, sandbox: PooledSandbox):
        async with browser(proxy_of(sandbox.base_url)) as client:
            body = b'{"image_url": "' + b"x" * (20 * 1024 * 1024) + b'"}'
            response = await client.post("/v1/caption", content=body, headers={"content-type": "application/json"})
        assert response.status_code == 413
        assert sandbox.requests == 0

    async def test_slow(self, sandbox: PooledSandbox, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setattr(bodies, "_TIMEOUT", 0.05)

        async with running(proxy_of(sandbox.base_url)) as url:
            reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            writer.write(UNFINISHED)
            assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
            writer.close()
        assert sandbox.requests == 0

    async def test_browser_that_goes_away_while_it_sends(
        self, sandbox: PooledSandbox, caplog: pytest.LogCaptureFixture
    ):
        caplog.set_level(logging.INFO)
        async with running(proxy_of(sandbox.base_url)) as url:
            _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
            writer.write(UNFINISHED)
            await writer.drain()
            await asyncio.sleep(0.05)
            writer.transport.abort()
            await until(lambda: "client gone" in caplog.text)
        assert sandbox.requests == 0


class TestLimits:
    async def test_rate(self, sandbox: PooledSandbox):
        async with browser(proxy_of(sandbox.base_url, rate_limit=1.0)) as client:
            responses = [await client.post("/v1/query", json={"question": "x"}) for _ in range(4)]
        assert [response.status_code for response in responses] == [200, 200, 429, 429]
        assert int(responses[-1].headers["retry-after"]) >= 1
        assert responses[-1].json()["error"]["type"] == "rate_limit_error"

    async def test_concurrency_of_each_visitor(self):
        go_on = asyncio.Event()

        async def answer(exchange: Exchange) -> None:
            await go_on.wait()
            await exchange.answer({"answer": "x"})

        def authorize(request: Request) -> str:
            return request.headers["x-visitor"]

        async with loopback.serve(answer) as server:
            app = proxy_of(server.base_url, authorize=authorize, max_concurrent=2, rate_limit=None)
            async with browser(app) as client:

                async def post(visitor: str) -> int:
                    response = await client.post("/v1/query", json={"question": "x"}, headers={"x-visitor": visitor})
                    return response.status_code

                calls = [asyncio.create_task(post(name)) for name in ("ann", "ann", "bob")]
                await until(lambda: server.requests == 3)
                assert await post("ann") == 429
                go_on.set()
                assert await asyncio.gather(*calls) == [200, 200, 200]
                assert await post("ann") == 200


class TestAccess:
    async def test_authorize(self, sandbox: PooledSandbox):
        async def authorize(request: Request) -> bool:
            return request.headers.get("authorization") == "Bearer visitor"

        async with browser(proxy_of(sandbox.base_url, authorize=authorize)) as client:
            refused = await client.post("/v1/query", json={"question": "x"})
            assert (refused.status_code, sandbox.requests) == (401, 0)
            admitted = await client.post(
                "/v1/query", json={"question": "x"}, headers={"Authorization": "Bearer visitor"}
            )
            assert admitted.status_code == 200

    async def test_authorize_that_raises(self, sandbox: PooledSandbox, caplog: pytest.LogCaptureFixture):
        def payment(_: Request) -> bool:
            raise HTTPException(402, "No credit")

        def bug(_: Request) -> bool:
            raise KeyError(KEY)

        async with browser(proxy_of(sandbox.base_url, authorize=payment)) as client:
            assert (await client.post("/v1/query", json={"question": "x"})).status_code == 402
        caplog.set_level(logging.INFO)
        async with browser(proxy_of(sandbox.base_url, authorize=bug)) as client:
            response = await client.post("/v1/query", json={"question": "x"})
        assert (response.status_code, response.json()["error"]["message"]) == (500, "Internal error.")
        TestKey.hunted(response)
        assert sandbox.requests == 0
        assert "POST -: 500 in " in caplog.text  # then the milliseconds
        assert f" ms, request {response.headers['x-request-id']}" in caplog.text
        assert "KeyError in " in caplog.text
        assert "test_proxy.py, line " in caplog.text
        assert KEY not in caplog.text

    @pytest.mark.parametrize(
        ("returned", "visitor"), [(True, "127.0.0.1"), ("ann", "ann"), (7, "7"), ({"name": "ann"}, None), (0, None)]
    )
    async def test_what_authorize_returns(
        self, sandbox: PooledSandbox, caplog: pytest.LogCaptureFixture, returned: Any, visitor: str | None
    ):
        caplog.set_level(logging.INFO)
        async with browser(proxy_of(sandbox.base_url, authorize=lambda _: returned)) as client:
            response = await client.post("/v1/query", json={"question": "x"})
        if visitor is None:
            assert response.status_code == (401 if returned == 0 else 500)
        else:
            assert f"visitor '{visitor}'" in caplog.text

    async def test_other_machines_without_authorize(self, sandbox: PooledSandbox):
        transport = httpx.ASGITransport(proxy_of(sandbox.base_url), client=("192.168.1.9", 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            assert (await client.post("/v1/query", json={"question": "x"})).status_code == 403
        assert sandbox.requests == 0

    async def test_mounted(self, sandbox: Sandbox):
        app = Starlette(routes=[Mount("/moondream", proxy_of(sandbox.base_url))])
        async with browser(app) as client:
            assert (await client.post("/moondream/v1/query", json={"question": "x"})).status_code == 200

    @pytest.mark.parametrize(
        ("body", "status"),
        [
            (b'{"question": "x"}', 200),
            (b'{"question": "x", "model": null}', 200),
            (b'{"question": "x", "model": "moondream3-preview"}', 200),
            (b'{"question": "x", "model": "allowed"}', 200),
            (b'{"question": "x", "model": "dear"}', 403),
            (b'{"model": "dear", "question": "x", "model": "allowed"}', 200),  # the sandbox gets the second only
            (b'{"model": "allowed", "question": "x", "mod\\u0065l": "dear"}', 403),
            (b'{"question": "x", "model": ["dear"]}', 403),
            (b'["model"]', 400),
            (b"{", 400),
            (b"[" * 100_000, 400),
        ],
    )
    async def test_models(self, body: bytes, status: int):
        requests: list[bytes] = []

        async def answer(exchange: Exchange) -> None:
            requests.append(exchange.body)
            await exchange.answer({"answer": "x"})

        async with loopback.serve(answer) as server:
            client = AsyncClient(KEY, base_url=server.base_url, model="moondream3-preview")
            async with browser(Proxy(client=client, models=["allowed"])) as page:
                headers = {"content-type": "application/json"}
                response = await page.post("/v1/query", content=body, headers=headers)
        assert response.status_code == status
        assert len(requests) == (status == 200)
        assert not any(b"dear" in request for request in requests)

    async def test_what_no_route_serves(self, sandbox: Sandbox, caplog: pytest.LogCaptureFixture):
        caplog.set_level(logging.INFO, logger="moondream_async.proxy")  # the command sets it, too
        async with browser(proxy_of(sandbox.base_url)) as client:
            responses = [await client.get("/v1/caption"), await client.get("/"), await client.post("/api/fal/proxy")]
        assert [response.status_code for response in responses] == [405, 404, 404]
        assert "FAL_KEY" in responses[2].json()["detail"]
        for response in responses:
            assert response.headers["x-content-type-options"] == "nosniff"
            assert f"request {response.headers['x-request-id']}" in caplog.text

    async def test_a_server_that_stops(self):
        with PooledSandbox(api_key=KEY, latency=5) as sandbox:
            sent: list[Any] = []
            app = proxy_of(sandbox.base_url)

            async def receive() -> Any:
                if not received:
                    received.append(1)
                    return {"type": "http.request", "body": b'{"question": "x"}', "more_body": False}
                return await asyncio.sleep(60)

            async def send(message: Any) -> None:
                sent.append(message)

            received: list[int] = []
            headers = [(b"host", b"localhost"), (b"content-type", b"application/json")]
            scope = {"type": "http", "http_version": "1.1", "method": "POST", "path": "/v1/query", "headers": headers}
            scope |= {"query_string": b"", "client": ("127.0.0.1", 9), "scheme": "http", "raw_path": b"/v1/query"}
            task = asyncio.create_task(app(scope, receive, send))
            await until(lambda: sandbox.requests == 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert sent[0]["status"] == 503
        assert "stopping" in json.loads(sent[1]["body"])["error"]["message"]

    async def test_cors(self, sandbox: Sandbox):
        app = proxy_of(sandbox.base_url, authorize=lambda _: True, origins=["https://app.example"])
        preflight = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
        async with browser(app) as client:
            origin = {"Origin": "https://app.example"}
            allowed = await client.options("/v1/query", headers={**origin, **preflight})
            assert allowed.headers["access-control-allow-origin"] == "https://app.example"
            response = await client.post("/v1/query", json={"question": "x"}, headers=origin)
            assert (response.status_code, response.headers["access-control-allow-origin"]) == (200, origin["Origin"])
            evil = {"Origin": "https://evil.example"}
            assert (await client.options("/v1/query", headers={**evil, **preflight})).status_code == 400
            refused = await client.post("/v1/query", json={"question": "x"}, headers=evil)
            assert refused.status_code == 403
            assert "access-control-allow-origin" not in refused.headers

    async def test_no_cors_by_default(self, sandbox: Sandbox):
        async with browser(proxy_of(sandbox.base_url)) as client:
            headers = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
            response = await client.options("/v1/query", headers=headers)
        assert response.status_code == 405
        assert "access-control-allow-origin" not in response.headers

    @pytest.mark.parametrize("origin", ["http://[", "http://a b", "http://user@localhost", "x" * 5000])
    async def test_malformed_origins(self, sandbox: PooledSandbox, origin: str):
        for options in ({}, {"authorize": lambda _: True}):
            async with browser(proxy_of(sandbox.base_url, **options)) as client:
                response = await client.post("/v1/query", json={}, headers={"Origin": origin})
            assert response.status_code == 403
        assert sandbox.requests == 0

    async def test_paths_that_are_almost_right(self, sandbox: PooledSandbox):
        async with browser(proxy_of(sandbox.base_url, sandbox.fal_url)) as client:
            assert (await client.post("/api/fal/proxy/", json={}, headers={"Host": "evil.example"})).status_code == 404
            assert (await client.post("/v1/chat", json={})).status_code == 403
        assert sandbox.requests == 0


class TestMiddleware:
    """Starlette's middleware for functions ends responses on its own."""

    @staticmethod
    def app(proxy: Proxy) -> FastAPI:
        app = FastAPI()

        @app.middleware("http")
        async def nothing(request: Request, call_next: Any) -> Any:
            return await call_next(request)

        app.mount("", proxy)
        return app

    async def test_stream_that_breaks_off(self):
        async def answer(exchange: Exchange) -> None:
            await exchange.start_stream()
            await exchange.event({"chunk": "a"})
            exchange.cut()

        async with loopback.serve(answer) as server, running(self.app(proxy_of(server.base_url))) as url:
            async with httpx.AsyncClient() as client:
                async with client.stream("POST", f"{url}/v1/query", json={"question": "x"}) as response:
                    lines = []
                    with contextlib.suppress(httpx.RemoteProtocolError):
                        lines += [line async for line in response.aiter_lines() if line]
        assert lines[-2] == "event: error"
        assert json.loads(lines[-1][6:])["status"] == 502

    async def test_browser_that_goes_away_before_the_response(self, caplog: pytest.LogCaptureFixture):
        begun, closed = asyncio.Event(), asyncio.Event()

        async def answer(exchange: Exchange) -> None:
            begun.set()
            await exchange.reader.read()
            closed.set()

        async with loopback.serve(answer) as server, running(self.app(proxy_of(server.base_url))) as url:
            async with httpx.AsyncClient() as client:
                call = asyncio.create_task(client.post(f"{url}/v1/query", json={"question": "x"}))
                await begun.wait()
                call.cancel()
                await asyncio.wait([call])
            await asyncio.wait_for(closed.wait(), 5)
        assert "Traceback" not in caplog.text


class TestFal:
    async def test_nothing_is_submitted_twice(self):
        """Not even if the server reads a request, and then cuts a connection that was used before."""
        received: list[str] = []

        async def answer(exchange: Exchange) -> None:
            received.append(exchange.head)
            if len(received) == 2:
                exchange.cut()
            else:
                await exchange.answer({"request_id": "r"})

        async with loopback.serve(answer) as server:
            async with browser(proxy_of("http://127.0.0.1:9/v1", server.base_url)) as client:
                headers = {"x-fal-target-url": f"{QUEUE}/fal-ai/moondream2"}
                statuses = [
                    (await client.post("/api/fal/proxy", json={}, headers=headers)).status_code for _ in range(2)
                ]
        assert statuses == [200, 502]
        assert len(received) == 2

    async def test_no_body_where_none_belongs(self, fal_sandbox: PooledSandbox):
        async with browser(proxy_of("http://127.0.0.1:9/v1", fal_sandbox.fal_url)) as client:
            headers = {"x-fal-target-url": f"{QUEUE}/fal-ai/moondream2/requests/1/cancel"}
            response = await client.put("/api/fal/proxy", json={"x": 1}, headers=headers)
        assert response.status_code == 400
        assert fal_sandbox.requests == 0

    async def test_queue(self, fal_sandbox: Sandbox, scene: bytes):
        async with browser(proxy_of("http://127.0.0.1:9/v1", fal_sandbox.fal_url)) as client:

            async def ask(method: str, url: str, body: Any = None) -> Any:
                response = await client.request(method, "/api/fal/proxy", json=body, headers={"x-fal-target-url": url})
                assert response.is_success, response.text
                TestKey.hunted(response, FAL_KEY)
                return response.json()

            endpoint = "fal-ai/moondream3-preview/caption"
            job = await ask("POST", f"{QUEUE}/{endpoint}", {"image_url": uri(scene)})
            request = f"{QUEUE}/fal-ai/moondream3-preview/requests/{job['request_id']}"
            async with asyncio.timeout(10):
                while (await ask("GET", f"{request}/status?logs=1"))["status"] != "COMPLETED":
                    await asyncio.sleep(0.02)
            assert "red" in (await ask("GET", request))["output"]
            assert "red" in (await ask("POST", f"https://fal.run/{endpoint}", {"image_url": uri(scene)}))["output"]
            upload = "https://rest.fal.ai/storage/upload/initiate?storage_type=fal-cdn-v3"
            urls = await ask("POST", upload, {"content_type": "image/png", "file_name": "a.png"})
            assert urls["upload_url"]

    async def test_status_stream(self, scene: bytes):
        with PooledSandbox(api_key=FAL_KEY, queue=0.05, work=0.05) as sandbox:
            async with browser(proxy_of("http://127.0.0.1:9/v1", sandbox.fal_url)) as client:
                target = f"{QUEUE}/fal-ai/moondream3-preview/caption"
                headers = {"x-fal-target-url": target}
                job = (await client.post("/api/fal/proxy", json={"image_url": uri(scene)}, headers=headers)).json()
                stream = f"{QUEUE}/fal-ai/moondream3-preview/requests/{job['request_id']}/status/stream"
                response = await client.get("/api/fal/proxy", headers={"x-fal-target-url": stream})
        assert response.headers["content-type"].startswith("text/event-stream")
        statuses = [json.loads(line[6:])["status"] for line in response.text.splitlines() if line]
        assert statuses == ["IN_QUEUE", "IN_PROGRESS", "COMPLETED"]

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ([], 400),
            ([("x-fal-target-url", f"{QUEUE}/fal-ai/moondream2"), ("x-fal-target-url", "https://evil.example/")], 400),
            ([("x-fal-target-url", "https://evil.example/fal-ai/moondream2")], 400),
            ([("x-fal-target-url", f"{QUEUE}/fal-ai/flux/dev")], 403),
            ([("x-fal-target-url", f"{QUEUE}/fal-ai/moondream2"), ("x-forwarded-for", "1.2.3.4")], 403),
            ([("x-fal-target-url", f"{QUEUE}/fal-ai/moondream2"), ("origin", "https://evil.example")], 403),
        ],
    )
    async def test_refused(self, fal_sandbox: PooledSandbox, headers: list[tuple[str, str]], status: int):
        async with browser(proxy_of("http://127.0.0.1:9/v1", fal_sandbox.fal_url)) as client:
            all_headers = [("content-type", "application/json"), *headers]
            response = await client.post("/api/fal/proxy", content=b"{}", headers=all_headers)
        assert response.status_code == status
        assert response.json()["detail"]
        assert fal_sandbox.requests == 0

    async def test_only_fals_headers_are_passed_on(self):
        async def answer(exchange: Exchange) -> None:
            headers = f"X-Fal-Request-Id: r1\r\nX-Fal-Echo: Key {FAL_KEY}\r\nSet-Cookie: a=b\r\nServer: secret\r\n"
            await exchange.answer({"head": exchange.head}, headers=headers)

        async with loopback.serve(answer) as server:
            async with browser(proxy_of("http://127.0.0.1:9/v1", server.base_url)) as client:
                headers = {
                    "x-fal-target-url": f"{QUEUE}/fal-ai/moondream2", "x-fal-queue-priority": "low", "cookie": "session=1",
                    "authorization": "Key browser", "x-fal-client-proxy": "other", "x-fal-long": "x" * 2000,
                }  # fmt: skip
                response = await client.post("/api/fal/proxy", json={}, headers=headers)
        TestKey.hunted(response, FAL_KEY)
        head = response.json()["head"].lower()
        assert "x-fal-queue-priority: low" in head
        for value in ("session", "browser", "target-url", "client-proxy", "x-fal-long"):
            assert value not in head
        assert response.headers["x-fal-request-id"] == "r1"
        assert "set-cookie" not in response.headers
        assert "server" not in response.headers

    async def test_without_fal(self, sandbox: Sandbox):
        async with browser(proxy_of(sandbox.base_url)) as client:
            response = await client.post(
                "/api/fal/proxy", json={}, headers={"x-fal-target-url": f"{QUEUE}/fal-ai/moondream2"}
            )
        assert response.status_code == 404

    async def test_from_the_environment(self, fal_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch):
        monkeypatch.setenv("MOONDREAM_BASE_URL", fal_sandbox.base_url)
        for name in ("FAL_KEY", "FAL_KEY_ID", "FAL_BASE_URL"):
            monkeypatch.delenv(name, raising=False)
        assert not Proxy().has_fal
        monkeypatch.setenv("FAL_KEY", FAL_KEY)
        monkeypatch.setenv("FAL_BASE_URL", fal_sandbox.fal_url)
        app = Proxy()
        assert app.has_fal
        async with browser(app) as client:
            headers = {"x-fal-target-url": f"{QUEUE}/fal-ai/moondream3-preview/caption"}
            assert (await client.post("/api/fal/proxy", json={}, headers=headers)).json()["status"] == "IN_QUEUE"
        await app.aclose()


@pytest.mark.parametrize(
    "options",
    [
        {"skills": ["ocr"]},
        {"fal_endpoints": ["x y"]},
        {"origins": ["app"]},
        {"max_body": 0},
        {"rate_limit": -1},
        {"max_concurrent": 0},
    ],
)
def test_bad_arguments(options: dict[str, Any]):
    with pytest.raises(ConfigurationError):
        proxy_of("http://127.0.0.1:9/v1", "http://127.0.0.1:9/fal", authorize=lambda _: True, **options)


async def test_several_servers():
    async def answer(exchange: Exchange) -> None:
        await exchange.answer({"answer": "x"})

    async with loopback.serve(answer) as first, loopback.serve(answer) as second:
        client = AsyncClient(base_url=["http://127.0.0.1:9/v1", first.base_url, second.base_url])
        async with browser(Proxy(client=client, rate_limit=None)) as caller:
            responses = [await caller.post("/v1/query", json={"question": "x"}) for _ in range(20)]
        assert [response.status_code for response in responses].count(200) >= 18  # one that is not there rests
        assert min(first.requests, second.requests) >= 1
        assert all(server.in_flight == 0 for server in client.stats.servers)
        await client.aclose()
