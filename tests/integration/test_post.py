"""`client.post`: requests that this version does not know."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest
import respx

from moondream_async import APIError, AsyncClient, Client, ConfigurationError, Hooks, NotFoundError
from tests.support import loopback
from tests.support.sandboxes import PooledSandbox

BASE = "https://api.moondream.ai/v1"
KEY = "k" * 20


@pytest.mark.parametrize("path", ["new/skill", "/new/skill"])
@respx.mock
async def test_dict(path: str):
    route = respx.post(f"{BASE}/new/skill").mock(return_value=httpx.Response(200, json={"masks": [1]}))
    async with AsyncClient(KEY) as client:
        assert await client.post(path, {"image_url": "x", "n": 1}) == {"masks": [1]}
    request = route.calls.last.request
    assert json.loads(request.content) == {"image_url": "x", "n": 1}
    assert request.headers["x-moondream-auth"] == KEY


@respx.mock
async def test_read():
    respx.post(f"{BASE}/list").mock(return_value=httpx.Response(200, json=[1, 2]))
    async with AsyncClient(KEY) as client:
        assert await client.post("list", {}, read=sum) == 3
        with pytest.raises(APIError, match="instead of an object"):
            await client.post("list", {})
        with pytest.raises(ZeroDivisionError):  # errors of the given function are not changed
            await client.post("list", {}, read=lambda _: 1 / 0)


@respx.mock
async def test_retries_hooks_and_errors():
    answers = [httpx.Response(503), httpx.Response(200, json={"a": 1})]
    respx.post(f"{BASE}/thing").mock(side_effect=answers)
    respx.post(f"{BASE}/none").mock(return_value=httpx.Response(404, json={"error": {"message": "no such route"}}))
    seen: list[str] = []
    hooks = Hooks(request=lambda info: seen.append(f"{info.call.operation} {info.attempt}"))
    async with AsyncClient(KEY, hooks=hooks, retry=2) as client:
        assert await client.post("thing", {}) == {"a": 1}
        with pytest.raises(NotFoundError, match="no such route"):
            await client.post("none", {})
    assert seen == ["thing 1", "thing 2", "none 1"]


def test_sync(scene: bytes):
    with PooledSandbox() as sandbox, Client(base_url=sandbox.base_url) as client:
        image = client.encode_image(scene).image_url
        assert "red" in client.post("caption", {"image_url": image})["caption"]


async def test_of_several_servers_the_first_gets_it():
    async def answer(exchange: loopback.Exchange) -> None:
        await exchange.answer({"x": 1})

    async with loopback.serve(answer) as first, loopback.serve(answer) as second:
        async with AsyncClient(base_url=[first.base_url, second.base_url]) as client:
            for _ in range(6):
                await client.post("x", {})
        assert (first.requests, second.requests) == (6, 0)


@pytest.mark.parametrize(
    "path",
    ["", "/", "//x", "a//b", "../x", "a/../b", "https://evil.example/x", "a?b=c", "a#b", "a b", "a\n", "é", 5, None],
)
@pytest.mark.parametrize("base_url", [BASE])
async def test_bad_paths(path: Any, base_url: str):
    async with AsyncClient(KEY, base_url=base_url) as client:
        with pytest.raises(ConfigurationError, match="path must be"):
            await client.post(path, {})


async def test_streams_are_refused():
    async with AsyncClient(KEY) as client:
        with pytest.raises(ConfigurationError, match="post reads no streams"):
            await client.post("caption", {"stream": True})
        assert client.stats.requests == 0


@pytest.mark.parametrize("body", [None, [1], "x", {"a": {1, 2}}, {"a": float("nan")}])
async def test_bad_bodies(body: Any):
    async with AsyncClient(KEY) as client:
        with pytest.raises(ConfigurationError, match="body must"):
            await client.post("x", body)
