"""Convert any Pillow image to 8-bit sRGB without transparency, at a given size."""

from __future__ import annotations

from typing import Any, cast

from PIL import Image

from ..errors import ImageError
from . import color, resizing, tiff
from .options import Color
from .orientation import Size

_DIRECT_MODES = ("RGB", "YCbCr", "L", "CMYK")  # resized directly: no transparency to blend, no values to scale first
_REDUCING_GAP = 2.0  # transparent images are reduced by an integer factor to this many times the size or more
_BAND = 128  # rows of the reduced image that are produced at a time


def render(picture: Image.Image, size: Size, background: Color, *, finely: bool) -> Image.Image:
    """Convert a decoded image to RGB at a size; YCbCr without an ICC profile is not converted.

    Args:
        picture: The image, as stored (not yet upright).
        size: Its new width and height in pixels, as stored.
        background: The color behind transparent parts.
        finely: Use the sharper, slower filter, for images that the model does not average again.

    Raises:
        ImageError: The pixels have no defined 8-bit equivalent.
    """
    if picture.mode == "F":
        raise ImageError(
            "The image holds floats (mode F) without defined black and white points; "
            "scale them to 0..255 (uint8) first."
        )
    tiff.check_picture(picture)
    profile = color.read_profile(picture)
    if picture.mode not in _DIRECT_MODES or picture.has_transparency_data:
        picture, profile = _flatten_reduced(picture, size, background, profile), None
    if picture.size != size:
        picture = resizing.resize(picture, size, finely=finely)
    if profile is not None:
        return color.to_srgb(picture, profile)
    return picture if picture.mode == "YCbCr" else as_rgb(picture)


def as_rgb(picture: Image.Image) -> Image.Image:
    """Convert an image to RGB; an RGB image is returned itself, which `convert` would copy."""
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _flatten_reduced(picture: Image.Image, size: Size, background: Color, profile: Any) -> Image.Image:
    """Convert to sRGB without transparency, reduced by an integer factor to near `size`.

    This is done in bands, because a copy of the whole image may take gigabytes.
    """
    picture = _to_8_bit(picture)
    factor = max(1, int(min(picture.width / size[0], picture.height / size[1]) / _REDUCING_GAP))
    reduced = Image.new("RGB", (-(-picture.width // factor), -(-picture.height // factor)))
    for top in range(0, reduced.height, _BAND):
        bottom = min(picture.height, (top + _BAND) * factor)
        band = _flatten(picture.crop((0, top * factor, picture.width, bottom)), background, profile)
        reduced.paste(band if factor == 1 else band.reduce(factor), (0, top))
    return reduced


def _flatten(picture: Image.Image, background: Color, profile: Any) -> Image.Image:
    if picture.mode == "La":  # premultiplied gray, which Pillow can only convert to LA
        picture = picture.convert("LA")
    alpha: Image.Image | None = None
    if picture.has_transparency_data:
        layered = picture if picture.mode == "LA" else picture.convert("RGBA")
        picture, alpha = layered.convert("L" if picture.mode == "LA" else "RGB"), layered.getchannel("A")
    elif picture.mode not in _DIRECT_MODES:
        picture = picture.convert("RGB")
    opaque = color.to_srgb(picture, profile) if profile is not None else as_rgb(picture)
    if alpha is None:
        return opaque
    flat = Image.new("RGB", opaque.size, background)
    flat.paste(opaque, mask=alpha)
    return flat


def _to_8_bit(picture: Image.Image) -> Image.Image:
    """Convert 16- and 32-bit gray to 8-bit gray, and return other images unchanged.

    Values are scaled from 0..65,535, where Pillow's own conversion clips at 255; mode I with values up to 255 is not
    scaled.

    Raises:
        ImageError: Values are below 0 or above 65,535.
    """
    if picture.mode != "I" and not picture.mode.startswith("I;16"):
        return picture
    wide = picture.convert("I")
    wide.info.pop("transparency", None)  # a 16-bit value, which has no 8-bit equivalent
    low, high = cast("tuple[int, int]", wide.getextrema())
    if low < 0 or high > 65535:
        raise ImageError(
            f"The image holds 32-bit values ({low:,} to {high:,} as signed integers) without defined black and white "
            "points; scale them to 0..255 (uint8) first."
        )
    if picture.mode == "I" and high <= 255:
        return wide.convert("L")
    bits, inverted = tiff.gray_scale(picture)
    divisor, top = 1 << (bits - 8), (1 << bits) - 1
    levels = [min(value, top) / divisor for value in range(65536)]
    return wide.point([top / divisor - level for level in levels] if inverted else levels, "L")
