"""Videos: timestamps, sampling, rotation, damage; and `latest`."""

from __future__ import annotations

import asyncio
import io
import itertools
import os
import sys
import threading
import time
import types
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import av
import numpy
import pytest
from PIL import Image

from moondream_async import AsyncClient, Client, ConfigurationError, ImageError, ImageOptions
from moondream_async import video as video_module
from moondream_async._images.prepare import encode
from moondream_async._video import decoding, pictures
from moondream_async._video.clock import Clock
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
def test_timestamps_and_pictures(clip: Path, options: dict[str, Any], numbers: Any) -> None:
    found = list(frames(clip, **options))
    assert [round(frame.timestamp * 10) for frame in found] == list(numbers)
    assert [frame.timestamp for frame in found] == pytest.approx([number / 10 for number in numbers])
    for frame, number in zip(found, numbers, strict=True):
        assert frame.image.mode == "RGB"
        assert frame.image.size == (96, 64)
        red, green, _ = frame.image.getpixel((40, 30))
        assert red == pytest.approx(8 * number, abs=8)
        assert green < 8


async def test_async_iteration_starts_over(clip: Path) -> None:
    source = frames(clip, fps=2)
    for _ in range(2):
        assert [round(frame.timestamp, 3) async for frame in source] == [0, 0.5, 1, 1.5, 2, 2.5]


@pytest.mark.parametrize(
    ("name", "codec", "format"),
    [
        ("a.h264", "libx264", "h264"),
        ("a.hevc", "libx265", "hevc"),
        ("a.m2v", "mpeg2video", "mpeg2video"),
        ("a.mjpeg", "mjpeg", "mjpeg"),
        ("a.m4v", "mpeg4", "m4v"),
    ],
)
def test_streams_without_timestamps(name: str, codec: str, format: str, tmp_path: Path) -> None:
    path = film(tmp_path / name, fps=25, codec=codec, format=format)
    assert [frame.timestamp for frame in frames(path)] == pytest.approx([n / 25 for n in range(30)])
    assert [round(frame.timestamp, 2) for frame in frames(path, fps=5)] == [0, 0.2, 0.4, 0.6, 0.8, 1]
    assert [round(frame.timestamp, 2) for frame in frames(path, fps=5, start=0.48, end=1)] == [0.48, 0.68, 0.88]
    assert list(frames(path, start=9)) == []


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_timestamps_of_joined_videos(codec: str, tmp_path: Path) -> None:
    part = film(tmp_path / "part.ts", codec=codec).read_bytes()
    (tmp_path / "joined.ts").write_bytes(part * 3)
    found = [frame.timestamp for frame in frames(tmp_path / "joined.ts")]
    assert len(found) >= 88  # a joint may lose a frame
    assert found == sorted(found)
    assert found[-1] == pytest.approx(8.9, abs=0.2)
    sampled = [frame.timestamp for frame in frames(tmp_path / "joined.ts", fps=2)]
    assert sampled == pytest.approx([n / 2 for n in range(18)], abs=0.11)
    assert [f.timestamp for f in frames(tmp_path / "joined.ts", fps=1, start=4, end=7)] == pytest.approx(
        [4, 5, 6], abs=0.11
    )


@pytest.mark.parametrize("later", [10_000, 2**33 // 9000 - 20])
def test_a_clock_that_jumps_or_wraps(later: int, tmp_path: Path) -> None:
    path = film(tmp_path / "a.ts", codec="mpeg2video", shift=lambda n: later if n >= 15 or later > 10_000 else 0)
    found = [frame.timestamp for frame in frames(path)]
    assert found == pytest.approx([n / 10 for n in range(30)], abs=0.11)


@pytest.mark.parametrize(
    ("zero", "times", "expected"),
    [
        (0, [0, 1, 2], [0, 1, 2]),
        (None, [None] * 3, [0, 0.1, 0.2]),
        (None, [7, 7.5], [0, 0.5]),
        (0, [0.4, 0.5], [0.4, 0.5]),
        (2, [1.5, 1.6], [0, 0.1]),  # before the start that the video states
        (0, [1.7e9, 1.7e9 + 0.1], [0, 0.1]),
        (0, [0, None, None, 0.3], [0, 0.1, 0.2, 0.3]),
        (None, [None, 50, 50.1], [0, 0.1, 0.2]),
        (0, [0, 0.1, 0.3, 0.2, 0.4], [0, 0.1, 0.3, 0.3, 0.4]),  # out of order
        (0, [4, 5, 0, 0.1, 0.2], [4, 5, 5.1, 5.2, 5.3]),  # restarted
        (0, [0, 1, -9, -8.9], [0, 1, 1.1, 1.2]),
        (0, [0] * 7, [0, 0, 0, 0, 0.1, 0.2, 0.3]),  # repeated
        (0, [0, 60, 120], [0, 60, 120]),  # few frames
        (0, [0, 1e6, 1e6 + 1], [0, 0.1, 1.1]),
    ],
)
def test_clock(zero: float | None, times: list[float | None], expected: list[float]) -> None:
    clock = Clock(10, zero, 1000)
    assert [clock.convert(time) for time in times] == pytest.approx(expected)


@pytest.mark.parametrize(
    "name", ["2024-01-01T10:00:00.mp4", "http:film.mp4", "100% é.mp4", "%03d.mp4", "-y.mp4", "a,b.mp4", "C:film.mp4"]
)
def test_names_of_files(name: str, clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(name).write_bytes(clip.read_bytes())
    for source in (name, Path(name), tmp_path / name, str(tmp_path / name)):
        assert len(list(frames(source, end=0.5))) == 5


def test_names_that_are_not_utf_8(clip: Path, tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"\xff:1.mp4")
    try:
        path.write_bytes(clip.read_bytes())
    except OSError:
        pytest.skip("this file system takes no such names")
    assert len(list(frames(path))) == 30


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("2024-01-01T10:00:00.mp4", "No such file"),
        ("C:\\film.mp4", "No such file"),
        (Path("http:film.mp4"), "No such file"),
        ("nope:film.mp4", "no such file, and FFmpeg knows no such protocol"),
        ("http://127.0.0.1:9/film.mp4", "refused"),
        ("rtsp://127.0.0.1:9/film", "refused"),
        ("", "No such file"),
        ("a\0b", "cannot be read"),
        ("\ud800:.mp4", "cannot be read"),
        ("pipe:987", "Bad file"),
    ],
)
async def test_sources_that_cannot_be_opened(source: Any, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        list(frames(source))
    async with latest(frames(source)) as live:
        with pytest.raises(ImageError, match=says):
            await anext(live)


def test_video_without_frames(tmp_path: Path) -> None:
    path = film(tmp_path / "a.avi", frames=1)
    data = bytearray(path.read_bytes())
    begin = data.index(b"movi") + 12
    data[begin : data.index(b"idx1")] = bytes(data.index(b"idx1") - begin)
    path.write_bytes(data)
    for options in ({}, {"start": 1}):
        with pytest.raises(ImageError, match="no frames"):
            list(frames(path, **options))


def test_numpy_numbers(clip: Path) -> None:
    options: Any = {"fps": numpy.float32(2), "start": numpy.int64(1), "end": numpy.float64(2)}
    assert [frame.timestamp for frame in frames(clip, **options)] == pytest.approx([1, 1.5])


def test_frame_that_cannot_be_converted(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> Any:
        raise ValueError("no such pixel format")

    monkeypatch.setattr(pictures, "_to_upright_image", fails)
    for use in (encode, lambda image: image.load(), numpy.asarray, Image.Image.copy):
        for frame in frames(clip, end=0.3):
            with pytest.raises(ImageError, match=r"A frame of '.*clip.mp4' cannot be converted: no such pixel format"):
                use(frame.image)


def test_latest_of_a_non_iterable() -> None:
    with pytest.raises(ConfigurationError, match="not int"):
        latest(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("turn", [90, 180, 270, -90, 45])
def test_upright(turn: int, monkeypatch: pytest.MonkeyPatch) -> None:
    stored = corner()
    decoded = av.VideoFrame.from_image(stored)
    picture: Any = types.SimpleNamespace(width=960, height=640, format=decoded.format, rotation=turn)
    monkeypatch.setattr(pictures, "_convert", lambda _: stored)
    monkeypatch.setattr(pictures, "_scale", lambda _, *size: stored.resize(size))
    upright = pictures.to_image("film.mp4", picture)
    sent = Image.open(io.BytesIO(encode(upright, ImageOptions(resize=480, quality=100)).data))
    assert upright.size == stored.rotate(turn, expand=True).size
    x, y = {90: (20, 939), 180: (939, 619), 270: (619, 20), -90: (619, 20), 45: (16, 679)}[turn]
    scale = max(upright.size) / 480
    for red, *_ in (upright.getpixel((x, y)), sent.getpixel((round(x / scale), round(y / scale)))):
        assert red > 200


def corner() -> Image.Image:
    image = Image.new("RGB", (960, 640))
    image.paste((255, 0, 0), (0, 0, 60, 60))
    return image


def smooth() -> Image.Image:
    channels = [Image.linear_gradient("L").rotate(turn).resize((1920, 1080)) for turn in (0, 90, 180)]
    return Image.merge("RGB", channels)


def differences(one: Image.Image, other: Image.Image) -> Any:
    """Return how much higher each color of an image is than that of another, of 255."""
    return numpy.asarray(one).astype(int) - numpy.asarray(other)


@pytest.mark.parametrize(
    "pixel_format", ["yuv420p", "yuvj420p", "yuv422p10le", "yuv444p", "nv12", "gray", "rgb24", "bgra"]
)
@pytest.mark.parametrize("color_range", [0, 1, 2])
@pytest.mark.parametrize("colorspace", [1, 2, 5, 9])  # BT.709, unspecified, BT.601, BT.2020
def test_color_matrix_and_range(pixel_format: str, color_range: int, colorspace: int) -> None:
    picture = av.VideoFrame.from_image(smooth().resize((640, 360))).reformat(format=pixel_format)
    picture.color_range, picture.colorspace = color_range, colorspace
    expected = picture.to_image()
    image = pictures.to_image("film.mp4", picture)
    scaled = differences(image.at_size((512, 288)), expected.resize((512, 288), Image.Resampling.LANCZOS))
    assert abs(scaled.mean((0, 1))).max() <= 2.5  # `to_image` rounds down
    assert abs(scaled).max() <= 6
    assert image == expected


def test_colors_are_nearer_to_the_truth_when_scaled() -> None:
    picture = av.VideoFrame.from_image(smooth()).reformat(format="yuv420p")
    image = pictures.to_image("film.mp4", picture)
    size = (1176, 662)
    errors = [
        abs(differences(each, smooth().resize(size, Image.Resampling.LANCZOS)))
        for each in (image.at_size(size), image.resize(size, Image.Resampling.LANCZOS))
    ]
    assert errors[0].max() <= 3
    assert errors[0].mean() < errors[1].mean()


def test_frames_that_take_more_memory_than_images_are_converted_at_once() -> None:
    picture = av.VideoFrame.from_image(corner()).reformat(format="rgba64le")
    assert type(pictures.to_image("film.mp4", picture)) is Image.Image
    assert type(pictures.to_image("film.mp4", picture.reformat(format="yuv444p10le"))) is not Image.Image


def test_one_frame_in_many_threads(tmp_path: Path) -> None:
    path = film(tmp_path / "a.mp4", frames=3, size=(1280, 720))
    for frame in frames(path):
        results: list[Any] = []
        threads = [threading.Thread(target=lambda: results.append(encode(frame.image))) for _ in range(6)]  # noqa: B023
        threads += [threading.Thread(target=lambda: results.append(frame.image.copy())) for _ in range(6)]  # noqa: B023
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(results) == 12


X265 = "log-level=none"


@pytest.mark.parametrize(
    ("codec", "extension", "gop", "options"),
    [
        ("libx264", "mp4", 10, {}),
        ("libx264", "mkv", 7, {"bf": "0"}),
        ("libx264", "mp4", 12, {"x264-params": "open-gop=1:bframes=5:b-pyramid=normal"}),
        ("libx264", "mp4", 10, {"x264-params": "intra-refresh=1"}),
        ("libx264", "ts", 10, {}),
        ("libx264", "avi", 10, {}),
        ("libx265", "mp4", 10, {"x265-params": X265}),
        ("libx265", "mkv", 10, {"x265-params": f"{X265}:intra-refresh=1"}),
        ("libvpx-vp9", "webm", 10, {"cpu-used": "8", "lag-in-frames": "10", "auto-alt-ref": "1"}),
        ("mpeg4", "mp4", 10, {"bf": "2"}),
    ],
)
def test_frames_are_those_of_decoding_everything(
    codec: str, extension: str, gop: int, options: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = film(tmp_path / f"a.{extension}", frames=75, fps=25, codec=codec, gop=gop, options=options)
    sampled = [frames(path, **each) for each in ({"fps": 7.3}, {"fps": 1}, {"fps": 0.7, "start": 0.5}, {"fps": 0.4})]
    found = [[(frame.timestamp, frame.image.tobytes()) for frame in each] for each in sampled]
    monkeypatch.setattr(decoding, "can_skip", lambda *_: False)
    assert found == [[(frame.timestamp, frame.image.tobytes()) for frame in each] for each in sampled]


@pytest.mark.parametrize(
    ("fps", "options", "decoded"),
    [(None, {}, 75), (25, {}, 75), (0.4, {}, 25), (0.4, {"x264-params": "intra-refresh=1"}, 75)],
)
def test_frames_between_those_taken_are_not_decoded(
    fps: float | None, options: dict[str, str], decoded: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = film(tmp_path / "a.mp4", frames=75, fps=25, codec="libx264", gop=10, options=options)
    packets: list[Any] = []
    decode_packet = decoding._decode_packet
    monkeypatch.setattr(decoding, "_decode_packet", lambda *each: packets.append(each[0]) or decode_packet(*each))
    assert len(list(frames(path, fps=fps))) == (2 if fps == 0.4 else 75)
    assert sum(1 for packet in packets if packet.size) <= decoded


async def test_map_over_frames(clip: Path, moondream_sandbox: Any) -> None:
    async with AsyncClient(base_url=moondream_sandbox.base_url) as client:
        outcomes = [o async for o in client.map("caption", frames(clip, fps=2), ordered=True, concurrency=2)]
    assert [outcome.id for outcome in outcomes] == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5])
    assert all(outcome.ok for outcome in outcomes)
    with Client(base_url=moondream_sandbox.base_url) as client:
        assert len(list(client.map("caption", frames(clip, fps=2)))) == 6


def test_not_a_video(tmp_path: Path, scene: bytes) -> None:
    text, cut = tmp_path / "a.mp4", tmp_path / "cut.mp4"
    text.write_bytes(b"no film at all")
    cut.write_bytes(film(tmp_path / "whole.mp4").read_bytes()[:600])
    for path in (text, cut, tmp_path / "none.mp4", tmp_path):
        with pytest.raises(ImageError, match="cannot be read as a video"):
            list(frames(path))


def test_audio_only(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream("pcm_s16le", rate=8000)
        sound = av.AudioFrame(format="s16", layout="mono", samples=800)
        sound.rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(ImageError, match="no pictures"):
        list(frames(path))


def test_damage_in_the_middle_loses_few_frames(tmp_path: Path) -> None:
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


async def test_latest_drops_old_items() -> None:
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


async def test_latest_raises_the_sources_error_after_its_last_item() -> None:
    def camera() -> Iterator[int]:
        yield 1
        raise OSError("unplugged")

    async with latest(camera()) as live:
        assert await anext(live) == 1
        with pytest.raises(OSError, match="unplugged"):
            await anext(live)


async def test_latest_closes_its_source() -> None:
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


async def test_map_over_latest_gets_the_newest(moondream_sandbox: Any, tiny: Any) -> None:
    shown = 0

    async def camera() -> AsyncIterator[Frame]:
        nonlocal shown
        for shown in itertools.count(1):
            yield Frame(shown, tiny)
            await asyncio.sleep(0)  # sooner than any call ends

    behind: list[float] = []
    async with AsyncClient(base_url=moondream_sandbox.base_url) as client, latest(camera()) as live:
        async for outcome in client.map("caption", live, concurrency=1):
            behind.append(outcome.id)
            if len(behind) == 10:
                break
        await until(lambda: shown > behind[-1])
        assert live.dropped > 0
    assert behind == sorted(set(behind))


async def test_realtime(clip: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []
    monkeypatch.setattr(video_module.time, "sleep", slept.append)
    assert len(list(frames(clip, fps=2, realtime=True))) == 6
    assert slept == sorted(slept)
    assert slept[-1] > 1.0
