"""Color profiles: images are sent in sRGB."""

from __future__ import annotations

import io
import struct

import pytest
from PIL import Image, ImageCms

from moondream_async import ImageOptions
from moondream_async._images.prepare import encode
from tests.support.pictures import exchanged, file

pytestmark = pytest.mark.usefixtures("each_resizer")


SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def pixel(data: bytes, at: tuple[int, int] = (8, 8)) -> tuple[int, ...]:
    found = Image.open(io.BytesIO(data)).convert("RGB").getpixel(at)
    assert isinstance(found, tuple)
    return found


def is_blue(color: tuple[int, ...]) -> bool:
    return color[0] < 40 and color[2] > 215


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_profiles_are_applied(kind: str) -> None:
    image = encode(file(Image.new("RGB", (16, 16), "red"), kind, icc_profile=exchanged()))
    assert image.media_type == "image/jpeg"
    assert is_blue(pixel(image.data))
    assert "icc_profile" not in Image.open(io.BytesIO(image.data)).info


@pytest.mark.parametrize("mode", ["RGBA", "P"])
def test_profiles_of_other_modes(mode: str) -> None:
    picture = Image.new("RGBA", (16, 16), (255, 0, 0, 255)).convert(mode)
    assert is_blue(pixel(encode(file(picture, "PNG", icc_profile=exchanged())).data))


def test_pillow_image_with_a_profile() -> None:
    picture = Image.new("RGB", (16, 16), "red")
    picture.info["icc_profile"] = exchanged()
    assert is_blue(pixel(encode(picture).data))


def test_srgb_passes_through() -> None:
    data = file(Image.new("RGB", (16, 16), "red"), "JPEG", icc_profile=SRGB)
    assert encode(data).data == data


@pytest.mark.parametrize("profile", [b"no profile", exchanged()[:200], b"\0" * 5000])
def test_damaged_profiles_are_ignored(profile: bytes) -> None:
    data = file(Image.new("RGB", (16, 16), "red"), "PNG", icc_profile=profile)
    color = pixel(encode(data).data)
    assert color[0] > 250
    assert color[2] < 5


def with_gamma(name: str) -> bytes:
    """Return a profile with sRGB's primaries and a linear curve, under any name."""
    profile = bytearray(SRGB.replace("sRGB".encode("utf-16-be"), name[:4].encode("utf-16-be")))
    for tag in (b"rTRC", b"gTRC", b"bTRC"):
        at = profile.find(tag)
        offset, _ = struct.unpack_from(">II", profile, at + 4)
        profile[offset : offset + 12] = b"curv" + bytes(8)  # no points: linear
    return bytes(profile)


@pytest.mark.parametrize("name", ["sRGB", "mine"])
def test_profile_names_are_not_trusted(name: str) -> None:
    image = encode(file(Image.new("RGB", (16, 16), (128, 128, 128)), "PNG", icc_profile=with_gamma(name)))
    assert pixel(image.data) == pytest.approx((188, 188, 188), abs=3)


def test_background_is_srgb() -> None:
    picture = Image.new("RGBA", (16, 16), (128, 128, 128, 0))
    options = ImageOptions(background=(200, 100, 50))
    image = encode(file(picture, "PNG", icc_profile=with_gamma("mine")), options)
    assert pixel(image.data) == pytest.approx((200, 100, 50), abs=3)


def test_profile_for_another_mode_is_ignored() -> None:
    color = pixel(encode(file(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", icc_profile=SRGB)).data)
    assert color[0] > 250
    assert color[2] < 10


def test_gray_with_an_rgb_profile() -> None:
    color = pixel(encode(file(Image.new("L", (16, 16), 200), "PNG", icc_profile=exchanged())).data)
    assert color[1] == pytest.approx(200, abs=12)
