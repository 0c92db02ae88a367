"""Clients with a cache."""

from __future__ import annotations

import io
import json
import logging
import pickle
import sqlite3
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from PIL import Image

from moondream_async import (
    APIConnectionError,
    AsyncClient,
    Cache,
    Client,
    ConfigurationError,
    EncodedImage,
    ImageError,
    ImageOptions,
    Prices,
    ServerError,
    StreamInterruptedError,
    Tiles,
)
from tests.support.loopback import Exchange, serve

BASE = "http://localhost:2020/v1"
ANSWERS = {
    "query": {"answer": "42", "request_id": "r"},
    "caption": {"caption": "A cat."},
    "detect": {"objects": [{"x_min": 0.1, "y_min": 0.1, "x_max": 0.2, "y_max": 0.2, "score": 0.5}]},
    "point": {"points": [{"x": 0.1, "y": 0.2}], "new": [1]},
    "segment": {"path": "M 0 0 L 1 0 L 1 1 Z", "bbox": {"x_min": 0.1, "y_min": 0.1, "x_max": 0.2, "y_max": 0.2}},
}


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "answers.sqlite")


@pytest.fixture
def client(cache: Cache) -> AsyncClient:
    return AsyncClient(base_url=BASE, cache=cache, retry=1)


def answers() -> respx.Route:
    def answer(request: httpx.Request) -> httpx.Response:
        metrics = {"input_tokens": 735, "output_tokens": 9}
        return httpx.Response(200, json={**ANSWERS[request.url.path.rpartition("/")[2]], "metrics": metrics})

    return respx.post(url__startswith=BASE).mock(side_effect=answer)


CALLS: dict[str, dict[str, Any]] = {
    "query": {"question": "How many?", "settings": {"temperature": 0}},
    "caption": {"length": "short"},
    "detect": {"object": "cat", "settings": {"max_objects": 1}},
    "point": {"object": "cat"},
    "segment": {"object": "cat"},
}


@respx.mock
@pytest.mark.parametrize("skill", CALLS)
async def test_the_same_call_is_sent_once(skill: str, client: AsyncClient, scene: bytes):
    route = answers()
    call = getattr(client, skill)
    first = await call(scene, **CALLS[skill])
    second = await call(io.BytesIO(scene), **CALLS[skill])
    assert route.call_count == 1
    assert second == first
    assert (first.meta.cached, second.meta.cached, second.meta.attempts, second.meta.status) == (False, True, 0, 200)
    assert second.image_size == first.image_size
    assert second.to_dict() == first.to_dict()
    if skill in ("detect", "point"):
        assert second.truncated is first.truncated is (skill == "detect")
    assert client.stats.requests == 1
    assert client.stats.input_tokens == 735


@respx.mock
async def test_calls_that_differ_are_sent(client: AsyncClient, cache: Cache, scene: bytes, tiny: EncodedImage):
    route = answers()
    calls = [
        lambda: client.caption(scene),
        lambda: client.caption(scene, "short"),
        lambda: client.caption(scene, settings={"temperature": 0.5}),
        lambda: client.caption(scene, extra_body={"new": 1}),
        lambda: client.caption(tiny),
        lambda: client.caption(scene + b"\0"),
        lambda: client.with_options(model="other").caption(scene),
        lambda: client.with_options(image_options=ImageOptions(resize=100)).caption(scene),
        lambda: AsyncClient(base_url="http://localhost:2021/v1", cache=cache).caption(scene),
        lambda: client.query(scene, "A cat?"),
        lambda: client.query(question="A cat?"),
        lambda: client.query(question="A cat?", reasoning=True),
        lambda: client.detect(scene, "cat"),
        lambda: client.point(scene, "cat"),
        lambda: client.point(scene, "cat", spatial_refs=[(0.5, 0.5)]),
    ]
    respx.post(url__startswith="http://localhost:2021").respond(json=ANSWERS["caption"])
    for _ in range(2):
        cached = [(await call()).meta.cached for call in calls]
    assert all(cached)
    assert route.call_count == len(calls) - 1
    assert len(cache) == len(calls)


@respx.mock
async def test_equal_content_is_the_same_image(client: AsyncClient, scene: bytes, tmp_path: Path):
    route = answers()
    path = tmp_path / "a.jpg"
    path.write_bytes(scene)
    for image in (scene, path, str(path), io.BytesIO(scene)):
        await client.caption(image)
    assert route.call_count == 1
    other = tmp_path / "b.jpg"
    other.write_bytes(scene)
    assert (await client.caption(other)).meta.cached
    path.write_bytes(scene + b"\0")
    assert not (await client.caption(path)).meta.cached


@respx.mock
async def test_pixels_and_how_they_are_shown(client: AsyncClient):
    route = answers()
    picture = Image.new("RGB", (8, 8), "red")
    turned = picture.copy()
    turned.getexif()[0x0112] = 6
    paletted = picture.convert("P", palette=Image.Palette.ADAPTIVE)
    transparent = picture.copy()
    transparent.info["transparency"] = (255, 0, 0)
    pictures = [
        picture,
        turned,
        paletted,
        transparent,
        Image.new("RGB", (8, 8), "blue"),
        Image.new("RGB", (4, 16), "red"),
    ]
    for _ in range(2):
        for each in pictures:
            await client.caption(each)
    assert route.call_count == len(pictures)
    assert (await client.caption(picture.copy())).meta.cached


@respx.mock
async def test_errors_are_not_kept(client: AsyncClient, cache: Cache, scene: bytes):
    responses = [
        httpx.Response(500),
        httpx.Response(200, json={"error": "Queue is full"}),
        httpx.Response(200, json={"caption": "x", "finish_reason": "error"}),
        httpx.Response(200, json={"caption": "x"}),
    ]
    route = respx.post(url__startswith=BASE).mock(side_effect=responses)
    with pytest.raises(ServerError):
        await client.caption(scene)
    with pytest.raises(Exception, match="full"):
        await client.caption(scene)
    assert len(cache) == 0
    assert (await client.caption(scene)).finish_reason == "error"
    assert len(cache) == 0
    await client.caption(scene)
    assert (await client.caption(scene)).meta.cached
    assert route.call_count == 4


async def test_streams(cache: Cache, scene: bytes, moondream_sandbox: Any):
    async with AsyncClient(base_url=moondream_sandbox.base_url, cache=cache) as client:
        async with await client.caption(scene, stream=True) as stream:
            pieces = [piece async for piece in stream]
        first = await stream.result()
        async with await client.caption(scene, stream=True) as again:
            text = [piece async for piece in again]
        second = await again.result()
        assert len(pieces) > 1
        assert text == ["".join(pieces)]
        assert second == first
        assert (first.meta.cached, second.meta.cached) == (False, True)
        assert second.image_size == first.image_size
        assert (await client.caption(scene)).meta.cached  # streamed or not
        outline = await (await client.segment(scene, "red", stream=True)).result()
        updates = [update async for update in await client.segment(scene, "red", stream=True)]
        assert [update.get("completed") for update in updates] == [True]
        assert updates[0].path == outline.path
        assert updates[0].bbox == outline.bbox
        assert client.stats.requests == 2


async def test_streams_that_were_cut_are_not_kept(cache: Cache, tiny: EncodedImage):
    async def cut(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.event({"chunk": "A c"})
        exchange.cut()

    async with serve(cut) as server, AsyncClient(base_url=server.base_url, cache=cache, retry=1) as client:
        with pytest.raises((StreamInterruptedError, APIConnectionError)):
            await (await client.caption(tiny, stream=True)).result()
    assert len(cache) == 0


@respx.mock
async def test_labels_and_tiles_are_kept_one_by_one(client: AsyncClient, scene: bytes):
    route = answers()
    await client.detect(scene, "cat")
    found = await client.detect(scene, ["cat", "dog"])
    assert found.by_label is not None
    assert [each.meta.cached for each in found.by_label.values()] == [False, False]  # cut from one encoded image
    again = await client.detect(scene, ["dog", "cat"])
    assert again.meta.cached
    large = Image.new("RGB", (1600, 1200), "red")
    await client.detect(large, "cat", tiles=Tiles(2, 2))
    before = route.call_count
    assert (await client.detect(large, "cat", tiles=Tiles(2, 2))).meta.cached
    assert route.call_count == before


@respx.mock
async def test_map_and_run(client: AsyncClient, scene: bytes, tmp_path: Path):
    route = answers()
    await client.caption(scene)
    prices = Prices(1000, 1000)  # 0.74 dollars an answer
    outcomes = [each async for each in client.map("caption", [scene] * 5, max_cost=1, prices=prices)]
    assert [each.result.meta.cached for each in outcomes] == [True] * 5
    summary = await client.run("caption", [("a", scene)], tmp_path / "out.jsonl", prices=prices)
    assert (summary.succeeded, summary.input_tokens, summary.cost) == (1, 0, 0)
    assert route.call_count == 1


@respx.mock
def test_sync_and_pickling(cache: Cache, scene: bytes):
    route = answers()
    with Client(base_url=BASE, cache=cache) as client:
        client.caption(scene)
        with pickle.loads(pickle.dumps(client)) as copy:
            assert copy.caption(scene).meta.cached
        assert client.with_options(timeout=5).caption(scene).meta.cached
    assert route.call_count == 1


@respx.mock
async def test_what_cannot_work_is_said_before_anything_is_paid(tmp_path: Path, scene: bytes):
    route = answers()
    (tmp_path / "text").write_text("no database " * 100)
    client = AsyncClient(base_url=BASE, cache=Cache(tmp_path / "text"))
    with pytest.raises(ConfigurationError, match="cannot be used"):
        await client.caption(scene)
    with pytest.raises(ConfigurationError, match="cannot be used"):
        await client.caption(scene, stream=True)
    with pytest.raises(ConfigurationError, match="cache must be a Cache"):
        AsyncClient(base_url=BASE, cache="answers.sqlite")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    good = AsyncClient(base_url=BASE, cache=Cache(tmp_path / "good"))
    with pytest.raises(ImageError, match="nowhere"):
        await good.caption("nowhere.jpg")
    with pytest.raises(ConfigurationError):
        await good.caption(scene, "huge")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert not route.called


@respx.mock
@pytest.mark.parametrize("value", ["", "{", "[]", '{"result": {}, "image_size": null}', '{"result": {"caption": "x"}}'])
async def test_a_damaged_answer_is_asked_for_again(
    value: str, client: AsyncClient, cache: Cache, scene: bytes, caplog: pytest.LogCaptureFixture
):
    route = answers()
    await client.caption(scene)
    connection = sqlite3.connect(cache.path)
    with connection:
        connection.execute("UPDATE answers SET value = ?", (value,))
    connection.close()
    with caplog.at_level(logging.WARNING):
        assert (await client.caption(scene)).caption == "A cat."
    assert route.call_count == 2
    assert "damaged" in caplog.text
    assert (await client.caption(scene)).meta.cached


@respx.mock
async def test_headers_are_kept_without_credentials(scene: bytes):
    secret = "a-long-secret-key-0123456789"
    headers = [
        ("X-RateLimit-Remaining", "7"),
        ("Set-Cookie", "session=1"),
        ("Via", "a"),
        ("Via", "b"),
        ("X-Echo", f"you sent {secret}"),
    ]
    respx.post(url__startswith=BASE).respond(json=ANSWERS["caption"], headers=headers)
    client = AsyncClient(secret, base_url=BASE)
    meta = (await client.caption(scene)).meta
    assert meta.headers["x-ratelimit-remaining"] == "7"
    assert meta.headers["via"] == "a, b"
    assert meta.headers["x-echo"] == "you sent ***"
    assert "set-cookie" not in meta.headers
    copy = pickle.loads(pickle.dumps(meta))
    assert (copy, copy.headers) == (meta, meta.headers)
    assert secret not in pickle.dumps(meta).decode("latin-1")
    assert json.dumps(dict(meta.headers))


async def test_headers_on_our_own_connections(scene: bytes, moondream_sandbox: Any):
    async with AsyncClient(base_url=moondream_sandbox.base_url) as client:
        assert "x-moondream-sandbox" in (await client.caption(scene)).meta.headers
        stream = await client.caption(scene, stream=True)
        assert "x-moondream-sandbox" in (await stream.result()).meta.headers
        merged = await client.detect(scene, ["red", "blue"])
        assert merged.meta.headers == {}


async def test_a_stream_that_is_left_early_is_not_kept(cache: Cache, scene: bytes, moondream_sandbox: Any):
    async with AsyncClient(base_url=moondream_sandbox.base_url, cache=cache) as client:
        stream = await client.caption(scene, stream=True)
        await anext(stream)
        await stream.aclose()
    assert len(cache) == 0


async def test_an_image_from_a_url_is_downloaded_once(cache: Cache, scene: bytes):
    downloads = 0

    async def respond(exchange: Exchange) -> None:
        nonlocal downloads
        if exchange.head.startswith("GET"):
            downloads += 1
            await exchange.answer(scene, headers="Content-Type: image/png\r\n")
        else:
            await exchange.answer(ANSWERS["caption"])

    options = ImageOptions(allow_private_urls=True)
    async with serve(respond) as server:
        async with AsyncClient(base_url=server.base_url, cache=cache, image_options=options) as client:
            image = server.base_url.replace("/v1", "/a.png")
            await client.caption(image)
            assert downloads == 1
            assert (await client.caption(image)).meta.cached
            assert (await client.caption(scene)).meta.cached
            assert downloads == 2
