"""Uploads: all kinds of values, whole and in parts, anywhere in the arguments."""

from __future__ import annotations

import asyncio
import io
import json
import os
import tracemalloc
from pathlib import Path
from typing import Any

import httpx
import numpy
import pytest
from PIL import Image

import moondream_async as md
from moondream_async import APIConnectionError, ConfigurationError, EncodedImage, RetryPolicy, ServerError
from moondream_async._fal import uploads
from moondream_async.fal import AsyncFalClient, Lifecycle
from moondream_async.sandbox import Sandbox
from tests.support.fal import KEY
from tests.support.loopback import Exchange, serve
from tests.support.sandboxes import PooledSandbox

ECHO = "sandbox/echo"
QUICK = RetryPolicy(attempts=4, backoff=0.01)


def stored(sandbox: Sandbox, url: str) -> Any:
    return sandbox._app.state.fal.storage.files[url.split("/files/b/")[1].split("/")[0]]


@pytest.mark.parametrize(
    "kind", ["path", "text", "bytes", "bytearray", "memoryview", "file", "encoded", "image", "array"]
)
async def test_kinds_of_values(
    kind: str, fal: AsyncFalClient, fal_sandbox: Sandbox, tmp_path: Path, scene: bytes
) -> None:
    path = tmp_path / "scène.png"
    path.write_bytes(scene)
    image = Image.open(io.BytesIO(scene))
    value: Any = {
        "path": path,
        "text": str(path),
        "bytes": scene,
        "bytearray": bytearray(scene),
        "memoryview": memoryview(scene),
        "file": io.BytesIO(scene),
        "encoded": EncodedImage.of(scene, media_type="image/png", size=(640, 480), original=(640, 480)),
        "image": image,
        "array": numpy.asarray(image),
    }[kind]
    file = stored(fal_sandbox, await fal.upload(value))
    assert file.complete
    if kind not in ("image", "array"):
        assert file.path.read_bytes() == scene
        assert file.media_type == "image/png"
    assert file.name == ("sc_ne.png" if kind in ("path", "text") else "file.bin")
    assert "red square" in (await fal.caption(await fal.upload(value))).caption


async def test_names_types_and_lifecycles(fal: AsyncFalClient, fal_sandbox: Sandbox, tmp_path: Path) -> None:
    url = await fal.upload(b"a,b", content_type="text/csv", file_name="t.csv", lifecycle=Lifecycle(expires_in="1h"))
    file = stored(fal_sandbox, url)
    assert (file.name, file.media_type) == ("t.csv", "text/csv")
    assert json.loads(file.lifecycle) == {"expiration_duration_seconds": 3600}
    path = tmp_path / "a.zip"
    path.write_bytes(b"PK")
    assert stored(fal_sandbox, await fal.upload(path)).media_type == "application/zip"
    assert stored(fal_sandbox, await fal.upload(b"?")).media_type == "application/octet-stream"


async def test_the_token_is_fetched_once(fal_sandbox: Sandbox, scene: bytes) -> None:
    async with AsyncFalClient(KEY, base_url=fal_sandbox.fal_url) as client:
        for _ in range(3):
            await client.upload(scene)
        assert client.stats.requests == 4


@pytest.mark.parametrize("fault", [{}, {"on": "part", "drop": True, "times": 3}, {"on": "complete", "drop": True}])
@pytest.mark.parametrize("from_disk", [True, False])
async def test_uploads_in_parts(fault: Any, from_disk: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_MULTIPART_ABOVE", 1000)
    monkeypatch.setattr(uploads, "PART_SIZE", 4096)
    data = bytes(range(256)) * 200 + b"end"
    path = tmp_path / "large.bin"
    path.write_bytes(data)
    with PooledSandbox(api_key=KEY, **fault) as sandbox:
        async with AsyncFalClient(KEY, base_url=sandbox.fal_url, retry=QUICK) as client:
            url = await client.upload(path if from_disk else data)
            assert stored(sandbox, url).path.read_bytes() == data
            assert len(stored(sandbox, url).etags) == 13
            assert client.stats.retries == (0 if not fault else fault.get("times", 1))


async def test_a_large_file_is_streamed_from_disk(fal_sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        file.truncate(120 * 1024 * 1024)
    async with AsyncFalClient(KEY, base_url=fal_sandbox.fal_url) as client:
        await client.upload(b"warm")
        tracemalloc.start()
        try:
            url = await client.upload(path)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert stored(fal_sandbox, url).path.stat().st_size == 120 * 1024 * 1024
    assert peak < 40 * 1024 * 1024  # client and sandbox together


async def test_parts_that_fail_fail_the_upload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_MULTIPART_ABOVE", 10)
    with PooledSandbox(api_key=KEY, on="part", status=503, times=0) as sandbox:
        async with AsyncFalClient(KEY, base_url=sandbox.fal_url, retry=QUICK) as client:
            with pytest.raises(ServerError):
                await client.upload(b"x" * 100)


async def test_the_number_of_parts_is_limited(
    monkeypatch: pytest.MonkeyPatch, fal: AsyncFalClient, fal_sandbox: Sandbox
) -> None:
    monkeypatch.setattr(uploads, "_MULTIPART_ABOVE", 10)
    monkeypatch.setattr(uploads, "PART_SIZE", 10)
    monkeypatch.setattr(uploads, "_MAX_PARTS", 7)
    url = await fal.upload(b"x" * 701)
    assert len(stored(fal_sandbox, url).etags) == 7
    assert stored(fal_sandbox, url).path.stat().st_size == 701


async def test_the_fallback_when_the_store_is_down(scene: bytes) -> None:
    """The presigned URL gets neither key nor token: the sandbox would refuse them."""
    with PooledSandbox(api_key=KEY, on="upload", status=500, times=0) as sandbox:
        async with AsyncFalClient(KEY, base_url=sandbox.fal_url, retry=QUICK) as client:
            url = await client.upload(scene, file_name="a.png")
            assert stored(sandbox, url).path.read_bytes() == scene
            assert "red square" in (await client.caption(url)).caption


async def test_a_presigned_host_never_sees_the_key(scene: bytes) -> None:
    heads: list[str] = []

    async def store_file(exchange: Exchange) -> None:
        heads.append(exchange.head.lower())
        await exchange.answer(b"")

    async with serve(store_file) as bucket:

        async def handler(exchange: Exchange) -> None:
            path = exchange.head.split()[1]
            if path.startswith("/rest/storage/auth/token"):
                await exchange.answer({"token": "t", "token_type": "Bearer", "expires_at": "2099-01-01T00:00:00Z"})
            elif path.startswith("/rest/storage/upload/initiate"):
                await exchange.answer({"upload_url": bucket.base_url + "/put?signature=s", "file_url": "https://f/x"})
            else:
                await exchange.answer({"detail": "broken"}, status=500)

        async with serve(handler) as server:
            async with AsyncFalClient(KEY, base_url=server.base_url.removesuffix("/v1"), retry=1) as client:
                assert await client.upload(scene) == "https://f/x"
    assert len(heads) == 1
    assert heads[0].startswith("put /v1/put?signature=s ")
    assert "authorization" not in heads[0]
    assert "the-secret" not in heads[0]


async def test_binary_values_anywhere_in_the_arguments(fal_sandbox: Sandbox, tmp_path: Path, scene: bytes) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(scene)
    small = Image.new("RGB", (9, 9), "red")
    arguments = {"a": [{"image": path, "n": 1}, scene, [small]], "b": small, "c": "plain", "d": None, "e": (1.5, True)}
    for limit, prefix in ((10_000_000, "data:image/"), (0, f"{fal_sandbox.fal_url}/cdn/files/b/")):
        async with AsyncFalClient(KEY, base_url=fal_sandbox.fal_url, inline_limit=limit) as client:
            echoed = (await client.subscribe(ECHO, arguments))["arguments"]
            requests = client.stats.requests
        assert echoed["c"] == "plain"
        assert echoed["d"] is None
        assert echoed["e"] == [1.5, True]
        assert echoed["a"][0]["n"] == 1
        values = [echoed["a"][0]["image"], echoed["a"][1], echoed["a"][2][0], echoed["b"]]
        assert all(value.startswith(prefix) for value in values)
        assert values[2] == values[3]  # the same image is uploaded once
        assert (requests > 4) is (limit == 0)
    assert arguments["b"] is small  # the caller's arguments are not changed


async def test_values_that_cannot_be_sent(fal: AsyncFalClient, tmp_path: Path) -> None:
    circle: dict[str, Any] = {}
    circle["self"] = circle
    for arguments, message in (
        ({"a": {"b": [object()]}}, r"arguments\.a\.b\[0\] \(a object\)"),
        ({"a": tmp_path / "none.png"}, r"arguments\.a \(a \w+Path\): .* cannot be read"),
        ({"a": tmp_path}, "cannot be read|not a regular file"),
        (circle, "nested too deeply"),
        ({"a": {1, 2}}, r"\(a set\)"),
    ):
        with pytest.raises(ConfigurationError, match=message):
            await fal.submit(ECHO, arguments)
    assert fal.stats.requests == 0


async def test_large_images_of_skills_are_uploaded(fal_sandbox: Sandbox, scene: bytes) -> None:
    async with AsyncFalClient(KEY, base_url=fal_sandbox.fal_url, inline_limit=10) as client:
        result = await client.detect(scene, ["red", "blue"])
        assert len(result.objects) == 2
        requests = client.stats.requests
    assert requests == 1 + 1 + 2 * 3  # a token, one upload for both labels; submit, stream and result for each


async def test_a_file_that_shrinks_during_the_upload(
    fal_sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"x" * 1000)
    real = uploads.blob_of

    def shrink_file(*args: Any) -> Any:
        blob = real(*args)
        path.write_bytes(b"x")
        return blob

    monkeypatch.setattr(uploads, "blob_of", shrink_file)
    async with AsyncFalClient(KEY, base_url=fal_sandbox.fal_url, retry=1) as client:
        with pytest.raises(APIConnectionError, match="became shorter"):
            await client.upload(path)


async def test_a_file_with_a_lifecycle_does_not_use_the_fallback(scene: bytes) -> None:
    with PooledSandbox(api_key=KEY, on="upload", status=503, times=0) as sandbox:
        async with AsyncFalClient(KEY, base_url=sandbox.fal_url, retry=QUICK) as client:
            with pytest.raises(ServerError):
                await client.upload(scene, lifecycle=Lifecycle(default="hide"))


@pytest.mark.parametrize("large", [False, True])
async def test_a_refused_token_is_replaced(large: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if large:
        monkeypatch.setattr(uploads, "_MULTIPART_ABOVE", 10)
    with PooledSandbox(api_key=KEY) as sandbox:
        async with AsyncFalClient(KEY, base_url=sandbox.fal_url, retry=QUICK) as client:
            await client.upload(b"x")
            sandbox._app.state.fal.tokens.clear()
            await client.upload(b"x" * 100)


@pytest.mark.parametrize("status", [500, 503, 401])
async def test_parts_are_retried(status: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_MULTIPART_ABOVE", 10)
    with PooledSandbox(api_key=KEY, on="part", status=status, times=1) as sandbox:
        async with AsyncFalClient(KEY, base_url=sandbox.fal_url, retry=QUICK) as client:
            url = await client.upload(b"x" * 100)
            assert stored(sandbox, url).path.stat().st_size == 100


async def test_closing_the_client_during_an_upload(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "_MULTIPART_ABOVE", 10)
    monkeypatch.setattr(uploads, "PART_SIZE", 10)
    with PooledSandbox(api_key=KEY, on="part", latency=0.2) as sandbox:
        client = AsyncFalClient(KEY, base_url=sandbox.fal_url, retry=1)
        task = asyncio.create_task(client.upload(b"x" * 1000))
        await asyncio.sleep(0.1)
        await client.aclose()
        with pytest.raises((ConfigurationError, APIConnectionError)):
            await task


async def test_mappings_that_create_their_values_on_demand(fal: AsyncFalClient) -> None:
    class Lazy(dict[str, Any]):
        def items(self) -> Any:
            return ((name, {"value": f"{name}".encode() * 50}) for name in self)

    arguments = {"outer": Lazy.fromkeys("abcdef")}
    echoed = (await fal.subscribe(ECHO, arguments))["arguments"]["outer"]
    assert len({value["value"] for value in echoed.values()}) == 6


async def test_a_file_that_can_only_be_read_once(fal_sandbox: Sandbox) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "wb") as out:
        out.write(b"x" * 5000)
    async with AsyncFalClient(KEY, base_url=fal_sandbox.fal_url, inline_limit=10) as client:
        with os.fdopen(reader, "rb") as file:
            url = (await client.subscribe(ECHO, {"f": file}))["arguments"]["f"]
    assert stored(fal_sandbox, url).path.stat().st_size == 5000


async def test_numpy_scalars(fal: AsyncFalClient) -> None:
    arguments = {"a": numpy.float32(0.5), "b": numpy.int64(3), "c": numpy.bool_(True)}
    assert (await fal.subscribe(ECHO, arguments))["arguments"] == {"a": 0.5, "b": 3, "c": True}


async def test_file_names_and_media_types_are_checked(
    fal: AsyncFalClient, fal_sandbox: Sandbox, tmp_path: Path
) -> None:
    with pytest.raises(ConfigurationError, match="content_type"):
        await fal.upload(b"x", content_type="im\r\nage")
    file = stored(fal_sandbox, await fal.upload(b"x", file_name="a\r\nX-Evil: 1 #?.txt"))
    assert "\n" not in file.name
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="regular"):
        await fal.upload(tmp_path / "pipe")


async def test_headers_of_hooks_are_not_sent_to_presigned_urls() -> None:
    seen: dict[str, bool] = {}

    def answer(request: httpx.Request) -> httpx.Response:
        seen[f"{request.method} {request.url.path}"] = "x-trace" in request.headers
        if request.url.path == "/storage/upload/initiate":
            urls = {"upload_url": "https://93.184.216.34/put", "file_url": "https://v3.fal.media/a"}
            return httpx.Response(200, json=urls)
        return httpx.Response(200 if request.method == "PUT" else 500)

    hooks = md.Hooks(request=lambda info: info.headers.update({"X-Trace": "a-trace"}))
    transport = httpx.MockTransport(answer)
    async with AsyncFalClient("an-id:a-secret-of-fal", retry=1, hooks=hooks, http_client=transport) as fal:
        assert await fal.upload(b"data") == "https://v3.fal.media/a"
    assert seen["POST /storage/upload/initiate"]
    assert not seen["PUT /put"]
