"""Colours in a profile of their own (ICC) -> sRGB, which is what the model takes every image to be."""

from __future__ import annotations

import functools
import io
import itertools
from typing import Any, cast

from PIL import Image, ImageChops

_SAMPLES = Image.frombytes("RGB", (27, 1), bytes(itertools.chain(*itertools.product((0, 60, 200), repeat=3))))
_SEEN = 3  # levels of 255 by which a sample may change
_SPACES = {"RGB ": "RGB", "GRAY": "L", "CMYK": "CMYK"}  # of a profile -> the mode it applies to


def is_srgb(picture: Image.Image) -> bool:
    """Whether the image's colours are sRGB: it says so, or says nothing."""
    return profile_of(picture) is None


def to_srgb(picture: Image.Image, profile: Any) -> Image.Image:
    """8-bit RGB in sRGB, from RGB, grey or CMYK with an ICC profile; a profile that fits nothing is left out."""
    mode = _SPACES.get(str(profile.profile.xcolor_space))
    if mode == "RGB" and picture.mode == "L":
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


def profile_of(picture: Image.Image) -> Any:
    """The image's ICC profile, read; None if it has none, or none that changes anything."""
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
    """Whether converting changes nothing that one could see; names lie ("Linear sRGB")."""
    if str(profile.profile.xcolor_space) != "RGB ":
        return False
    from PIL import ImageCms

    try:
        converted = ImageCms.profileToProfile(_SAMPLES, profile, _srgb(), outputMode="RGB")
    except ImageCms.PyCMSError:
        return True  # it cannot be used, which is as good as none
    assert converted is not None
    changes = ImageChops.difference(_SAMPLES, converted).getextrema()
    return max(most for _, most in cast("tuple[tuple[int, int], ...]", changes)) <= _SEEN


@functools.cache
def _srgb() -> Any:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(cast("Any", ImageCms).createProfile("sRGB"))
