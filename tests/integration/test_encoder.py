"""Images on their way into calls: prepared as asked, once, few at a time, and only when it is their turn."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import respx
from PIL import Image

from moondream_async import AsyncClient, Client, ConfigurationError, EncodedImage, ImageError, ImageOptions
from moondream_async._images import encoder
from moondream_async._images.prepare import encode
from tests.support.effort import scaled
from tests.support.loopback import Exchange, serve, until
from tests.support.pictures import file

BASE = "https://api.moondream.ai/v1"


class Counted:
    """Stands in for `encode`, counts, and waits for leave to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        self.at_once = self.most_at_once = 0
        self.lock = threading.Lock()
        self.go_on = threading.Event()
        self.go_on.set()
        monkeypatch.setattr(encoder, "encode", self)

    def __call__(self, image: object, options: ImageOptions, *, full_resolution: bool) -> EncodedImage:
        with self.lock:
            self.count += 1
            self.at_once += 1
            self.most_at_once = max(self.most_at_once, self.at_once)
        self.go_on.wait(10)
        try:
            return encode(image, options, full_resolution=full_resolution)
        finally:
            with self.lock:
                self.at_once -= 1


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    return Counted(monkeypatch)


def sent_size(route: respx.Route) -> tuple[int, int]:
    image = encode(json.loads(route.calls.last.request.content)["image_url"], ImageOptions(resize=None))
    return image.width, image.height


@respx.mock
async def test_options_of_client_clone_and_call() -> None:
    route = respx.post(f"{BASE}/caption").respond(json={"caption": "x"})
    picture = Image.new("RGB", (400, 200))
    async with AsyncClient("k", image_options=ImageOptions(resize=100)) as client:
        await client.caption(picture)
        assert sent_size(route) == (100, 50)
        await client.with_options(image_options=ImageOptions(resize=40)).caption(picture)
        assert sent_size(route) == (40, 20)
        await client.with_options(model="m").caption(picture)
        assert sent_size(route) == (100, 50)
        prepared = await client.encode_image(picture, ImageOptions(resize=200))
        assert prepared.width == 200
        await client.caption(prepared)
        assert sent_size(route) == (200, 100)
        with pytest.raises(ConfigurationError, match="image_options"):
            await client.encode_image(picture, 200)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="image_options"):
        AsyncClient("k", image_options=90)  # type: ignore[arg-type]


@respx.mock
def test_options_of_the_sync_client() -> None:
    route = respx.post(f"{BASE}/caption").respond(json={"caption": "x"})
    with Client("k", image_options=ImageOptions(resize=100)) as client:
        client.caption(Image.new("RGB", (400, 200)))
        assert sent_size(route) == (100, 50)
        assert client.encode_image(Image.new("RGB", (400, 200)), image_options=ImageOptions(resize=50)).width == 50


@respx.mock
async def test_skills_that_want_the_same_object_at_once_share_the_work(counted: Counted) -> None:
    for skill, answer in (("caption", {"caption": "x"}), ("query", {"answer": "x"}), ("detect", {"objects": []})):
        respx.post(f"{BASE}/{skill}").respond(json=answer)
    respx.post(f"{BASE}/segment").respond(json={"path": ""})
    picture, same = Image.new("RGB", (400, 200)), Image.new("RGB", (400, 200))
    async with AsyncClient("k") as client, AsyncClient("other") as other:
        await asyncio.gather(client.caption(picture), client.query(picture, "?"), other.detect(picture, "cat"))
        assert counted.count == 1
        await asyncio.gather(client.caption(picture), client.caption(same))
        assert counted.count == 3  # later, and for another object, the work is done anew
        await asyncio.gather(client.caption(picture), client.segment(picture, "cat"))
        assert counted.count == 5  # `segment` wants it at another size
        results = await asyncio.gather(*(client.caption(7) for _ in range(3)), return_exceptions=True)  # type: ignore[arg-type]
        assert [type(result) for result in results] == [ImageError] * 3


@respx.mock
def test_threads_share_the_work_too(counted: Counted) -> None:
    respx.post(f"{BASE}/caption").respond(json={"caption": "x"})
    picture = Image.new("RGB", (400, 200))
    counted.go_on.clear()
    with Client("k") as client, ThreadPoolExecutor(8) as pool:
        calls = [pool.submit(client.caption, picture) for _ in range(8)]
        threading.Timer(0.2, counted.go_on.set).start()
        assert [call.result().caption for call in calls] == ["x"] * 8
    assert counted.count <= 2  # a thread may come late


async def test_few_are_decoded_at_once_and_only_so_many_wait_ready(counted: Counted) -> None:
    release = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        await release.wait()
        await exchange.answer({"caption": "x"})

    async with serve(handler) as server:
        async with AsyncClient(base_url=server.base_url, max_connections=5) as client:
            calls = [asyncio.create_task(client.caption(Image.new("RGB", (50, 50)))) for _ in range(30)]
            await until(lambda: server.requests == 5)
            await asyncio.sleep(0.05)
            assert counted.count == 5  # 25 images are still as the user has them
            release.set()
            assert len(await asyncio.gather(*calls)) == 30
    assert counted.count == 30
    assert counted.most_at_once <= 4


async def test_a_cancelled_call_leaves_the_others_their_image(counted: Counted) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer({"caption": "x"})

    picture = Image.new("RGB", (50, 50))
    async with serve(handler) as server, AsyncClient(base_url=server.base_url) as client:
        counted.go_on.clear()
        first, second = (asyncio.create_task(client.caption(picture)) for _ in range(2))
        await until(lambda: counted.at_once == 1)
        first.cancel()
        counted.go_on.set()
        assert (await second).caption == "x"
        with pytest.raises(asyncio.CancelledError):
            await first


@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "GIF", "BMP", "JPEG", "PNG", "file"])
async def test_one_unread_object_in_several_calls_at_once(kind: str) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer({"caption": "x", "path": ""})

    data = file(Image.effect_noise((900, 700), 90).convert("RGB"), "PNG" if kind == "file" else kind)
    async with serve(handler) as server, AsyncClient(base_url=server.base_url) as client:
        for _ in range(scaled(2, 5)):
            unread: Any = io.BytesIO(data) if kind == "file" else Image.open(io.BytesIO(data))
            sizes = [client.encode_image(unread, ImageOptions(resize=size)) for size in (300, 200, 100)]
            _, _, *images = await asyncio.gather(client.caption(unread), client.segment(unread, "x"), *sizes)
            assert [image.width for image in images] == [300, 200, 100]


async def test_calls_given_up_do_not_add_to_what_is_decoded(counted: Counted) -> None:
    async with AsyncClient("k") as client:
        counted.go_on.clear()
        for _ in range(20):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await client.encode_image(Image.new("RGB", (50, 50)))
        assert counted.most_at_once <= 4
        counted.go_on.set()
        assert (await client.encode_image(Image.new("RGB", (50, 50)))).width == 50
    assert counted.count <= 6


async def test_an_error_does_not_hold_the_threads_frames() -> None:
    async with AsyncClient("k") as client:
        with pytest.raises(ImageError) as caught:
            await client.encode_image(b"no image")
    files = [frame.path.name for frame in caught.traceback if hasattr(frame.path, "name")]
    assert "prepare.py" not in files


async def test_a_bad_image_frees_its_slot() -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer({"caption": "x"})

    async with serve(handler) as server, AsyncClient(base_url=server.base_url, max_connections=1) as client:
        for _ in range(3):
            with pytest.raises(ImageError):
                await client.caption(b"no image")
        assert server.requests == 0
        assert (await client.caption(Image.new("RGB", (9, 9)))).caption == "x"


@respx.mock
async def test_retries_send_the_same_body_encoded_once(counted: Counted) -> None:
    from moondream_async import RetryPolicy

    bodies: list[Any] = []

    def answer(request: Any) -> Any:
        import httpx

        bodies.append(request.content)
        return httpx.Response(503) if len(bodies) < 3 else httpx.Response(200, json={"caption": "x"})

    respx.post(f"{BASE}/caption").mock(side_effect=answer)
    async with AsyncClient("k", retry=RetryPolicy(backoff=0)) as client:
        await client.caption(Image.new("RGB", (50, 50)))
    assert counted.count == 1
    assert len(set(bodies)) == 1
    assert len(bodies) == 3
