"""Results on videos."""

from __future__ import annotations

import itertools
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from PIL import Image

from moondream_async import (
    BoundingBox,
    CaptionResult,
    Client,
    ConfigurationError,
    DetectResult,
    ImageError,
    Point,
    PointResult,
)
from moondream_async._vision.annotate import PALETTE
from moondream_async.bulk import read_results
from moondream_async.video import frames
from moondream_async.vision import annotate_video
from tests.support.films import film

SIZE = 96, 64
LEFT, RIGHT = BoundingBox(0.1, 0.2, 0.4, 0.8, "left"), BoundingBox(0.6, 0.2, 0.9, 0.8, "right")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Three seconds of black, with sound."""
    path = tmp_path / "film.mp4"
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = *SIZE, "yuv420p"
        sound: Any = container.add_stream("aac", rate=8000)
        for _ in range(30):
            container.mux(video.encode(av.VideoFrame.from_image(Image.new("RGB", SIZE))))
        for number in range(24):
            samples: Any = np.zeros((1, 1024), dtype=np.float32)
            frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="mono")
            frame.sample_rate, frame.pts, frame.time_base = 8000, number * 1024, Fraction(1, 8000)
            container.mux(sound.encode(frame))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))
    return path


def drawn(path: Path) -> list[tuple[float, bool, bool]]:
    """Return the time of each frame, and whether something is drawn in its left and right half."""
    found: list[tuple[float, bool, bool]] = []
    for time, image in frames(path):
        pixels = np.asarray(image).max(axis=2)
        found.append((round(time, 3), bool(pixels[:, :48].max() > 60), bool(pixels[:, 48:].max() > 60)))
    return found


def test_frames_show_the_last_result(source: Path, tmp_path: Path):
    out = tmp_path / "out.mp4"
    results = {1.0: DetectResult(objects=(LEFT,)), 2.0: DetectResult(objects=(RIGHT,)), 0.5: DetectResult(objects=())}
    assert annotate_video(source, results, out) == 30
    found = drawn(out)
    assert [time for time, *_ in found] == [round(0.1 * number, 3) for number in range(30)]
    assert [(left, right) for _, left, right in found] == [(False, False)] * 10 + [(True, False)] * 10 + [
        (False, True)
    ] * 10
    with av.open(str(out)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        sound = [packet for packet in container.demux(container.streams.audio[0]) if packet.dts is not None]
        assert len(sound) >= 24
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".tmp"] == []


def test_results_are_held_for_a_time(source: Path, tmp_path: Path):
    annotate_video(source, [(0.0, PointResult(points=(Point(0.2, 0.5),)))], tmp_path / "out.mkv", hold=0.55)
    assert [left for _, left, _ in drawn(tmp_path / "out.mkv")] == [True] * 6 + [False] * 24


def test_labels_keep_their_colors(source: Path, tmp_path: Path):
    results = [(0.0, DetectResult(objects=(LEFT, RIGHT))), (1.0, DetectResult(objects=(RIGHT,)))]
    annotate_video(source, results, tmp_path / "out.mp4", hold=2)
    before, after = (next(itertools.islice(frames(tmp_path / "out.mp4", start=at), 1)).image for at in (0.5, 1.5))
    edge: Any = (90, 40)
    for image in (before, after):
        color = np.array(image.getpixel((round(0.9 * 96) - 2, 40)), dtype=int)
        nearest = min(range(len(PALETTE)), key=lambda n: np.abs(color - np.array(PALETTE[n])).sum())
        assert nearest == 1, (color, edge)


def test_outcomes_and_results_of_a_run(tmp_path: Path, moondream_sandbox: Any):
    path = film(tmp_path / "film.mp4")
    with Client(base_url=moondream_sandbox.base_url) as client:
        outcomes = list(client.map("detect", frames(path, fps=2), object="red"))
        items = [(f"film.mp4#t={frame.timestamp:.3f}", frame.image) for frame in frames(path, fps=2)]
        client.run("detect", [*items, ("film.mp4#t=1.000", "nowhere.jpg")], tmp_path / "out.jsonl", object="red")
    assert annotate_video(path, outcomes, tmp_path / "a.mp4") == 30
    assert annotate_video(path, read_results(tmp_path / "out.jsonl"), tmp_path / "b.mp4") == 30


def test_odd_sizes_and_other_formats(tmp_path: Path):
    path = film(tmp_path / "odd.avi", size=(95, 63), codec="ffv1", options={})
    for name in ("out.mp4", "out.webm", "out.mov"):
        assert annotate_video(path, [], tmp_path / name) == 30
        with av.open(str(tmp_path / name)) as container:
            stream = container.streams.video[0]
            assert (stream.width, stream.height) == (94, 62)


@pytest.mark.parametrize(
    ("results", "problem"),
    [
        ([(0.0, CaptionResult(caption="x"))], "CaptionResult has nothing"),
        ([("soon", DetectResult(objects=()))], "'soon' is not a timestamp"),
        ([(float("nan"), DetectResult(objects=()))], "nan is not a timestamp"),
        ([DetectResult(objects=())], "pairs"),
        (5, "results must be"),
    ],
)
def test_wrong_results_write_nothing(results: Any, problem: str, source: Path, tmp_path: Path):
    with pytest.raises(ConfigurationError, match=problem):
        annotate_video(source, results, tmp_path / "out.mp4")
    assert not (tmp_path / "out.mp4").exists()


def test_wrong_files(source: Path, tmp_path: Path):
    before = source.read_bytes()
    with pytest.raises(ConfigurationError, match="another file"):
        annotate_video(source, [], source)
    assert source.read_bytes() == before
    for name in ("out", "out.txt", "out.jpg.xyz"):
        with pytest.raises(ConfigurationError, match="out must end in"):
            annotate_video(source, [], tmp_path / name)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        annotate_video(source, [], tmp_path / "nowhere" / "out.mp4")
    with pytest.raises(ImageError):
        annotate_video(tmp_path / "nothing.mp4", [], tmp_path / "out.mp4")
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "old.mp4").write_text("kept")
    with pytest.raises(ImageError):
        annotate_video(tmp_path / "text.mp4", [], tmp_path / "old.mp4")
    assert (tmp_path / "old.mp4").read_text() == "kept"
    with pytest.raises(ConfigurationError, match="hold"):
        annotate_video(source, [], tmp_path / "out.mp4", hold=0)
