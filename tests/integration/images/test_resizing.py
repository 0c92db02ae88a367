"""Images are resized the same way with and without the extra `fast`."""

from __future__ import annotations

import importlib.abc
import io
import logging
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from PIL import Image, ImageChops

from moondream_async import EncodedImage, ImageError, ImageOptions
from moondream_async._images import fast, pillow_layout, resizing
from moondream_async._images.prepare import encode
from tests.support.effort import scaled
from tests.support.pictures import exchanged, file

needs_fast = pytest.mark.skipif(not fast.is_available(), reason="the extra fast is not installed")


def gradients(size: tuple[int, int], mode: str = "RGB") -> Image.Image:
    across = Image.linear_gradient("L").rotate(90).resize(size, Image.Resampling.BICUBIC)
    down = Image.linear_gradient("L").resize(size, Image.Resampling.BICUBIC)
    return Image.merge("RGB", (across, down, Image.radial_gradient("L").resize(size))).convert(mode)


def encode_both_ways(image: object, monkeypatch: pytest.MonkeyPatch, **options: Any) -> tuple[EncodedImage, ...]:
    with monkeypatch.context() as patched:
        patched.setattr(fast, "is_available", lambda: False)
        by_pillow = encode(image, **options)
    return by_pillow, encode(image, **options)


def largest_difference(one: EncodedImage, other: EncodedImage) -> int:
    """Return the largest difference of a color, of 255, averaged over 8 x 8 pixels, as the JPEG encoder rounds."""
    pictures = [Image.open(io.BytesIO(image.data)).reduce(8) for image in (one, other)]
    return max(high for _, high in ImageChops.difference(*pictures).getextrema())


@needs_fast
@pytest.mark.parametrize("size", [(1920, 1080), (1300, 1301), (5000, 700), (3000, 90)][:: scaled(3, 1)])
@pytest.mark.parametrize(
    ("mode", "kind", "options"),
    [
        ("RGB", "JPEG", {"quality": 95}),
        ("RGB", "JPEG", {"quality": 95, "subsampling": 0, "progressive": True}),
        ("L", "JPEG", {}),
        ("CMYK", "JPEG", {"quality": 95}),
        ("RGB", "PNG", {"compress_level": 1}),
        ("L", "PNG", {"compress_level": 1}),
        ("RGBA", "PNG", {"compress_level": 1}),
        ("I;16", "PNG", {"compress_level": 1}),
    ],
)
def test_colors_and_sizes(
    mode: str, kind: str, options: dict[str, Any], size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    gray = Image.linear_gradient("L").resize(size)
    picture = gray.convert("I").convert("I;16") if mode == "I;16" else gradients(size, mode)
    data = file(picture, kind, **options)
    by_pillow, by_fast = encode_both_ways(data, monkeypatch, options=ImageOptions(quality=100))
    assert (by_pillow.width, by_pillow.height) == (by_fast.width, by_fast.height)
    assert by_pillow.original_size == by_fast.original_size == size
    assert largest_difference(by_pillow, by_fast) <= 2


@pytest.mark.parametrize("size", [(1920, 1080), (1300, 1301), (5000, 700), (700, 500)][:: scaled(3, 1)])
def test_colors_are_those_of_resizing_rgb(
    size: tuple[int, int], each_resizer: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = file(gradients(size), "JPEG", quality=95)
    for resize in ("auto", 640, 333):
        options = ImageOptions(resize=resize, quality=100)
        image = encode(data, options)
        with monkeypatch.context() as patched:
            patched.setattr(fast, "is_available", lambda: False)
            patched.setattr(resizing, "jpeg_mode", lambda *_: "RGB")
            assert largest_difference(image, encode(data, options)) <= 2


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation: int, each_resizer: str) -> None:
    from PIL import ImageOps

    exif = Image.Exif()
    exif[0x0112] = orientation
    data = file(gradients((1600, 1000)), "JPEG", exif=exif, quality=95)
    image = encode(data)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    assert image.original_size == upright.size
    sent = Image.open(io.BytesIO(image.data))
    expected = upright.resize(sent.size, Image.Resampling.LANCZOS)
    assert max(high for _, high in ImageChops.difference(sent, expected).getextrema()) <= 8


def test_profiles_of_jpegs(each_resizer: str) -> None:
    image = encode(file(Image.new("RGB", (1920, 1080), "red"), "JPEG", icc_profile=exchanged()))
    assert image.width == 1176
    red, _, blue = Image.open(io.BytesIO(image.data)).getpixel((500, 300))
    assert red < 40
    assert blue > 215


def test_jpegs_that_store_rgb(each_resizer: str) -> None:
    data = file(Image.new("RGB", (1920, 1080), (200, 100, 50)), "JPEG", keep_rgb=True, quality=95)
    color = Image.open(io.BytesIO(encode(data).data)).getpixel((500, 300))
    assert color == pytest.approx((200, 100, 50), abs=4)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_truncated_jpegs(mode: str, progressive: bool, each_resizer: str) -> None:
    data = file(Image.effect_noise((1920, 1080), 50).convert(mode), "JPEG", progressive=progressive)
    with pytest.raises(ImageError, match="image file is truncated"):
        encode(data[: len(data) * 2 // 3])


@pytest.mark.parametrize(
    "best", [(1, 1), (100, 75), (150, 100), (399, 299), (400, 300), (401, 301), (799, 599), (800, 600)]
)
def test_drafted_size(best: tuple[int, int]) -> None:
    for size in ((800, 600), (803, 601)):
        picture = Image.open(io.BytesIO(file(Image.new("RGB", size), "JPEG")))
        picture.draft("RGB", best)
        assert resizing.drafted_size(size, best) == picture.size


@needs_fast
@pytest.mark.parametrize("size", [(3, 5), (1, 1), (1, 900), (900, 1), (1999, 31)])
def test_any_size(size: tuple[int, int]) -> None:
    for mode in ("RGB", "L", "CMYK"):
        picture = Image.new(mode, size, 0x50)
        for new in ((1, 1), (size[0], 1), (max(1, size[0] // 7), max(1, size[1] // 3))):
            for finely in (False, True):
                resized = resizing.resize(picture, new, finely=finely)
                assert (resized.mode, resized.size) == (mode, new)
                assert resized.getextrema() == picture.getextrema()


@needs_fast
def test_threads_resize_at_the_same_time() -> None:
    pictures = [Image.new("RGB", (1500 + n, 900), (n, 0, 255 - n)) for n in range(32)]
    sent: dict[int, Any] = {}

    def work(number: int) -> None:
        sent[number] = resizing.resize(pictures[number], (700, 400), finely=True).getextrema()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sent == {n: ((n, n), (0, 0), (255 - n, 255 - n)) for n in range(32)}


class TestFallback:
    @pytest.fixture(autouse=True)
    def _load_again(self) -> Iterator[None]:
        fast._load.cache_clear()
        yield
        fast._load.cache_clear()

    def encode(self, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level(logging.DEBUG, "moondream_async"):
            for _ in range(2):
                assert encode(Image.new("RGB", (1920, 1080), "red")).width == 1176
        assert not fast.is_available()
        assert [record.levelname for record in caplog.records] == ["DEBUG"]
        assert "resized by Pillow alone" in caplog.text

    def test_not_installed(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        monkeypatch.setitem(sys.modules, "cykooz_resizer", None)
        self.encode(caplog)

    @pytest.mark.parametrize("error", [OSError("no such library"), ImportError("undefined symbol")])
    def test_broken(self, error: Exception, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        class Broken(importlib.abc.MetaPathFinder):
            def find_spec(self, name: str, *_: object) -> None:
                if name == "cykooz_resizer":
                    raise error

        monkeypatch.delitem(sys.modules, "cykooz_resizer", raising=False)
        monkeypatch.setattr(sys, "meta_path", [Broken(), *sys.meta_path])
        self.encode(caplog)
        assert str(error) in caplog.text

    @needs_fast
    def test_unknown_pillow(self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
        class Other(pillow_layout._Imaging):
            @property
            def bands(self) -> int:
                return 2

        monkeypatch.setattr(pillow_layout, "_Imaging", Other)
        self.encode(caplog)


@pytest.mark.skipif(os.name != "posix", reason="needs getim of CPython")
def test_layout_of_pillow_is_known() -> None:
    pytest.importorskip("cykooz_resizer")
    assert pillow_layout.is_known()
