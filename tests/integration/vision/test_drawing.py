"""Drawings of results: contents, positions and legibility."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy
import pytest
from PIL import Image

from moondream_async import (
    BoundingBox,
    CaptionResult,
    ConfigurationError,
    DetectResult,
    ImageError,
    Point,
    PointResult,
    SegmentResult,
)
from moondream_async._images.prepare import encode
from moondream_async.vision import PALETTE, annotate
from tests.support.pictures import file

WHITE = (255, 255, 255)


def blank(size: tuple[int, int] = (400, 300)) -> Image.Image:
    return Image.new("RGB", size, "white")


def colors(image: Any) -> set[tuple[int, int, int]]:
    return {color for _, color in image.getcolors(image.width * image.height)}


@pytest.mark.parametrize("size", [(40, 30), (400, 300), (4000, 3000)])
def test_frames_are_on_the_edges_of_boxes(size: tuple[int, int]) -> None:
    image = blank(size)
    found = annotate(image, DetectResult(objects=(BoundingBox(0.25, 0.25, 0.75, 0.75),)))
    assert colors(image) == {WHITE}  # the original is unchanged
    changed = numpy.asarray(found) != 255
    rows, columns = numpy.nonzero(changed.any(axis=2))
    assert (columns.min(), rows.min()) == (size[0] // 4, round(size[1] / 4))
    assert (columns.max() + 1, rows.max() + 1) == (round(size[0] * 0.75), round(size[1] * 0.75))
    assert found.getpixel((size[0] // 2, size[1] // 2)) == WHITE
    assert colors(found) == {WHITE, PALETTE[0]}


def test_a_color_for_each_label() -> None:
    boxes = [BoundingBox(0.1, y, 0.3, y + 0.1, label) for y, label in ((0.2, "a"), (0.5, "b"), (0.8, "a"))]
    found = annotate(blank(), DetectResult(objects=tuple(boxes)))
    edges = [found.getpixel((round(400 * 0.2), round(300 * (box.y_max)) - 1)) for box in boxes]
    assert edges == [PALETTE[0], PALETTE[1], PALETTE[0]]


@pytest.mark.parametrize(
    "box",
    [
        BoundingBox(0, 0, 0.1, 0.1, "at the corner"),
        BoundingBox(0.95, 0.95, 1, 1, "at the other corner"),
        BoundingBox(0, 0, 1, 1, "everything"),
        BoundingBox(-1, -1, 2, 2, "beyond"),
        BoundingBox(0.5, 0.5, 0.5, 0.5, "no size"),
        BoundingBox(0.4, 0.4, 0.6, 0.6, "very " * 100 + "long"),
        BoundingBox(0.4, 0.4, 0.6, 0.6, "two\nlines"),
        BoundingBox(0.6, 0.6, 0.4, 0.4, "upside down"),
    ],
    ids=lambda box: box.label[:20],
)
@pytest.mark.parametrize("size", [(400, 300), (60, 40), (3, 3), (1, 1)])
def test_labels_stay_inside_the_image(box: BoundingBox, size: tuple[int, int]) -> None:
    found = annotate(blank(size), DetectResult(objects=(box,)))
    assert found.size == size
    if min(size) > 30:
        text = [color for color in colors(found) if color == WHITE or min(color) > 250]
        assert PALETTE[0] in colors(found)
        assert text


def test_label_positions() -> None:
    low = annotate(blank(), DetectResult(objects=(BoundingBox(0.5, 0.5, 0.6, 0.6, "cat"),)))
    assert low.getpixel((202, 147)) == PALETTE[0]  # above the box
    high = annotate(blank(), DetectResult(objects=(BoundingBox(0.5, 0.0, 0.6, 0.4, "cat"),)))
    assert high.getpixel((202, 2)) == PALETTE[0]  # inside it, at the top
    right = annotate(blank(), DetectResult(objects=(BoundingBox(0.98, 0.5, 1.0, 0.6, "a long name"),)))
    assert right.getpixel((399, 148)) == PALETTE[0]
    assert right.getpixel((250, 140)) == WHITE


def test_points_and_segments() -> None:
    area = SegmentResult(path="M 0 0 H 1 V 1 H 0 Z M .4 .4 H .6 V .6 H .4 Z", bbox=BoundingBox(0.25, 0.25, 0.75, 0.75))
    found = annotate(blank(), area, PointResult(points=(Point(0.9, 0.9, "p"),)))
    tinted = found.getpixel((150, 120))
    assert tinted not in (WHITE, PALETTE[0])
    assert found.getpixel((200, 150)) == WHITE  # the hole
    assert found.getpixel((100, 150)) == PALETTE[0]  # the edge
    assert found.getpixel((360, 270)) == PALETTE[1]
    assert found.getpixel((20, 20)) == WHITE


def test_several_results_and_a_label_for_all() -> None:
    one, two = (
        DetectResult(objects=(BoundingBox(0.1, 0.1, 0.3, 0.3),)),
        DetectResult(objects=(BoundingBox(0.5, 0.5, 0.9, 0.9),)),
    )
    plain, named = annotate(blank(), one, two), annotate(blank(), one, two, label="cat")
    assert (
        numpy.asarray(named != plain).any() if isinstance(named != plain, bool) else named.tobytes() != plain.tobytes()
    )
    assert one.annotate(blank()).tobytes() == annotate(blank(), one).tobytes()


def test_errors(scene: bytes) -> None:
    found = DetectResult(objects=(BoundingBox(0, 0, 1, 1, "a"),))
    with pytest.raises(ConfigurationError, match="nothing to draw"):
        annotate(scene, CaptionResult(caption="x"))
    with pytest.raises(ConfigurationError, match="font"):
        annotate(scene, found, font="no-such-font.ttf")
    with pytest.raises(ImageError):
        annotate(b"no image", found)
    assert annotate(scene).size == (640, 480)


def test_notebooks() -> None:
    png = DetectResult(objects=(BoundingBox(0, 0, 1, 1, "a"),), image_size=(4000, 2000))._repr_png_()
    assert png is not None
    with Image.open(io.BytesIO(png)) as image:
        assert image.size == (640, 320)
        assert PALETTE[0] in colors(image.convert("RGB"))
    assert DetectResult(objects=())._repr_png_() is None


def test_show(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[Any] = []
    monkeypatch.setattr(Image.Image, "show", lambda image: shown.append(image))
    PointResult(points=(Point(0.5, 0.5),)).show(blank(), label="x")
    assert shown[0].size == (400, 300)


def test_label_of_a_point_in_the_corner() -> None:
    corner = annotate(blank(), PointResult(points=(Point(0, 0, "top"),)))
    middle = annotate(blank(), PointResult(points=(Point(0.5, 0.5, "top"),)))

    def label(image: Any) -> int:
        return int((numpy.asarray(image) == PALETTE[0]).all(axis=2).sum())

    assert label(corner) >= 0.8 * label(middle)


def test_deep_and_damaged_images(scene: bytes) -> None:
    ramp = numpy.tile(numpy.linspace(0, 65535, 100).astype(numpy.uint16), (80, 1))
    deep = annotate(Image.fromarray(ramp))
    assert deep.getpixel((2, 5))[0] < 20
    assert 100 < deep.getpixel((50, 5))[0] < 160
    with Image.open(io.BytesIO(scene[: len(scene) // 2])) as cut, pytest.raises(ImageError):
        annotate(cut, DetectResult(objects=()))
    for label in (5, b"x"):
        with pytest.raises(ConfigurationError):
            annotate(blank(), label=label)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    array = numpy.random.default_rng(1).integers(0, 255, (40, 50, 3), dtype=numpy.uint8)
    assert (numpy.asarray(BoundingBox(0, 0, 1, 1).crop(array)) == array).all()  # nothing is lost


def test_notebooks_without_box_or_size() -> None:
    assert SegmentResult(path="M 0 0 L 1 1 Z", image_size=(10, 10))._repr_png_() is None  # no box


@pytest.mark.parametrize("label", [5, b"x", Path("a/b"), numpy.int64(5), "\udcff\0\x1b[31m", "a" * 100_000])
def test_label_types(label: Any) -> None:
    found = DetectResult(objects=(BoundingBox(0, 0, 1, 1, label),))
    assert annotate(Image.new("RGB", (64, 48)), found).size == (64, 48)


@pytest.mark.parametrize("kind", ["bytes", "PIL"])
def test_pictures_of_a_rotated_photo_are_not_rotated_again(kind: str) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photo: Any = file(Image.new("RGB", (300, 200), "red"), "JPEG", exif=exif)
    photo = Image.open(io.BytesIO(photo)) if kind == "PIL" else photo
    result = DetectResult(objects=(BoundingBox(0, 0, 1, 1),))
    for picture in (result.annotate(photo), result.objects[0].crop(photo)):
        assert picture.size == (200, 300)
        assert encode(picture).original_size == (200, 300)
    if kind == "PIL":
        assert photo.getexif()[0x0112] == 6  # the user's image is unchanged
