"""Images for tests."""

from __future__ import annotations

import io

from PIL import Image, ImageCms, ImageDraw, features

from moondream_async import EncodedImage

AVIF = "avif" in features.get_supported()  # since Pillow 11.3
RED = (60, 80, 260, 280)
BLUE = (380, 100, 560, 280)


def scene() -> bytes:
    """Return a white PNG of 640 x 480 with a red square, a blue circle and a green triangle."""
    image = Image.new("RGB", (640, 480), "white")
    draw = ImageDraw.Draw(image)
    draw.rectangle((RED[0], RED[1], RED[2] - 1, RED[3] - 1), fill="red")
    draw.ellipse(BLUE, fill="blue")
    draw.polygon([(320, 320), (420, 460), (220, 460)], fill="green")
    return file(image, "PNG")


def file(image: Image.Image, kind: str, **options: object) -> bytes:
    """Return the image encoded as a file."""
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def exchanged() -> bytes:
    """Return an ICC profile that swaps red and blue: sRGB with two primaries exchanged, under another name."""
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    profile = profile.replace(b"rXYZ", b"tmp ", 1).replace(b"bXYZ", b"rXYZ", 1).replace(b"tmp ", b"bXYZ", 1)
    return profile.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be"))


def tiny() -> EncodedImage:
    """Return an image of 1 x 1 pixel."""
    data = file(Image.new("RGB", (1, 1), "red"), "PNG")
    return EncodedImage.of(data, media_type="image/png", size=(1, 1), original=(1, 1))
