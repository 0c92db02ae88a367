"""Boxes and points: conversion to pixels, crops, overlaps and non-maximum suppression."""

from __future__ import annotations

import io
from pathlib import Path
from random import Random
from typing import Any

import numpy
import pytest
from PIL import Image

from moondream_async import BoundingBox, ConfigurationError, DetectResult, EncodedImage, ImageError, Point, PointResult
from moondream_async._vision import nms

BOX = BoundingBox(0.25, 0.5, 0.75, 1.0, "cat")


def test_geometry() -> None:
    assert (BOX.width, BOX.height, BOX.area) == (0.5, 0.5, 0.25)
    assert BOX.center == Point(0.5, 0.75, "cat")
    assert BOX.iou(BOX) == 1
    assert BOX.iou(BoundingBox(0.5, 0.5, 1.0, 1.0)) == pytest.approx(0.125 / 0.375)
    assert BOX.iou(BoundingBox(0.8, 0, 1, 0.4)) == 0
    assert BoundingBox(0, 0, 0, 0).iou(BoundingBox(0, 0, 0, 0)) == 0
    assert BoundingBox(0.5, 0.5, 0.4, 0.4).area == 0
    assert BOX.contains(Point(0.25, 1.0))
    assert not BOX.contains(Point(0.2, 0.6))
    assert BOX.contains(BoundingBox(0.3, 0.6, 0.7, 0.9))
    assert not BOX.contains(BoundingBox(0.2, 0.6, 0.7, 0.9))
    assert dict(BOX) == {"x_min": 0.25, "y_min": 0.5, "x_max": 0.75, "y_max": 1.0, "label": "cat"}


@pytest.mark.parametrize(
    ("box", "pixels"),
    [
        (BOX, (25, 100, 75, 200)),
        (BoundingBox(-0.1, -0.1, 1.1, 1.1), (0, 0, 100, 200)),
        (BoundingBox(0.004, 0.0, 0.996, 1.0), (0, 0, 100, 200)),
    ],
)
def test_boxes_in_pixels(box: BoundingBox, pixels: Any) -> None:
    assert box.to_pixels(100, 200) == pixels


@pytest.mark.parametrize(
    ("point", "pixel"), [(Point(0.5, 0.5), (50, 100)), (Point(1, 1), (99, 199)), (Point(-1, 0), (0, 0))]
)
def test_points_in_pixels(point: Point, pixel: Any) -> None:
    assert point.to_pixels(100, 200) == pixel


def test_results_in_pixels() -> None:
    found = DetectResult(objects=(BOX,), image_size=(100, 200))
    assert found.to_pixels() == [(25, 100, 75, 200)]
    assert found.to_pixels(10, 10) == [(2, 5, 8, 10)]
    assert PointResult(points=(Point(0.5, 0.5),), image_size=(100, 200)).to_pixels() == [(50, 100)]
    with pytest.raises(ConfigurationError, match="does not know"):
        DetectResult(objects=(BOX,)).to_pixels()
    assert found == DetectResult(objects=(BOX,))
    assert "image_size" not in dict(found)


def test_nms() -> None:
    near, far = BoundingBox(0.26, 0.5, 0.76, 1.0, "cat"), BoundingBox(0, 0, 0.2, 0.2, "cat")
    dog = BoundingBox(0.25, 0.5, 0.75, 1.0, "dog")
    found = DetectResult(objects=(BOX, near, far, dog), by_label={"cat": DetectResult(objects=(BOX, near, far))})
    assert found.nms().objects == (BOX, far, dog)
    assert found.nms(iou=0.99).objects == found.objects
    labelled = found.nms().by_label
    assert labelled is not None
    assert labelled["cat"].objects == (BOX, far)


@pytest.mark.parametrize("kind", ["path", "bytes", "image", "array", "encoded"])
def test_crops(kind: str, scene: bytes, tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(scene)
    with Image.open(io.BytesIO(scene)) as image:
        whole = image.convert("RGB")
    given: Any = {
        "path": path,
        "bytes": scene,
        "image": whole,
        "array": numpy.asarray(whole),
        "encoded": EncodedImage.of(scene, media_type="image/png", size=(640, 480), original=(640, 480)),
    }[kind]
    red = BoundingBox(0.09375, 1 / 6, 0.40625, 0.58333)
    part = red.crop(given)
    assert part.size == (200, 200)
    assert part.mode == "RGB"
    if kind != "array":
        assert part.tobytes() == whole.crop((60, 80, 260, 280)).tobytes()
    assert red.crop(given, margin=0.1).size == (240, 240)
    assert red.crop(given, margin=9).size == (640, 480)


def test_orientation_is_applied_before_cropping(tmp_path: Path) -> None:
    image = Image.new("RGB", (200, 100), "white")
    image.paste((255, 0, 0), (0, 0, 100, 50))
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "side.jpg"
    image.save(path, exif=exif, quality=95)
    with Image.open(path) as opened:
        parts = [BoundingBox(0.5, 0, 1, 0.5).crop(given) for given in (path, opened)]
    for part in parts:
        assert part.size == (50, 100)
        red, green, _ = part.getpixel((25, 50))
        assert red > 240
        assert green < 20


def test_empty_and_bad_crops(scene: bytes) -> None:
    for box in (BoundingBox(0.5, 0.5, 0.5, 0.9), BoundingBox(0.6, 0.5, 0.5, 0.9), BoundingBox(1.5, 1.5, 1.6, 1.6)):
        with pytest.raises(ImageError, match="no pixel"):
            box.crop(scene)
    with pytest.raises(ImageError):
        BOX.crop(b"no image")


@pytest.mark.parametrize("iou", [-1.0, 0.0, 0.1, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("size", [0.01, 0.2, 1.0])
def test_nms_agrees_with_comparing_all_pairs(size: float, iou: float) -> None:
    random = Random(f"{size} {iou}")
    boxes: list[BoundingBox] = []
    for _ in range(300):
        x, y, width, height = random.random(), random.random(), random.uniform(-0.1, 1), random.uniform(-0.1, 1)
        near = random.choice(boxes) if boxes and random.random() < 0.5 else BoundingBox(x, y, x, y)
        edges = (near.x_min, near.y_min, near.x_min + width * size, near.y_min + height * size)
        boxes.append(BoundingBox(*(round(edge, 3) for edge in edges), random.choice(["cat", "dog", None])))
    for odd in ((), (BoundingBox(0.1, float("nan"), 0.2, 0.3), BoundingBox(0, 0, float("inf"), 1e200))):
        expected: list[BoundingBox] = []
        for box in (*boxes, *odd):
            if not any(box.label == other.label and box.iou(other) >= iou for other in expected):
                expected.append(box)
        assert DetectResult(objects=(*boxes, *odd)).nms(iou).objects == tuple(expected)


def test_nms_compares_only_nearby_boxes(monkeypatch: pytest.MonkeyPatch) -> None:
    boxes = [BoundingBox(x / 60, y / 50, (x + 1.2) / 60, (y + 1.2) / 50) for x in range(60) for y in range(50)]
    boxes.insert(0, BoundingBox(0, 0, 1, 1))
    compared = 0

    def count(edges: Any, others: Any, iou: float) -> bool:
        nonlocal compared
        near = list(others)
        compared += len(near)
        return any_overlaps(edges, near, iou)

    any_overlaps = nms._any_overlaps
    monkeypatch.setattr(nms, "_any_overlaps", count)
    assert len(DetectResult(objects=tuple(boxes)).nms().objects) == len(boxes)
    assert compared < 100 * len(boxes)
