"""Convert colors from an embedded ICC profile to sRGB, because the model treats every image as sRGB."""

from __future__ import annotations

import functools
import io
import itertools
from typing import Any, cast

from PIL import Image, ImageChops

_SAMPLES = Image.frombytes("RGB", (27, 1), bytes(itertools.chain(*itertools.product((0, 60, 200), repeat=3))))
_TOLERANCE = 3  # levels of 255 by which a sample may change unnoticed
_MODES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # color space of a profile -> the Pillow mode it applies to


def is_srgb(picture: Image.Image) -> bool:
    """Return whether an image's colors are sRGB: its profile is equivalent to sRGB, or it has none."""
    return read_profile(picture) is None


def to_srgb(picture: Image.Image, profile: Any) -> Image.Image:
    """Convert RGB, YCbCr, gray or CMYK with an ICC profile to 8-bit sRGB; ignore profiles of other color spaces."""
    mode = _MODES.get(str(profile.profile.xcolor_space))
    if mode == "RGB" and picture.mode in ("L", "YCbCr"):
        picture = picture.convert("RGB")
    if picture.mode == mode:
        from PIL import ImageCms

        try:
            converted = ImageCms.profileToProfile(picture, profile, _srgb(), outputMode="RGB")
        except (ImageCms.PyCMSError, ValueError):
            return picture.convert("RGB")
        if converted is not None:
            return converted
    return picture.convert("RGB")


def read_profile(picture: Image.Image) -> Any:
    """Read an image's ICC profile; return None if it has none, or one equivalent to sRGB."""
    data = picture.info.get("icc_profile")
    if not isinstance(data, bytes) or not data:
        return None
    try:
        from PIL import ImageCms

        profile = ImageCms.ImageCmsProfile(io.BytesIO(data))
    except (ImportError, OSError):  # Pillow without LittleCMS; a damaged profile
        return None
    return None if _is_srgb(profile) else profile


def _is_srgb(profile: Any) -> bool:
    """Return whether converting makes no visible difference; profile names are unreliable ("Linear sRGB")."""
    if str(profile.profile.xcolor_space) != "RGB ":
        return False
    from PIL import ImageCms

    try:
        converted = ImageCms.profileToProfile(_SAMPLES, profile, _srgb(), outputMode="RGB")
    except ImageCms.PyCMSError:
        return True  # an unusable profile is ignored
    assert converted is not None
    changes = ImageChops.difference(_SAMPLES, converted).getextrema()
    return max(highest for _, highest in cast("tuple[tuple[int, int], ...]", changes)) <= _TOLERANCE


@functools.cache
def _srgb() -> Any:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(cast("Any", ImageCms).createProfile("sRGB"))
