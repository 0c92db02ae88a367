"""Lazy images are ordinary Pillow images for everybody who uses them."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from collections.abc import Callable
from typing import Any

import numpy
import pytest
from PIL import Image, ImageChops, ImageDraw, ImageOps, ImageStat

from moondream_async import ImageError, ImageOptions
from moondream_async._images.lazy import LazyImage
from moondream_async._images.prepare import encode, upright
from tests.support.pictures import exchanged, file

SIZE = (1920, 1080)
PICTURE = Image.linear_gradient("L").resize(SIZE).convert("RGB")


class Source:
    """Counts conversions, by size."""

    def __init__(self) -> None:
        self.sizes: list[tuple[int, int]] = []

    def convert(self, size: tuple[int, int]) -> Image.Image:
        self.sizes.append(size)
        return PICTURE.resize(size)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def lazy(source: Source) -> LazyImage:
    return LazyImage(SIZE, source.convert)


def saved(image: Image.Image) -> bytes:
    return file(image, "PNG", compress_level=0)


def drawn(image: Image.Image) -> bytes:
    ImageDraw.Draw(image).rectangle((5, 5, 50, 50), fill="red")
    return image.tobytes()


def changed(change: Callable[[Image.Image], object]) -> Callable[[Image.Image], bytes]:
    def use(image: Image.Image) -> bytes:
        change(image)
        return image.tobytes()

    return use


USES: dict[str, Callable[[Image.Image], Any]] = {
    "tobytes": lambda image: image.tobytes(),
    "save": saved,
    "copy": lambda image: image.copy().tobytes(),
    "copy.copy": lambda image: copy.copy(image).tobytes(),
    "copy.deepcopy": lambda image: copy.deepcopy(image).tobytes(),
    "pickle": lambda image: pickle.loads(pickle.dumps(image)).tobytes(),
    "crop": lambda image: image.crop((10, 10, 60, 60)).tobytes(),
    "resize": lambda image: image.resize((20, 20)).tobytes(),
    "reduce": lambda image: image.reduce(3).tobytes(),
    "rotate": lambda image: image.rotate(90, expand=True).tobytes(),
    "transpose": lambda image: image.transpose(Image.Transpose.ROTATE_90).tobytes(),
    "convert": lambda image: image.convert("L").tobytes(),
    "convert to its own mode": lambda image: image.convert("RGB").tobytes(),
    "split": lambda image: [band.tobytes() for band in image.split()],
    "getchannel": lambda image: image.getchannel("G").tobytes(),
    "getpixel": lambda image: image.getpixel((7, 900)),
    "getextrema": lambda image: image.getextrema(),
    "histogram": lambda image: image.histogram(),
    "getbbox": lambda image: image.getbbox(),
    "point": lambda image: image.point(lambda value: 255 - value).tobytes(),
    "quantize": lambda image: image.quantize(8).tobytes(),
    "asarray": lambda image: numpy.asarray(image).tobytes(),
    "ImageOps": lambda image: ImageOps.exif_transpose(image).tobytes(),
    "ImageChops": lambda image: ImageChops.invert(image).tobytes(),
    "ImageStat": lambda image: ImageStat.Stat(image).mean,
    "blend": lambda image: Image.blend(image, Image.new("RGB", SIZE), 0.5).tobytes(),
    "draw": drawn,
    "putpixel": changed(lambda image: image.putpixel((3, 3), (1, 2, 3))),
    "paste": changed(lambda image: image.paste("red", (0, 0, 9, 9))),
    "paste elsewhere": lambda image: changed(lambda other: other.paste(image, (5, 5)))(Image.new("RGB", (90, 90))),
    "thumbnail": changed(lambda image: image.thumbnail((64, 64))),
    "putalpha": changed(lambda image: image.putalpha(7)),
    "pixel access": lambda image: image.load()[9, 9],
    "im": lambda image: image.im.getpixel((9, 9)),
    "getim": lambda image: image.getim() is not None,
    "getexif": lambda image: dict(image.getexif()),
    "bands": lambda image: (image.getbands(), image.mode, image.size, image.width, image.height, image.format),
    "upright": lambda image: upright(image).tobytes(),
    "encode at full size": lambda image: encode(image, full_resolution=True),
    "encode without resizing": lambda image: encode(image, ImageOptions(resize=None)),
}


@pytest.mark.parametrize("name", USES)
def test_uses(name: str, lazy: LazyImage) -> None:
    assert isinstance(lazy, Image.Image)
    assert USES[name](lazy) == USES[name](PICTURE.copy())


def test_it_becomes_ordinary_on_first_use(lazy: LazyImage, source: Source) -> None:
    lazy.info["note"] = "kept"
    assert lazy.size == SIZE
    assert "size=1920x1080" in repr(lazy)
    assert source.sizes == []
    for _ in range(2):
        lazy.getpixel((0, 0))
        lazy.load()
    assert source.sizes == [SIZE]
    assert type(lazy) is Image.Image
    assert lazy.info == {"note": "kept"}
    assert set(vars(lazy)) == set(vars(PICTURE))


def test_it_equals_the_image_of_the_same_pixels(source: Source) -> None:
    other = PICTURE.copy()
    other.putpixel((0, 0), (1, 2, 3))
    for make in (lambda: LazyImage(SIZE, source.convert), PICTURE.copy):
        assert LazyImage(SIZE, source.convert) == make()
        assert make() == LazyImage(SIZE, source.convert)
    assert LazyImage(SIZE, source.convert) != other
    assert other != LazyImage(SIZE, source.convert)
    assert LazyImage(SIZE, source.convert) != "an image"
    with pytest.raises(TypeError):
        hash(LazyImage(SIZE, source.convert))


def test_skills_convert_it_at_the_size_that_they_send(lazy: LazyImage, source: Source) -> None:
    image = encode(lazy)
    assert source.sizes == [(1176, 662)]
    assert (image.width, image.height, image.original_size) == (1176, 662, SIZE)
    assert encode(lazy, ImageOptions(resize=500)).width == 500
    assert source.sizes[1:] == [(500, 281)]
    assert type(lazy) is LazyImage


def test_changes_are_sent(lazy: LazyImage, source: Source) -> None:
    lazy.paste("red", (0, 0, *SIZE))
    sent = Image.open(io.BytesIO(encode(lazy).data))
    assert sent.getpixel((500, 500)) == pytest.approx((255, 0, 0), abs=3)
    assert source.sizes == [SIZE]


def test_orientation_and_profile_that_a_user_sets(source: Source) -> None:
    image = LazyImage(SIZE, lambda size: source.convert(size).transpose(Image.Transpose.ROTATE_180))
    image.getexif()[0x0112] = 6
    image.info["icc_profile"] = exchanged()
    sent = encode(image)
    assert (sent.width, sent.height, sent.original_size) == (662, 1176, (1080, 1920))
    assert source.sizes == [(1176, 662)]
    ordinary = PICTURE.transpose(Image.Transpose.ROTATE_180)
    ordinary.getexif()[0x0112] = 6
    ordinary.info["icc_profile"] = exchanged()
    expected = Image.open(io.BytesIO(encode(ordinary).data)).reduce(4)
    difference = ImageChops.difference(Image.open(io.BytesIO(sent.data)).reduce(4), expected)
    assert max(high for _, high in difference.getextrema()) <= 2


def test_close(lazy: LazyImage, source: Source) -> None:
    lazy.close()
    with pytest.raises(ValueError, match="closed"):
        lazy.tobytes()
    assert source.sizes == []


def test_errors() -> None:
    def fail(size: tuple[int, int]) -> Image.Image:
        raise ImageError("cannot be converted")

    image = LazyImage(SIZE, fail)
    for _ in range(2):
        for use in (encode, upright, lambda image: image.load(), numpy.asarray, copy.copy, pickle.dumps):
            with pytest.raises(ImageError, match="cannot be converted"):
                use(image)


def test_threads(source: Source) -> None:
    for _ in range(10):
        image = LazyImage(SIZE, source.convert)
        start = threading.Barrier(8)
        seen: list[Any] = []

        def work(number: int, image: Image.Image = image, start: Any = start, seen: list[Any] = seen) -> None:
            start.wait()
            seen.append(encode(image).width if number % 2 else image.getpixel((9, 9)))

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(seen, key=str) == sorted([1176] * 4 + [PICTURE.getpixel((9, 9))] * 4, key=str)
    assert source.sizes.count(SIZE) == 10
