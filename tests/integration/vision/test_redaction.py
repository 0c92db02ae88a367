"""What was found is made unrecognizable, and only that."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageDraw

from moondream_async import (
    AsyncClient,
    BoundingBox,
    CaptionResult,
    ConfigurationError,
    DetectResult,
    ImageError,
    PointResult,
    SegmentResult,
)
from moondream_async.vision import redact

BOX = BoundingBox(0.25, 0.25, 0.75, 0.75)
FOUND = DetectResult(objects=(BOX,))
SQUARE = SegmentResult(path="M 0 0 L 1 0 L 1 1 L 0 1 Z", bbox=BOX)


@pytest.fixture
def picture() -> Image.Image:
    """Fine stripes, whose detail is easily seen or lost."""
    image = Image.new("RGB", (200, 100), "white")
    draw = ImageDraw.Draw(image)
    for x in range(0, 200, 4):
        draw.line((x, 0, x, 99), fill="black", width=2)
    return image


def changed(before: Image.Image, after: Image.Image) -> Any:
    return (np.asarray(before) != np.asarray(after)).any(axis=2)


@pytest.mark.parametrize("how", ["blur", "pixelate", "fill"])
@pytest.mark.parametrize("result", [FOUND, SQUARE])
def test_inside_only(picture: Image.Image, how: Any, result: Any):
    after = redact(picture, result, how=how, margin=0)
    touched = changed(picture, after)
    assert touched[30:70, 60:140].mean() > 0.4
    assert not touched[:24].any()
    assert not touched[:, :49].any()
    assert after.mode == "RGB"
    assert picture.getpixel((100, 50)) in ((0, 0, 0), (255, 255, 255))  # the original is unchanged


@pytest.mark.parametrize("how", ["blur", "pixelate", "fill"])
def test_a_segment_without_a_path(picture: Image.Image, how: Any):
    found = SegmentResult(path="", bbox=BOX, parse_error="cannot parse")
    touched = changed(picture, redact(picture, found, how=how))
    assert touched[30:70, 60:140].mean() > 0.4
    assert not changed(picture, redact(picture, SegmentResult(path="", bbox=None), how=how)).any()


@pytest.mark.parametrize("how", ["blur", "pixelate"])
@pytest.mark.parametrize("size", [3, 6, 8, 12, 20])
def test_small_boxes(how: Any, size: int):
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), dtype=np.uint8)
    box = BoundingBox(0.1, 0.1, 0.1 + size / 100, 0.1 + size / 100)
    after = np.asarray(redact(Image.fromarray(noise), DetectResult(objects=(box,)), how=how, margin=0))
    inside = after[10 : 10 + size, 10 : 10 + size].astype(float)
    assert inside.std() < 0.5 * noise.std()


def test_another_image(picture: Image.Image):
    result = DetectResult(objects=(BOX,), image_size=(640, 480))
    for use in (lambda: redact(picture, result), lambda: result.crops(picture)):
        with pytest.raises(ConfigurationError, match=r"200 x 100 pixels.*640 x 480"):
            use()
    assert redact(picture, DetectResult(objects=(BOX,), image_size=(400, 200)))  # smaller, of the same shape


@pytest.mark.parametrize("how", ["blur", "pixelate"])
def test_detail_is_lost(picture: Image.Image, how: Any):
    inside = np.asarray(redact(picture, FOUND, how=how).convert("L"))[30:70, 60:140]
    assert inside.std() < 20  # the stripes have 127


def test_fill_and_margin(picture: Image.Image):
    after = redact(picture, FOUND, how="fill", color="#ff0000", margin=0.1)
    assert after.getpixel((41, 21)) == (255, 0, 0)
    assert after.getpixel((38, 18)) != (255, 0, 0)
    assert redact(picture, FOUND, how="fill", color=(1, 2, 3)).getpixel((100, 50)) == (1, 2, 3)


def test_outline_with_a_hole(picture: Image.Image):
    path = "M 0 0 L 1 0 L 1 1 L 0 1 Z M 0.25 0.25 L 0.75 0.25 L 0.75 0.75 L 0.25 0.75 Z"
    after = redact(picture, SegmentResult(path=path, bbox=BOX), how="fill")
    touched = changed(picture, after)
    assert not touched[40:60, 80:120].any()
    assert touched[28:35, 55:145].any()


def test_several_results_and_none(picture: Image.Image):
    other = DetectResult(
        objects=(BoundingBox(0.0, 0.0, 0.1, 0.1), BoundingBox(-0.5, -0.5, -0.1, -0.1), BoundingBox(0.9, 0.9, 1.5, 1.5))
    )
    touched = changed(picture, redact(picture, FOUND, other, how="fill", color="red", margin=0))
    assert touched[:10, :20].all()
    assert touched[90:, 180:].all()
    assert not changed(picture, redact(picture, DetectResult(objects=()), SegmentResult(path=""))).any()


def test_tiny_box(picture: Image.Image):
    for box in (BoundingBox(0.5, 0.5, 0.501, 0.501), BoundingBox(0.5, 0.0, 0.505, 1.0)):
        redact(picture, DetectResult(objects=(box,)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"how": "smear"}, "how must be"),
        ({"margin": -1}, "margin"),
        ({"margin": float("nan")}, "margin"),
        ({"color": "nocolor"}, "color"),
        ({"color": "rgb(300, 0, 0)"}, "color"),
        ({"color": (1, 2)}, "color"),
        ({"color": (1, 2, 300)}, "color"),
    ],
)
def test_bad_arguments(picture: Image.Image, options: dict[str, Any], message: str):
    with pytest.raises(ConfigurationError, match=message):
        redact(picture, FOUND, **options)


@pytest.mark.parametrize("result", [PointResult(points=()), CaptionResult(caption="x")])
def test_results_without_regions(picture: Image.Image, result: Any):
    with pytest.raises(ConfigurationError, match="results of detect and segment"):
        redact(picture, result)


def test_crops(picture: Image.Image):
    result = DetectResult(objects=(BOX, BoundingBox(0.0, 0.0, 0.1, 0.2)))
    assert [crop.size for crop in result.crops(picture)] == [(100, 50), (20, 20)]
    assert next(crop.size for crop in result.crops(picture, margin=0.5)) == (200, 100)
    assert DetectResult(objects=()).crops(picture) == []
    with pytest.raises(ImageError, match="covers no pixel"):
        DetectResult(objects=(BoundingBox(0.5, 0.5, 0.5, 0.5),)).crops(picture)
    with pytest.raises(ConfigurationError, match="margin"):
        result.crops(picture, margin="1")  # type: ignore[arg-type]


async def test_a_crop_of_a_turned_photo_is_sent_upright(picture: Image.Image, tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    path = tmp_path / "turned.jpg"
    picture.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif)
    (crop,) = DetectResult(objects=(BOX,)).crops(path)
    assert crop.size == (100, 50)
    sent = await AsyncClient("k" * 20).encode_image(crop)
    assert (sent.width, sent.height) == (100, 50)
