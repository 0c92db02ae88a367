"""Texts and profiles of a PNG are cheap, and never prevent it from being read."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import pytest
from PIL import Image, ImageCms, PngImagePlugin

from moondream_async import ImageError
from moondream_async._images import png
from moondream_async._images.prepare import encode
from tests.support.hostile import PNG, chunk, png_with
from tests.support.pictures import file

LONG = zlib.compress(bytes(1_100_000))
TALL = Image.new("RGB", (48, 64), "red")
XMP = b'<x tiff:Orientation="6"/>'


def orientation_6() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


@pytest.mark.parametrize(
    "added",
    [
        lambda: chunk(b"zTXt", b"workflow\0\0" + LONG),
        lambda: chunk(b"iTXt", b"workflow\0\1\0\0\0" + LONG),
        lambda: chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + LONG),
        lambda: chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + bytes(70_000_000)),
        lambda: chunk(b"tEXt", b"workflow\0" + bytes(70_000_000)),
        lambda: chunk(b"iCCP", b"profile\0\0" + LONG),
        lambda: chunk(b"zTXt", b"Raw profile type exif\0\0" + LONG),
        lambda: chunk(b"zTXt", b"bomb\0\0" + zlib.compress(bytes(100_000_000))),
        lambda: chunk(b"iTXt", b"a\0\1\0\0\0" + zlib.compress(bytes(1_000_000))) * 100,
        lambda: chunk(b"zTXt", b"not packed\0\0abc"),
        lambda: chunk(b"iTXt", b""),
        lambda: chunk(b"iCCP", b""),
    ],
    ids=range(12),
)
@pytest.mark.parametrize("where", [33, -12], ids=["before", "after"])
def test_accepted(added: Callable[[], bytes], where: int) -> None:
    assert encode(PNG[:where] + added() + PNG[where:]).original_size == (64, 64)


def test_texts_are_not_decompressed(monkeypatch: pytest.MonkeyPatch) -> None:
    decompressed: list[int] = []

    def count(compressed: memoryview, limit: int) -> bytes:
        decompressed.append(limit)
        return b""

    monkeypatch.setattr(png, "_decompress", count)
    profiles = chunk(b"iCCP", b"a\0\0" + LONG) * 1000
    texts = chunk(b"zTXt", b"a\0\0" + LONG) * 1000
    encode(png_with(profiles + texts))
    assert len(decompressed) == 1  # the first profile


def test_suitable_files_keep_their_texts() -> None:
    data = png_with(chunk(b"zTXt", b"workflow\0\0" + LONG))
    assert encode(data).data == data


@pytest.mark.parametrize(
    "data",
    [
        file(TALL, "PNG", exif=orientation_6()),
        file(TALL, "PNG")[:33] + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP) + file(TALL, "PNG")[33:],
        file(TALL, "PNG")[:33]
        + chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0en\0k\0" + zlib.compress(XMP))
        + file(TALL, "PNG")[33:],
        file(TALL, "PNG")[:-12] + chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP) + file(TALL, "PNG")[-12:],
        file(TALL, "PNG")[:-12] + chunk(b"eXIf", orientation_6().tobytes()[6:]) + file(TALL, "PNG")[-12:],
    ],
    ids=["eXIf", "XMP", "packed XMP", "XMP after the pixels", "eXIf after the pixels"],
)
def test_orientation_is_read(data: bytes) -> None:
    assert encode(data).original_size == (64, 48)


def test_color_profile_is_applied() -> None:
    lab_like = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = png_with(chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(lab_like)))
    picture, info = png.split(data)
    assert info["icc_profile"] == lab_like
    assert picture == PNG


def test_too_large_profile_is_refused() -> None:
    with pytest.raises(ImageError, match="color profile of more than 16,777,216 bytes"):
        encode(png_with(chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(17_000_000)))))


def test_animation() -> None:
    info = PngImagePlugin.PngInfo()
    info.add_text("a", "b")
    frames = [TALL.rotate(angle) for angle in (90, 180)]
    data = file(TALL, "PNG", save_all=True, append_images=frames, pnginfo=info)
    assert encode(data).media_type == "image/jpeg"  # its first frame, not the file unchanged
