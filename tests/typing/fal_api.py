"""The types of all calls of the fal.ai clients; checked by mypy and pyright, never run."""

from pathlib import Path
from typing import Any, assert_type

import moondream_async as md
from moondream_async import fal
from moondream_async.fal import AsyncFalClient, AsyncRequestHandle, BatchedResult, FalClient, RequestHandle, Status


async def asynchronous(client: AsyncFalClient) -> None:
    assert_type(await client.query("a.jpg", "?"), md.QueryResult)
    assert_type(await client.caption("a.jpg"), md.CaptionResult)
    assert_type(await client.detect("a.jpg", ["a"]), md.DetectResult)
    assert_type(await client.point("a.jpg", "a"), md.PointResult)
    assert_type(await client.segment("a.jpg", "a"), md.SegmentResult)
    assert_type(await client.batched(["a.jpg", ("b.jpg", "?")]), BatchedResult)
    handle = await client.submit("a/b", {"x": b""})
    assert_type(handle, AsyncRequestHandle)
    async for status in handle.events(logs=True):
        assert_type(status, Status)
    assert_type(await handle.cancel(), bool)
    assert_type(await client.upload(b""), str)


def synchronous(client: FalClient) -> None:
    assert_type(client.query("a.jpg", "?"), md.QueryResult)
    assert_type(client.batched(["a.jpg"]), BatchedResult)
    assert_type(client.submit("a/b", {}), RequestHandle)
    assert_type(client.handle("a/b", "id"), RequestHandle)
    for status in client.handle("a/b", "id").events():
        assert_type(status, Status)
    assert_type(client.subscribe("a/b", {}), Any)


async def functions(path: Path) -> None:
    assert_type(fal.subscribe("fal-ai/moondream/batched", {}, with_logs=True, client_timeout=3), Any)
    assert_type(await fal.subscribe_async("fal-ai/moondream/batched", {}), Any)
    assert_type(fal.submit("fal-ai/moondream/batched", {}), fal.RequestHandle)
    assert_type(await fal.submit_async("fal-ai/moondream/batched", {}), fal.AsyncRequestHandle)
    assert_type(fal.status("fal-ai/moondream/batched", "id"), fal.Status)
    assert_type(await fal.upload_file_async(path), str)
    assert_type(fal.encode_file(path), str)
    fal.run("fal-ai/moondream/batched", {})  # type: ignore[attr-defined]  # pyright: ignore
