"""Any Pillow image -> upright 8-bit sRGB on its background, at the size wanted."""

from __future__ import annotations

from typing import Any, cast

from PIL import Image

from ..errors import ImageError
from . import color, tiff
from .options import Color
from .orientation import Size

_PLAIN = ("RGB", "L", "CMYK")  # resized as they are: no transparency to weigh, no values to scale first
_GAP = 2.0  # reduced by whole pixels down to this many times the size, and filtered from there
_BAND = 128  # rows of the reduced image that are made at a time


def render(picture: Image.Image, size: Size, background: Color, *, finely: bool) -> Image.Image:
    """Make a decoded image RGB, at `size` as stored (not yet upright).

    `finely` takes the sharper, slower filter: for what the model does not average again.

    Raises:
        ImageError: 8 bits cannot show its pixels truly.
    """
    if picture.mode == "F":
        raise ImageError(
            "The image holds floats (mode F), and which of them are black and white is not known; "
            "scale them to 0..255 (uint8) first."
        )
    tiff.check_picture(picture)
    profile = color.profile_of(picture)
    if picture.mode not in _PLAIN or picture.has_transparency_data:
        picture, profile = _flatten_reduced(picture, size, background, profile), None
    factor = picture.width // size[0]
    if factor > 1 and (-(-picture.width // factor), -(-picture.height // factor)) == size:
        picture = picture.reduce(factor)
    elif picture.size != size:
        filter_ = Image.Resampling.LANCZOS if finely else Image.Resampling.BICUBIC
        picture = picture.resize(size, filter_, reducing_gap=_GAP)
    return _as_rgb(picture) if profile is None else color.to_srgb(picture, profile)


def _as_rgb(picture: Image.Image) -> Image.Image:
    return picture if picture.mode == "RGB" else picture.convert("RGB")  # which copies what is RGB already


def _flatten_reduced(picture: Image.Image, size: Size, background: Color, profile: Any) -> Image.Image:
    """In sRGB, without transparency, and by whole pixels near `size`; in bands, as a copy of all may be gigabytes."""
    picture = _without_depth(picture)
    factor = max(1, int(min(picture.width / size[0], picture.height / size[1]) / _GAP))
    reduced = Image.new("RGB", (-(-picture.width // factor), -(-picture.height // factor)))
    for top in range(0, reduced.height, _BAND):
        bottom = min(picture.height, (top + _BAND) * factor)
        band = _flatten(picture.crop((0, top * factor, picture.width, bottom)), background, profile)
        reduced.paste(band if factor == 1 else band.reduce(factor), (0, top))
    return reduced


def _flatten(picture: Image.Image, background: Color, profile: Any) -> Image.Image:
    if picture.mode == "La":  # premultiplied grey, which Pillow turns into nothing but LA
        picture = picture.convert("LA")
    alpha: Image.Image | None = None
    if picture.has_transparency_data:
        layered = picture if picture.mode == "LA" else picture.convert("RGBA")
        picture, alpha = layered.convert("L" if picture.mode == "LA" else "RGB"), layered.getchannel("A")
    elif picture.mode not in _PLAIN:
        picture = picture.convert("RGB")
    colours = color.to_srgb(picture, profile) if profile is not None else _as_rgb(picture)
    if alpha is None:
        return colours
    flat = Image.new("RGB", colours.size, background)
    flat.paste(colours, mask=alpha)
    return flat


def _without_depth(picture: Image.Image) -> Image.Image:
    """Make 8-bit gray: scaled, where Pillow's own conversion clips at 255; unless no value is above 255.

    Raises:
        ImageError: Values are below 0 or above 65,535.
    """
    if picture.mode != "I" and not picture.mode.startswith("I;16"):
        return picture
    wide = picture.convert("I")
    wide.info.pop("transparency", None)  # one of 65,536 values, where after this there are 256
    least, most = cast("tuple[int, int]", wide.getextrema())
    if least < 0 or most > 65535:
        raise ImageError(
            f"The image holds 32-bit values ({least:,} to {most:,} as signed ones), and which of them are black and "
            "white is not known; scale them to 0..255 (uint8) first."
        )
    if picture.mode == "I" and most <= 255:
        return wide.convert("L")
    bits, inverted = tiff.gray_scale(picture)
    divisor, top = 1 << (bits - 8), (1 << bits) - 1
    levels = [min(value, top) / divisor for value in range(65536)]
    return wide.point([top / divisor - level for level in levels] if inverted else levels, "L")
