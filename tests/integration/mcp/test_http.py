"""Over streamable HTTP: the same tools, for this machine only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp import Client
from mcp_types import ListRootsResult, Root

from moondream_async import AsyncClient
from moondream_async.mcp import create_app, create_server
from tests.support.loopback import until
from tests.support.sandboxes import PooledSandbox
from tests.support.servers import running

INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}
HEADERS = {"Accept": "application/json, text/event-stream"}


@asynccontextmanager
async def serving(tmp_path: Path, latency: float = 0.0, **options: Any) -> AsyncGenerator[tuple[str, AsyncClient]]:
    with PooledSandbox(latency=latency) as sandbox:
        async with AsyncClient(base_url=sandbox.base_url) as client:
            app = create_app(create_server(client, output=tmp_path / "output", **options))
            async with running(app) as url:
                yield url, client


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_tools_progress_and_pictures(mode: Any, root: Path, tmp_path: Path) -> None:
    progress: list[float] = []

    async def on_progress(done: float, total: float | None, message: str | None) -> None:
        progress.append(done)

    async with serving(tmp_path, roots=[root]) as (url, _), Client(f"{url}/mcp", mode=mode) as agent:
        assert len((await agent.list_tools()).tools) == 10
        found = await agent.call_tool("annotate", {"image": "scene.png", "object": "red"})
        assert [block.type for block in found.content] == ["text", "image"]
        assert len(found.structured_content["objects"]) == 1  # type: ignore[index]
        many = [agent.call_tool("caption", {"image": "scene.png"}) for _ in range(10)]
        assert not any(each.is_error for each in await asyncio.gather(*many))
        await agent.call_tool("find_in_folder", {"folder": ".", "object": "red"}, progress_callback=on_progress)
        await until(lambda: progress[-1:] == [2])


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_a_cancelled_call_is_stopped(mode: Any, root: Path, tmp_path: Path) -> None:
    async with serving(tmp_path, latency=60.0, roots=[root]) as (url, client):
        async with Client(f"{url}/mcp", mode=mode) as agent:
            await agent.list_tools()
            call = asyncio.create_task(agent.call_tool("caption", {"image": "scene.png"}))
            await until(lambda: client.stats.requests == 1)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await until(lambda: client.stats.in_flight == 0)
            assert not (await agent.call_tool("estimate_cost", {})).is_error


@pytest.mark.parametrize("mode", ["auto", "legacy"])
async def test_the_roots_of_the_client_do_not_count(mode: Any, root: Path, tmp_path: Path, monkeypatch: Any) -> None:
    asked: list[Any] = []

    async def list_roots(context: Any) -> ListRootsResult:
        asked.append(context)
        return ListRootsResult(roots=[Root(uri=tmp_path.as_uri())])  # type: ignore[arg-type]

    monkeypatch.chdir(root)
    async with serving(tmp_path) as (url, _):
        async with Client(f"{url}/mcp", mode=mode, list_roots_callback=list_roots) as agent:
            assert (await agent.call_tool("caption", {"image": str(tmp_path / "secret.png")})).is_error
            assert not (await agent.call_tool("caption", {"image": "scene.png"})).is_error
    assert not asked


async def test_who_may_call(root: Path, tmp_path: Path) -> None:
    cases: list[tuple[dict[str, str], int]] = [
        ({}, 200),
        ({"Origin": "{url}"}, 200),
        ({"Origin": "https://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://127.0.0.1:1"}, 403),
        ({"Host": "evil.example"}, 403),
        ({"Host": "127.0.0.1.evil.example"}, 403),
        ({"X-Forwarded-For": "203.0.113.9"}, 403),
        ({"Forwarded": "for=203.0.113.9"}, 403),
        ({"Via": "1.1 proxy"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
    ]
    async with serving(tmp_path, roots=[root]) as (url, _), httpx.AsyncClient(trust_env=False) as browser:
        for headers, status in cases:
            headers = {name: value.format(url=url) for name, value in headers.items()}
            response = await browser.post(f"{url}/mcp", json=INITIALIZE, headers={**HEADERS, **headers})
            assert response.status_code == status, headers
            if status == 403:
                assert response.json()["error"].startswith("Only programs of this machine may call this server")
        got = await browser.get(f"{url}/mcp", headers={**HEADERS, "Host": "evil.example"})
        assert got.status_code == 403


async def test_other_machines_may_not_call(root: Path, tmp_path: Path) -> None:
    async with AsyncClient(base_url="http://localhost:1/v1") as client:
        app: Any = create_app(create_server(client, roots=[root], output=tmp_path / "output"))
        transport = httpx.ASGITransport(app, client=("192.168.0.7", 50_000))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8080") as other:
            response = await other.post("/mcp", json=INITIALIZE, headers=HEADERS)
    assert response.status_code == 403


async def test_errors_do_not_end_the_server(root: Path, tmp_path: Path) -> None:
    async with serving(tmp_path, roots=[root]) as (url, _), httpx.AsyncClient(trust_env=False) as raw:
        for content in (b"", b"{", b"[]", b"\xff", b'{"jsonrpc": "2.0"}', b"{" * 100_000):
            headers = {**HEADERS, "Content-Type": "application/json"}
            assert 400 <= (await raw.post(f"{url}/mcp", content=content, headers=headers)).status_code < 500
        async with Client(f"{url}/mcp") as agent:
            assert not (await agent.call_tool("caption", {"image": "scene.png"})).is_error
