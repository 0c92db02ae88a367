"""Files whose `read` is a coroutine: read in the event loop, wherever an image is taken."""

from __future__ import annotations

import asyncio
import io
import json
import threading
from pathlib import Path
from typing import Any

import aiofiles
import anyio
import pytest
import respx
from PIL import Image
from starlette.datastructures import UploadFile

from moondream_async import AsyncClient, Client, ImageError, vision
from moondream_async._images.async_files import is_async_file
from moondream_async.bulk import read_results
from tests.support.pictures import file

BASE = "https://api.moondream.ai/v1"
RED = file(Image.new("RGB", (64, 48), "red"), "PNG")


class Counting:
    """An async file that says in which thread it is read, and never by two at once."""

    def __init__(self, data: bytes = RED, *, most: int = 100) -> None:
        self.file = io.BytesIO(data)
        self.name = "photos/a.png"
        self.threads: set[int] = set()
        self.reads = self.rewinds = self.at_once = 0
        self.most = most

    async def read(self, size: int = -1) -> bytes:
        assert self.at_once == 0
        self.at_once += 1
        self.threads.add(threading.get_ident())
        await asyncio.sleep(0)
        self.reads += 1
        self.at_once -= 1
        return self.file.read(min(size, self.most))

    async def seek(self, offset: int, whence: int = 0) -> int:
        self.rewinds += 1
        return self.file.seek(offset, whence)


class Stream:
    """One that can be read once, as the body of a request."""

    def __init__(self, data: bytes = RED) -> None:
        self.rest = data

    async def read(self, size: int = -1) -> bytes:
        piece, self.rest = self.rest[:50], self.rest[50:]
        return piece


class Delegating:
    """Whose `read` is a plain function that gives a coroutine."""

    def __init__(self) -> None:
        self.file = Counting()
        self.filename = "b.png"

    def read(self, size: int = -1) -> Any:
        return self.file.read(size)

    def seek(self, offset: int) -> Any:
        return self.file.seek(offset)

    def seekable(self) -> Any:
        return asyncio.sleep(0, True)


@pytest.mark.parametrize("make", [Counting, Stream, Delegating])
async def test_objects(make: Any) -> None:
    async with AsyncClient("k") as client:
        assert (await client.encode_image(make())).data == RED


async def test_files_of_the_libraries(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(RED)
    async with AsyncClient("k") as client:
        for _ in range(2):
            upload = UploadFile(io.BytesIO(RED), filename="a.png")
            async with await anyio.open_file(path, "rb") as opened, aiofiles.open(path, "rb") as other:
                async with aiofiles.tempfile.SpooledTemporaryFile() as spooled:
                    await spooled.write(RED)
                    for given in (upload, opened, other, spooled):
                        for _ in range(2):  # from the start, each time
                            assert (await client.encode_image(given)).data == RED


async def test_it_is_read_in_the_loop_and_once_for_calls_at_once() -> None:
    given = Counting()
    async with AsyncClient("k") as client:
        images = await asyncio.gather(*(client.encode_image(given) for _ in range(5)))
    assert {image.data for image in images} == {RED}
    assert given.threads == {threading.get_ident()}
    assert given.rewinds == 1


@respx.mock
async def test_every_place_that_takes_an_image(tmp_path: Path) -> None:
    routes = [
        respx.post(f"{BASE}/{skill}").respond(json=answer)
        for skill, answer in (
            ("caption", {"caption": "x"}),
            ("query", {"answer": "yes"}),
            ("detect", {"objects": []}),
            ("point", {"points": []}),
            ("segment", {"path": "", "bbox": None}),
        )
    ]
    chat = respx.post(f"{BASE}/chat/completions").respond(
        json={"choices": [{"message": {"role": "assistant", "content": "x"}, "finish_reason": "stop"}]}
    )
    async with AsyncClient("k") as client:
        await client.caption(Counting())
        await client.query(Counting(), "?")
        await client.detect(Counting(), ["cat", "dog"])
        await client.point(Counting(), "cat")
        await asyncio.gather(client.segment(both := Counting(), "cat"), client.caption(both))
        assert await client.ask_yes_no(Counting(), "?") is True
        await client.chat([{"role": "user", "content": ["?", Counting(), Stream()]}])
        outcomes = [outcome async for outcome in client.map(["caption", "detect"], [Counting()], object="cat")]
        assert [outcome.ok for outcome in outcomes] == [True]
        for given in (Counting(), Stream()):
            out = tmp_path / f"{type(given).__name__}.jsonl"
            summary = await client.run("caption", [given], out)
            assert summary.failed == 0
            assert [record.ok for record in read_results(out)] == [True]
            again = await client.run("caption", [type(given)()], out)  # known by its content
            assert again.skipped == 1
    assert all(route.called for route in [*routes, chat])
    for call in respx.calls:
        assert b"data:image/png;base64," in call.request.content


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (Counting(b"text"), r"it is text \[photos/a\.png\]"),
        (Counting(b""), r"empty \(0 bytes\) \[photos/a\.png\]"),
        (Stream(b"text"), r"\[file object \(Stream\)\]"),
    ],
)
async def test_what_is_no_image_is_named(given: Any, says: str) -> None:
    async with AsyncClient("k") as client:
        with pytest.raises(ImageError, match=says):
            await client.encode_image(given)


async def test_text_files_and_failures(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("text")

    class Broken(Counting):
        async def read(self, size: int = -1) -> bytes:
            raise OSError("gone")

    async with AsyncClient("k") as client:
        async with await anyio.open_file(tmp_path / "a.txt") as opened:
            with pytest.raises(ImageError, match=r"binary mode \('rb'\) \[.*a\.txt\]"):
                await client.encode_image(opened)  # type: ignore[arg-type]
        with pytest.raises(ImageError, match="binary mode"):
            await client.encode_image(io.StringIO("text"))  # type: ignore[arg-type]
        with pytest.raises(ImageError, match=r"cannot be read: gone \[photos/a\.png\]"):
            await client.encode_image(Broken())
        async with await anyio.open_file(tmp_path / "a.txt", "rb") as closed:
            pass
        with pytest.raises(ImageError, match=r"closed file \[.*a\.txt\]"):
            await client.encode_image(closed)


async def test_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moondream_async._images.async_files.MAX_FILE_SIZE", 1_000)
    given = Counting(bytes(1_000_000), most=300)
    async with AsyncClient("k") as client:
        with pytest.raises(ImageError, match="more than 1,000 bytes"):
            await client.encode_image(given)
    assert given.reads == 4


@respx.mock
def test_the_sync_client_reads_them_too(tmp_path: Path) -> None:
    respx.post(f"{BASE}/caption").respond(json={"caption": "x"})
    upload = UploadFile(io.BytesIO(RED), filename="a.png")
    with Client("k") as client:
        for given in (Counting(), Stream(), Delegating(), upload):
            assert client.caption(given).caption == "x"
        assert client.run("caption", [Counting()], tmp_path / "r.jsonl").failed == 0


def test_without_a_loop_they_are_rejected_with_a_message() -> None:
    for given in (Counting(), Delegating()):
        with pytest.raises(ImageError, match=r"pass the bytes of `await file\.read\(\)` \[(photos/a|b)\.png\]"):
            vision.annotate(given)


def test_what_is_an_async_file() -> None:
    assert is_async_file(Counting())
    for other in (io.BytesIO(), "a.png", b"", None, Image.new("RGB", (1, 1)), object()):
        assert not is_async_file(other)


async def test_uploads_to_fal() -> None:
    from moondream_async._fal.uploads import Uploads
    from moondream_async.fal import AsyncFalClient

    async with AsyncFalClient("k") as client:
        assert (await client.encode_image(Counting())).data == RED
        uploads: Uploads = client._uploads  # pyright: ignore[reportPrivateUsage]
        found = await uploads.resolve({"image_url": Counting(), "other": [Stream()]})
    assert json.dumps(found).count("data:") == 2
    assert found["image_url"].startswith("data:image/png;base64,")
