"""`find_in_folder`: bounded, resumable, within the budget, with progress."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from moondream_async._mcp import find
from moondream_async.bulk import read_results
from moondream_async.prices import Prices
from tests.integration.mcp.conftest import Start, each_protocol
from tests.support.loopback import until
from tests.support.pictures import file


@pytest.fixture
def photos(root: Path) -> Path:
    """Twelve images, of which three have something red, in a folder and one below."""
    folder = root / "photos"
    (folder / "below").mkdir(parents=True)
    for number in range(12):
        image = Image.new("RGB", (60, 40), "white")
        image.paste("red" if number % 4 == 0 else "blue", (10, 10, 40, 30))
        (folder / ("below" if number > 5 else "") / f"{number:02}.png").write_bytes(file(image, "PNG"))
    return folder


def names(found: dict[str, Any]) -> list[str]:
    return [each["image"] for each in found["found"]]


@each_protocol
async def test_images_with_an_object(start: Start, photos: Path) -> None:
    progress: list[tuple[float, float | None, str | None]] = []

    async def on_progress(done: float, total: float | None, message: str | None) -> None:
        progress.append((done, total, message))

    async with start() as agent:
        result = await agent.call("find_in_folder", on_progress, folder="photos", object="red")
        found: Any = result.structured_content
        assert names(found) == ["photos/00.png", "photos/04.png", "photos/below/08.png"]
        assert (found["total"], found["done"], found["failed"], found["remaining"]) == (12, 12, 0, 0)
        assert found["found"][0]["boxes"] == [[10, 10, 40, 30]]
        assert found["usage"]["input_tokens"] > 12 * 700
        assert result.content[0].text.startswith("Examined 12 of 12 images in photos: 3 with 'red', 0 failed.\n")  # type: ignore[union-attr]
        assert progress[0] == (0, 12, "0 of 12 images")
        assert progress[-1] == (12, 12, "12 of 12 images")
        assert [done for done, _, _ in progress] == sorted({done for done, _, _ in progress})
        assert (await agent.ask("detect", image=names(found)[0], object="red"))["objects"]  # its path can be used
        assert len(list(read_results(found["results_file"]))) == 12


async def test_calls_continue_each_other(start: Start, photos: Path) -> None:
    async with start() as agent:
        first = await agent.call("find_in_folder", folder="photos", object="red", max_images=5)
        assert "Call again with the same arguments for the other 7." in first.content[0].text  # type: ignore[union-attr]
        assert first.structured_content["remaining"] == 7  # type: ignore[index]
        assert agent.sandbox.requests == 5
        second = await agent.ask("find_in_folder", folder=str(photos), object="red")
        assert (second["done"], len(second["found"])) == (12, 3)
        assert agent.sandbox.requests == 12
        third = await agent.ask("find_in_folder", folder="photos/", object="red")
        assert (third["done"], third["usage"]["input_tokens"]) == (12, 0)
        assert agent.sandbox.requests == 12
        image = Image.new("RGB", (60, 40), "red")
        (photos / "01.png").write_bytes(file(image, "PNG"))
        os.utime(photos / "01.png", ns=(1, 1))
        (photos / "00.png").unlink()
        fourth = await agent.ask("find_in_folder", folder="photos", object="red")
        assert agent.sandbox.requests == 13  # only the changed image
        assert (fourth["total"], fourth["done"]) == (11, 11)
        await agent.ask("find_in_folder", folder="photos", object="blue", max_images=1)  # another search
        assert agent.sandbox.requests == 14
    async with start() as agent:  # another server with the same output
        assert (await agent.ask("find_in_folder", folder="photos", object="blue"))["done"] == 11


async def test_a_question_about_each_image(start: Start, photos: Path) -> None:
    async with start() as agent:
        found = await agent.ask("find_in_folder", folder="photos", question="How many red shapes are there?")
        answers = {Path(each["image"]).name: each["answer"] for each in found["found"]}
        assert len(answers) == 12
        assert answers["00.png"].startswith("One red")
        assert "red" in answers["01.png"]


async def test_what_cannot_be_used(start: Start, photos: Path) -> None:
    (photos / "broken.jpg").write_bytes(b"broken")
    (photos / ".hidden.png").write_bytes(b"")
    (photos / "notes.txt").write_bytes(b"")
    (photos / "link.png").symlink_to("00.png")
    (photos / "empty").mkdir()
    (photos / os.fsdecode(b"caf\xe9.png")).write_bytes((photos / "00.png").read_bytes())  # not UTF-8
    async with start() as agent:
        found = await agent.ask("find_in_folder", folder="photos", object="red")
        assert (found["total"], found["done"], found["failed"]) == (14, 14, 1)
        assert "photos/caf?.png" in names(found)
        assert "broken.jpg" in names(found)[-1]
        assert "not a supported image" in found["found"][-1]["error"]
        requests = agent.sandbox.requests
        (photos / "broken.jpg").write_bytes((photos / "00.png").read_bytes())
        os.utime(photos / "broken.jpg")
        retried = await agent.ask("find_in_folder", folder="photos", object="red", retry_failed=True)
        assert (retried["failed"], len(retried["found"]), agent.sandbox.requests) == (0, 5, requests + 1)
        empty = await agent.ask("find_in_folder", folder="photos/empty", object="red")
        assert (empty["total"], empty["found"]) == (0, [])


async def test_failed_calls_are_examined_again_on_demand(start: Start, photos: Path) -> None:
    async with start(faults={"status": 400, "times": 2}) as agent:
        found = await agent.ask("find_in_folder", folder="photos", object="red")
        assert (found["done"], found["failed"]) == (12, 2)
        again = await agent.ask("find_in_folder", folder="photos", object="red")
        assert (again["failed"], agent.sandbox.requests) == (2, 12)
        retried = await agent.ask("find_in_folder", folder="photos", object="red", retry_failed=True)
        assert (retried["failed"], agent.sandbox.requests) == (0, 14)


async def test_the_budget(start: Start, photos: Path) -> None:
    async with start(max_calls=5) as agent:
        found = await agent.ask("find_in_folder", folder="photos", object="red")
        assert (found["done"], found["remaining"], found["usage"]["calls_left"]) == (5, 7, 0)
        assert "no call of 5 is left" in await agent.fail("find_in_folder", folder="photos", object="red")
        assert agent.sandbox.requests == 5
    async with start(max_cost=0.004, prices=Prices(1, 1)) as agent:  # 0.0015 for the longest answer, 0.0007 for these
        done = []
        for _ in range(3):
            done.append((await agent.ask("find_in_folder", folder="photos", object="blue"))["done"])
        assert done == [2, 3, 4]
        assert "of $0.004 is left" in await agent.fail("find_in_folder", folder="photos", object="blue")
        assert agent.sandbox.requests == 4


async def test_progress_always_increases(start: Start, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    progress: list[float] = []

    async def on_progress(done: float, total: float | None, message: str | None) -> None:
        progress.append(done)

    monkeypatch.setattr(find, "_REPORT_SECONDS", 0.01)
    monkeypatch.setattr(find, "_CONCURRENCY", 4)
    async with start(faults={"latency": 0.05}) as agent:
        await agent.call("find_in_folder", on_progress, folder="photos", object="red")
    assert len(progress) > 2
    assert (progress[0], progress[-1]) == (0, 12)
    assert progress == sorted(set(progress))


async def test_it_ends_in_time(start: Start, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert find._INTAKE_SECONDS + find._CALL_SECONDS < 50
    monkeypatch.setattr(find, "_INTAKE_SECONDS", 0.05)
    monkeypatch.setattr(find, "_REPORT_SECONDS", 0.02)
    monkeypatch.setattr(find, "_CONCURRENCY", 2)
    async with start(faults={"latency": 0.1}) as agent:
        found = await agent.ask("find_in_folder", folder="photos", object="red")
        assert 0 < found["done"] < 12
        assert found["remaining"] == 12 - found["done"]
        assert agent.sandbox.requests == found["done"]


@each_protocol
async def test_it_is_cancelled_and_continued(start: Start, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "_CONCURRENCY", 1)
    async with start(faults={"latency": 0.05}, max_calls=20) as agent:
        call = asyncio.create_task(agent.call("find_in_folder", folder="photos", object="red"))
        await until(lambda: agent.sandbox.requests >= 3)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await until(lambda: agent.moondream.stats.in_flight == 0)
        sent = agent.sandbox.requests
        monkeypatch.setattr(find, "_CONCURRENCY", 8)
        found = await agent.ask("find_in_folder", folder="photos", object="red")
        assert found["done"] == 12
        assert sent + 12 - (sent - 1) >= agent.sandbox.requests  # only the interrupted one was sent again
        assert found["usage"]["calls_left"] >= 20 - agent.sandbox.requests - 1


async def test_the_same_search_twice_at_once(start: Start, photos: Path) -> None:
    async with start(faults={"latency": 0.2}) as agent:
        both = [agent.call("find_in_folder", folder="photos", object="red") for _ in range(2)]
        found = await asyncio.gather(*both)
        failed = [each.content[0].text for each in found if each.is_error]  # type: ignore[union-attr]
        assert len(failed) == 1
        assert "another run" in failed[0]
        assert agent.sandbox.requests == 12
