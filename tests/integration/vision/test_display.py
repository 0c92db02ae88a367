"""Results draw themselves on their image, which they only refer to."""

from __future__ import annotations

import copy
import gc
import io
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
from PIL import Image

from moondream_async import BoundingBox, Client, DetectResult, Point, PointResult, SegmentResult
from moondream_async._images.image_source import ImageSource, remember
from moondream_async._images.prepare import encode
from moondream_async._vision import annotate, display
from moondream_async.bulk import read_results
from moondream_async.errors import ConfigurationError
from moondream_async.vision import PALETTE

GRAY = (238, 240, 243)
BOX = BoundingBox(0.1, 0.1, 0.9, 0.9)
RESULTS: list[Any] = [
    DetectResult(objects=(BOX,)),
    PointResult(points=(Point(0.5, 0.5),)),
    SegmentResult(path="M 0 0 L 1 0 L 1 1 C 1 1 .5 1 0 1 Z", bbox=BOX),
]


def shown(result: Any) -> Image.Image:
    """The picture that a notebook shows."""
    png = result._repr_png_()
    assert png is not None
    return Image.open(io.BytesIO(png)).convert("RGB")


def is_on_canvas(result: Any) -> bool:
    return shown(result).getpixel((1, 1)) == GRAY


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A dark green JPEG of 2000 x 1000."""
    path = tmp_path / "photo.jpg"
    Image.new("RGB", (2000, 1000), (0, 90, 0)).save(path)
    return path


def on(image: object, result: Any, size: tuple[int, int] | None = (2000, 1000)) -> Any:
    return remember(attrs.evolve(result, image_size=size), ImageSource.of(image))


@pytest.mark.parametrize("result", RESULTS, ids=lambda result: type(result).__name__)
def test_a_result_is_shown_on_its_photo(result: Any, photo: Path) -> None:
    picture = shown(on(photo, result))
    assert picture.size == (1024, 512)
    assert picture.getpixel((3, 3)) in ((0, 90, 0), (0, 91, 0), (0, 90, 1), (0, 89, 0))
    assert len(picture.getcolors(1 << 20) or []) > 1


def test_a_picture_in_memory_is_not_kept_alive() -> None:
    image = Image.new("RGB", (2000, 1000))
    result = on(image, RESULTS[0])
    assert not is_on_canvas(result)
    del image
    gc.collect()
    assert is_on_canvas(result)


def test_an_encoded_image_is_shown(photo: Path) -> None:
    encoded = encode(str(photo))
    assert shown(on(encoded, RESULTS[0])).size == (1024, 512)


@pytest.mark.parametrize("image", [b"\xff\xd8", "data:image/png;base64,AAAA", None, io.BytesIO(), "nope.jpg", 5])
def test_without_a_readable_source_there_is_a_canvas(image: object) -> None:
    assert is_on_canvas(on(image, RESULTS[0]))


def test_another_image_at_the_same_path_is_not_shown(photo: Path) -> None:
    assert is_on_canvas(on(photo, RESULTS[0], (640, 480)))


def test_copies_and_pickles_keep_the_path(photo: Path) -> None:
    result = on(photo, RESULTS[0])
    copies: list[Callable[[Any], Any]] = [copy.copy, copy.deepcopy, lambda each: pickle.loads(pickle.dumps(each))]
    for make_copy in copies:
        other = make_copy(result)
        assert other == result
        assert not is_on_canvas(other)
    image = Image.new("RGB", (2000, 1000))
    assert is_on_canvas(pickle.loads(pickle.dumps(on(image, RESULTS[0]))))


def test_the_source_is_no_part_of_the_value(photo: Path) -> None:
    with_source, without = on(photo, RESULTS[0]), on(None, RESULTS[0])
    assert with_source == without
    assert repr(with_source) == repr(without)
    assert attrs.asdict(with_source) == attrs.asdict(without)
    assert dict(with_source) == dict(without)
    assert not is_on_canvas(with_source.nms())


def test_without_the_extra_a_segment_has_an_edge(photo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ConfigurationError("This needs the extra 'vision'.")

    monkeypatch.setattr(annotate, "mask", missing)
    picture = shown(on(photo, RESULTS[2]))
    assert PALETTE[0] in {color for _, color in picture.getcolors(1 << 20) or []}
    assert picture.getpixel((512, 256))[1] > 80  # the inside is not tinted


@pytest.mark.parametrize("path", ["M 0", "M 99 99 L 1 1", "L 1e999 1", "M 0 0 Z 5", "M 0 0" + " L 1 1" * 100_000])
def test_a_bad_path_is_shown_as_text(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ConfigurationError("This needs the extra 'vision'.")

    monkeypatch.setattr(annotate, "mask", missing)
    assert SegmentResult(path=path, bbox=BOX, image_size=(10, 10))._repr_png_() is None


def test_no_error_leaves_a_repr(monkeypatch: pytest.MonkeyPatch, photo: Path) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("x")

    monkeypatch.setattr(display, "_draw", fail)
    assert on(photo, RESULTS[0])._repr_png_() is None


def test_results_of_a_client_know_their_image(moondream_sandbox: Any, scene: bytes, tmp_path: Path) -> None:
    path = tmp_path / "scene.png"
    path.write_bytes(scene)
    with Client(base_url=moondream_sandbox.base_url) as client:
        merged = client.detect(path, ["red", "blue"])
        assert merged.by_label is not None
        results = [
            merged,
            merged.by_label["blue"],
            client.point(str(path), "red"),
            client.segment(path, "red"),
            client.segment(path, "red", stream=True).result(),
        ]
        for outcome in client.map(["detect", "segment"], [path], object="red"):
            results += outcome.unwrap().values()
        client.run("detect", [path], tmp_path / "results.jsonl", object="red")
        results += [outcome.unwrap() for outcome in read_results(tmp_path / "results.jsonl")]
    assert [is_on_canvas(result) for result in results] == [False] * 8


def test_a_url_is_downloaded_when_it_is_shown(scene: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def download(url: str, options: Any) -> Any:
        asked.append((url, options.allow_private_urls))
        return encode(scene, options)

    monkeypatch.setattr(display, "_download", download)
    result = on("https://example.com/a.png", RESULTS[0], (640, 480))
    assert asked == []
    assert not is_on_canvas(result)
    assert asked == [("https://example.com/a.png", False)]


def test_a_private_url_is_not_downloaded(moondream_sandbox: Any) -> None:
    assert is_on_canvas(on(moondream_sandbox.base_url, RESULTS[0]))
