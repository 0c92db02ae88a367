"""Any Pillow image -> upright 8-bit sRGB on its background, at the size wanted."""

from __future__ import annotations

from typing import cast

from PIL import Image

from . import colour
from .options import Color
from .orientation import Size

_PLAIN = ("RGB", "L", "CMYK")  # resized as they are: no transparency to weigh, no values to scale first
_GAP = 2.0  # reduced by whole pixels down to this many times the size, and filtered from there
_BAND = 64  # rows of the reduced image that are made at a time


def render(picture: Image.Image, size: Size, background: Color, *, finely: bool) -> Image.Image:
    """Make a decoded image RGB, at `size` as stored (not yet upright).

    `finely` takes the sharper, slower filter: for what the model does not average again.
    """
    profile = colour.profile_of(picture)
    if picture.mode not in _PLAIN or picture.has_transparency_data:
        picture = _flatten_reduced(picture, size, background)
    factor = picture.width // size[0]
    if factor > 1 and (-(-picture.width // factor), -(-picture.height // factor)) == size:
        picture = picture.reduce(factor)
    elif picture.size != size:
        filter_ = Image.Resampling.LANCZOS if finely else Image.Resampling.BICUBIC
        picture = picture.resize(size, filter_, reducing_gap=_GAP)
    if profile is not None:
        return colour.to_srgb(picture, profile)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _flatten_reduced(picture: Image.Image, size: Size, background: Color) -> Image.Image:
    """Without transparency, and by whole pixels near `size`; band by band, as a copy of it all may be gigabytes."""
    picture = _without_depth(picture)
    factor = max(1, int(min(picture.width / size[0], picture.height / size[1]) / _GAP))
    if factor == 1:
        return _flatten(picture, background)
    reduced = Image.new("RGB", (-(-picture.width // factor), -(-picture.height // factor)))
    for top in range(0, reduced.height, _BAND):
        bottom = min(picture.height, (top + _BAND) * factor)
        band = _flatten(picture.crop((0, top * factor, picture.width, bottom)), background)
        reduced.paste(band.reduce(factor), (0, top))
    return reduced


def _flatten(picture: Image.Image, background: Color) -> Image.Image:
    if picture.mode == "La":  # premultiplied grey, which Pillow turns into nothing but LA
        picture = picture.convert("LA")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layered = picture.convert("RGBA")
    flat = Image.new("RGB", layered.size, background)
    flat.paste(layered, mask=layered.getchannel("A"))
    return flat


def _without_depth(picture: Image.Image) -> Image.Image:
    """8-bit grey: scaled, where Pillow's own conversion clips at 255; unless no value is above 255."""
    if picture.mode != "I" and not picture.mode.startswith("I;16"):
        return picture
    wide = picture.convert("I")
    _, most = cast("tuple[int, int]", wide.getextrema())
    if picture.mode == "I" and most <= 255:
        return wide.convert("L")
    return wide.point([value / 256 for value in range(65536)], "L")
