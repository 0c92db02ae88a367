"""`ImageOptions`: the effect of each option on the image sent."""

from __future__ import annotations

import functools
import io
import os
from typing import Any

import numpy as np
import pytest
from PIL import Image

from moondream_async import ConfigurationError, ImageError, ImageOptions
from moondream_async._images.crop_grid import best_size
from moondream_async._images.prepare import encode
from tests.support.pictures import file


@functools.cache
def photo() -> bytes:
    return file(Image.linear_gradient("L").resize((4000, 3000)).convert("RGB"), "JPEG")


def noise(size: tuple[int, int]) -> Image.Image:
    return Image.frombytes("RGB", size, os.urandom(size[0] * size[1] * 3))


@pytest.mark.parametrize(
    ("resize", "full_resolution", "size"),
    [
        ("auto", False, (2000, 1500)),
        ("auto", True, (4000, 3000)),
        (None, False, (4000, 3000)),
        (None, True, (4000, 3000)),
        (1000, False, (1000, 750)),
        (1000, True, (1000, 750)),
        (4000, False, (4000, 3000)),
        (9000, False, (4000, 3000)),
        (1, False, (1, 1)),
    ],
)
def test_resize(resize: Any, full_resolution: bool, size: tuple[int, int]) -> None:
    image = encode(photo(), ImageOptions(resize=resize), full_resolution=full_resolution)
    assert (image.width, image.height) == size
    assert image.original_size == (4000, 3000)
    assert (image.data == photo()) == (size == (4000, 3000))


def test_resize_refers_to_the_upright_image() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = encode(file(Image.new("RGB", (400, 300)), "JPEG", exif=exif), ImageOptions(resize=200))
    assert (image.width, image.height) == (150, 200)


def test_full_resolution_is_limited() -> None:
    image = encode(Image.new("RGB", (9000, 90)), full_resolution=True)
    assert (image.width, image.height) == (8192, 82)
    assert image.original_size == (9000, 90)


def test_too_long_for_a_jpeg() -> None:
    with pytest.raises(ImageError, match="65,500 a side"):
        encode(Image.new("L", (70_000, 2)), ImageOptions(resize=None))
    assert encode(Image.new("L", (70_000, 2))).width == best_size(70_000, 2)[0]


def test_quality() -> None:
    picture = noise((300, 300))
    sizes = [encode(picture, ImageOptions(quality=quality)).nbytes for quality in (20, 60, 95, 100)]
    assert sizes == sorted(sizes)
    assert len(set(sizes)) == 4


def test_default_quality() -> None:
    picture = Image.effect_noise((4000, 3000), 60).convert("RGB")
    assert encode(picture) == encode(picture, ImageOptions(quality=75))  # the model averages 2.8 pixels to one
    assert encode(picture, full_resolution=True) == encode(picture, ImageOptions(resize=None, quality=90))
    small = picture.resize((800, 600))
    assert encode(small) == encode(small, ImageOptions(quality=90))


@pytest.mark.parametrize("max_bytes", [60_000, 20_000, 2_000, 1_000])
def test_max_bytes_reduces_quality_then_size(max_bytes: int) -> None:
    image = encode(noise((400, 300)), ImageOptions(max_bytes=max_bytes))
    assert image.nbytes <= max_bytes
    assert image.original_size == (400, 300)
    assert image.width / image.height == pytest.approx(4 / 3, rel=0.05)
    assert Image.open(io.BytesIO(image.data)).size == (image.width, image.height)


def test_max_bytes_too_small() -> None:
    with pytest.raises(ImageError, match=r"cannot be made to fit 100 bytes \(ImageOptions.max_bytes\)"):
        encode(noise((400, 300)), ImageOptions(max_bytes=100))


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (2, 2), (4, 4), (3, 500)])
def test_max_bytes_of_thin_images(size: tuple[int, int]) -> None:
    with pytest.raises(ImageError, match="cannot be made to fit"):
        encode(Image.new("RGB", size), ImageOptions(max_bytes=50))


def test_suitable_files_above_max_bytes_are_re_encoded() -> None:
    data = file(noise((400, 300)), "PNG")
    assert encode(data).data == data
    image = encode(data, ImageOptions(max_bytes=len(data) - 1))
    assert image.media_type == "image/jpeg"
    assert image.nbytes < len(data)


@pytest.mark.parametrize("background", ["red", "#f00", "#ff0000", (255, 0, 0), [255, 0, 0], "rgb(255, 0, 0)"])
def test_background(background: Any) -> None:
    options = ImageOptions(background=background)
    assert options.background == (255, 0, 0)
    image = encode(Image.new("RGBA", (16, 16), (0, 0, 255, 0)), options)
    pixel = Image.open(io.BytesIO(image.data)).getpixel((8, 8))
    assert isinstance(pixel, tuple)
    assert pixel[0] > 250
    assert max(pixel[1:]) < 5


def test_value_semantics() -> None:
    assert ImageOptions() == ImageOptions(background="white")
    assert hash(ImageOptions()) == hash(ImageOptions(background="white"))
    assert ImageOptions().evolve(quality=50) == ImageOptions(quality=50)
    with pytest.raises(AttributeError):
        ImageOptions().quality = 50  # type: ignore[misc]


@pytest.mark.parametrize(
    "values",
    [
        {"resize": 0},
        {"resize": -5},
        {"resize": 3.5},
        {"resize": True},
        {"resize": "big"},
        {"quality": 0},
        {"quality": 101},
        {"quality": 90.5},
        {"max_bytes": 0},
        {"max_bytes": "10MB"},
        {"background": "no such color"},
        {"background": (1, 2)},
        {"background": (1, 2, 300)},
        {"background": (True, 0, 0)},
        {"background": "rgb(999,0,0)"},
        {"background": "hsv(0,200%,100%)"},
        {"background": None},
        {"allow_private_urls": "yes"},
    ],
)
def test_bad_values(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        ImageOptions(**values)


def test_options_of_another_type() -> None:
    with pytest.raises(ConfigurationError, match=r"image_options must be ImageOptions\(...\), not dict"):
        ImageOptions.of({"quality": 50})  # type: ignore[arg-type]


def test_numpy_scalars() -> None:
    options = ImageOptions(
        resize=np.int64(100),  # type: ignore[arg-type]
        quality=np.uint8(90),  # type: ignore[arg-type]
        max_bytes=np.int32(5_000),  # type: ignore[arg-type]
        background=(np.uint8(1), np.int64(2), 3),  # type: ignore[arg-type]
        allow_private_urls=np.bool_(True),  # type: ignore[arg-type]
    )
    plain = ImageOptions(resize=100, quality=90, max_bytes=5_000, background=(1, 2, 3), allow_private_urls=True)
    assert repr(options) == repr(plain)
    assert options == plain
    assert ImageOptions(background=np.array([1, 2, 3])).background == (1, 2, 3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "values",
    [
        {"quality": np.float64(90)},
        {"quality": np.int64(101)},
        {"resize": np.int64(0)},
        {"resize": np.array([5, 6])},
        {"max_bytes": np.bool_(True)},
        {"background": np.array([1, 2])},
        {"background": np.array(3)},
        {"allow_private_urls": np.int64(1)},
    ],
)
def test_bad_numpy_values(values: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        ImageOptions(**values)
