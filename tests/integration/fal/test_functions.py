"""The functions of fal-client, with its parameters, against the sandbox."""

from __future__ import annotations

import base64
import inspect
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fal_client
import pytest
from PIL import Image

from moondream_async import fal
from moondream_async._sync import fal_functions
from moondream_async.errors import APIError
from moondream_async.sandbox import Sandbox
from tests.support.fal import KEY

ECHO = "sandbox/echo"
NOT_HERE = {"repository", "fallback_repository"}  # of uploads: there is one file store


@pytest.fixture(autouse=True)
def environment(fal_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("FAL_KEY", KEY)
    monkeypatch.setenv("FAL_BASE_URL", fal_sandbox.fal_url)
    yield
    if fal_functions._client.cache_info().currsize:  # pyright: ignore[reportPrivateUsage]
        fal_functions._client().close()  # pyright: ignore[reportPrivateUsage]
    fal_functions._client.cache_clear()  # pyright: ignore[reportPrivateUsage]
    fal_functions._async_client.cache_clear()  # pyright: ignore[reportPrivateUsage]


@pytest.mark.parametrize(
    "name",
    [
        "subscribe",
        "submit",
        "status",
        "result",
        "cancel",
        "upload",
        "upload_file",
        "upload_image",
        "encode",
        "encode_file",
        "encode_image",
    ],
)
def test_parameters_are_those_of_fal_client(name: str) -> None:
    theirs = inspect.signature(getattr(fal_client, name)).parameters
    for function in (getattr(fal, name), getattr(fal, f"{name}_async", None)):
        if function is not None:
            ours = inspect.signature(function).parameters
            assert [n for n in theirs if n not in NOT_HERE and n != "lifecycle"] == [
                n for n in ours if n != "lifecycle"
            ]
            assert all(ours[n].kind is theirs[n].kind for n in ours)


def test_subscribe_and_submit(scene: bytes, tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(scene)
    url, ids, lines = fal.upload_file(image), [], []

    def on_queue_update(update: Any) -> None:
        if isinstance(update, fal.InProgress):
            lines.extend(log["message"] for log in update.logs)

    answer = fal.subscribe(
        "fal-ai/moondream3-preview/caption",
        arguments={"image_url": url},
        with_logs=True,
        on_enqueue=ids.append,
        on_queue_update=on_queue_update,
    )
    assert answer["output"].startswith("A")
    assert fal.result("fal-ai/moondream3-preview/caption", ids[0]) == answer
    handle = fal.submit(ECHO, {"a": 1})
    assert isinstance(list(handle.iter_events(with_logs=True, interval=1))[-1], fal.Completed)
    assert handle.get() == fal.result(ECHO, handle.request_id)
    assert isinstance(handle.status(with_logs=True), fal.Completed)
    assert isinstance(fal.status(ECHO, handle.request_id, with_logs=True), fal.Completed)
    assert fal.cancel(ECHO, handle.request_id) is False
    with pytest.raises(APIError) as caught:
        fal.subscribe("sandbox/fail", {"status": 422, "type": "image_too_small"})
    assert caught.value.status == 422


async def test_async_functions(scene: bytes, tmp_path: Path) -> None:
    image = tmp_path / "a.png"
    image.write_bytes(scene)
    url = await fal.upload_file_async(str(image))
    answer = await fal.subscribe_async("fal-ai/moondream3-preview/detect", {"image_url": url, "prompt": "red"})
    assert len(answer["objects"]) == 1
    handle = await fal.submit_async(ECHO, {"a": 1})
    assert isinstance([event async for event in handle.iter_events()][-1], fal.Completed)
    assert await handle.get() == await fal.result_async(ECHO, handle.request_id)
    assert isinstance(await fal.status_async(ECHO, handle.request_id), fal.Completed)
    assert await fal.cancel_async(ECHO, handle.request_id) is False
    picture = Image.open(io.BytesIO(scene)).convert("RGB")
    assert (await fal.upload_async("text", "text/plain", "a.txt")).startswith("http")
    assert (await fal.upload_image_async(picture, format="png")).startswith("http")
    await fal_functions._async_client().aclose()  # pyright: ignore[reportPrivateUsage]


def test_uploads_and_data_uris(scene: bytes, tmp_path: Path) -> None:
    picture = Image.open(io.BytesIO(scene)).convert("RGB")
    assert fal.upload(b"bytes", "application/octet-stream").startswith("http")
    assert fal.upload_image(picture).startswith("http")
    (tmp_path / "a.png").write_bytes(scene)
    assert fal.encode("ä", "text/plain") == fal_client.encode("ä".encode(), "text/plain")
    assert fal.encode_file(tmp_path / "a.png") == fal_client.encode_file(tmp_path / "a.png")
    for kind in ("jpeg", "png"):
        head, _, data = fal.encode_image(picture, kind).partition(",")
        assert head == f"data:image/{kind};base64"
        with Image.open(io.BytesIO(base64.b64decode(data))) as decoded:
            assert decoded.size == picture.size
