"""Films: times, sampling, turned ones, damaged ones; the newest frame only."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from moondream_async import AsyncClient, Client, ConfigurationError, ImageError
from moondream_async import video as video_room
from moondream_async.video import Frame, frames, latest
from tests.support.films import film
from tests.support.loopback import until


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return film(tmp_path_factory.mktemp("films") / "clip.mp4")


@pytest.mark.parametrize(
    ("options", "numbers"),
    [
        ({}, range(30)),
        ({"fps": 2}, [0, 5, 10, 15, 20, 25]),
        ({"fps": 1000}, range(30)),
        ({"fps": 1, "start": 0.5}, [5, 15, 25]),
        ({"start": 2.75}, [28, 29]),
        ({"fps": 5, "end": 1}, [0, 2, 4, 6, 8]),
        ({"start": 99}, []),
    ],
)
def test_times_and_pictures(clip: Path, options: dict[str, Any], numbers: Any) -> None:
    found = list(frames(clip, **options))
    assert [round(frame.timestamp * 10) for frame in found] == list(numbers)
    assert [frame.timestamp for frame in found] == pytest.approx([number / 10 for number in numbers])
    for frame, number in zip(found, numbers, strict=True):
        assert frame.image.mode == "RGB"
        assert frame.image.size == (96, 64)
        red, green, _ = frame.image.getpixel((40, 30))
        assert red == pytest.approx(8 * number, abs=8)
        assert green < 8


async def test_async_and_again_from_the_start(clip: Path) -> None:
    source = frames(clip, fps=2)
    for _ in range(2):
        assert [round(frame.timestamp, 3) async for frame in source] == [0, 0.5, 1, 1.5, 2, 2.5]


@pytest.mark.parametrize("turn", [90, 180, 270, -90])
def test_upright(clip: Path, turn: int, monkeypatch: pytest.MonkeyPatch) -> None:
    picture: Any = type("Picture", (), {"rotation": turn, "to_image": lambda self: corner()})()
    upright = video_room._upright(picture)
    assert upright.size == ((64, 96) if turn % 180 else (96, 64))
    at = {90: (2, 93), 180: (93, 61), 270: (61, 2), -90: (61, 2)}[turn]
    assert upright.getpixel(at) == (255, 0, 0)


def corner() -> Any:
    from PIL import Image

    image = Image.new("RGB", (96, 64))
    image.paste((255, 0, 0), (0, 0, 6, 6))
    return image


async def test_map_takes_frames(clip: Path, moondream_sandbox: Any) -> None:
    async with AsyncClient(base_url=moondream_sandbox.base_url) as client:
        outcomes = [o async for o in client.map("caption", frames(clip, fps=2), ordered=True, concurrency=2)]
    assert [outcome.id for outcome in outcomes] == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5])
    assert all(outcome.ok for outcome in outcomes)
    with Client(base_url=moondream_sandbox.base_url) as client:
        assert len(list(client.map("caption", frames(clip, fps=2)))) == 6


def test_what_is_no_film(tmp_path: Path, scene: bytes) -> None:
    text, cut = tmp_path / "a.mp4", tmp_path / "cut.mp4"
    text.write_bytes(b"no film at all")
    cut.write_bytes(film(tmp_path / "whole.mp4").read_bytes()[:600])
    for path in (text, cut, tmp_path / "none.mp4", tmp_path):
        with pytest.raises(ImageError, match="cannot be read as a video"):
            list(frames(path))


def test_no_pictures(tmp_path: Path) -> None:
    import av

    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame(format="s16", layout="mono", samples=800)
        sound.rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(ImageError, match="no pictures"):
        list(frames(path))


def test_damage_in_the_middle_costs_few_frames(tmp_path: Path) -> None:
    path = film(tmp_path / "clip.mp4", frames=60, size=(320, 240))
    data = bytearray(path.read_bytes())
    middle = data.index(b"mdat") + 600
    data[middle : middle + 40] = bytes(40)
    path.write_bytes(data)
    assert len(list(frames(path))) >= 40


@pytest.mark.parametrize(
    ("name", "value"), [("fps", 0), ("fps", -1), ("fps", float("nan")), ("start", -1), ("end", "1"), ("fps", "2")]
)
def test_bad_values(name: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match=name):
        frames("a.mp4", **{name: value})


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(ConfigurationError, match=r"moondream-async\[video\]"):
        frames("a.mp4")


async def test_latest_drops_what_is_old() -> None:
    begin, go = asyncio.Event(), asyncio.Event()

    async def camera() -> AsyncIterator[int]:
        yield 0
        await begin.wait()
        for number in range(1, 10):
            yield number
        go.set()
        await asyncio.sleep(0.02)
        yield 10

    async with latest(camera()) as live:
        assert await anext(live) == 0
        begin.set()
        await go.wait()
        assert await anext(live) == 9
        assert live.dropped == 8
        assert await anext(live) == 10
        with pytest.raises(StopAsyncIteration):
            await anext(live)
        with pytest.raises(StopAsyncIteration):
            await anext(live)


async def test_latest_tells_the_sources_error_after_its_last() -> None:
    def camera() -> Iterator[int]:
        yield 1
        raise OSError("unplugged")

    async with latest(camera()) as live:
        assert await anext(live) == 1
        with pytest.raises(OSError, match="unplugged"):
            await anext(live)


async def test_latest_leaves_its_source() -> None:
    left = threading.Event()

    class Camera:
        def __iter__(self) -> Iterator[int]:
            try:
                while True:
                    time.sleep(0.001)
                    yield 1
            finally:
                left.set()

    async with latest(Camera()) as live:
        await anext(live)
    assert await anyio.to_thread.run_sync(left.wait, 5)


async def test_map_with_latest_sees_the_newest(moondream_sandbox: Any, tiny: Any) -> None:
    shown = 0

    async def camera() -> AsyncIterator[Frame]:
        nonlocal shown
        for shown in range(1, 400):
            yield Frame(shown, tiny)
            await asyncio.sleep(0.002)

    behind: list[float] = []
    async with AsyncClient(base_url=moondream_sandbox.base_url) as client, latest(camera()) as live:
        async for outcome in client.map("caption", live, concurrency=1):
            behind.append(outcome.id)
            if len(behind) == 10:
                break
        await until(lambda: shown > behind[-1])
        assert live.dropped > 0
    assert behind == sorted(set(behind))


async def test_played_at_its_own_speed(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(video_room.time, "sleep", slept.append)
    assert len(list(frames(clip, fps=2, realtime=True))) == 6
    assert slept == sorted(slept)
    assert slept[-1] > 1.0
