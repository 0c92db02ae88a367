"""Resize decoded images."""

from __future__ import annotations

from PIL import Image

from .orientation import Size

_REDUCING_GAP = 2.0  # images are reduced by an integer factor to this many times the size, and filtered from there


def jpeg_mode(picture: Image.Image) -> str:
    """Return the Pillow mode in which to decode a JPEG that may have to be resized.

    YCbCr, as the file stores it, takes half the time of RGB: only the brightness needs a sharp filter.
    """
    return "YCbCr" if _is_stored_as_ycbcr(picture) else "RGB"


def _is_stored_as_ycbcr(picture: Image.Image) -> bool:
    """Return whether libjpeg takes a JPEG of three channels for YCbCr; some files store RGB."""
    layers = getattr(picture, "layer", ())  # (id, ...) of each channel
    return [layer[0] for layer in layers] == [1, 2, 3] and picture.info.get("adobe_transform", 1) == 1


def resize(picture: Image.Image, size: Size, *, finely: bool) -> Image.Image:
    """Resize an image of mode RGB, L, CMYK, or YCbCr from a JPEG.

    Args:
        picture: The image.
        size: Its new width and height in pixels.
        finely: Use the sharper, slower filter, for images that the model does not average again.
    """
    factor = picture.width // size[0]
    if factor > 1 and (-(-picture.width // factor), -(-picture.height // factor)) == size:
        return picture.reduce(factor)
    filter_ = Image.Resampling.LANCZOS if finely else Image.Resampling.BICUBIC
    if picture.mode == "YCbCr":
        return _resize_ycbcr(picture, size, filter_)
    return picture.resize(size, filter_, reducing_gap=_REDUCING_GAP)


def _resize_ycbcr(picture: Image.Image, size: Size, filter_: Image.Resampling) -> Image.Image:
    # JPEGs store the colors at half the resolution of the brightness, and are sent so: a sharp filter is wasted on them.
    filters = (filter_, Image.Resampling.BOX, Image.Resampling.BOX)
    channels = [
        picture.getchannel(number).resize(size, channel_filter, reducing_gap=_REDUCING_GAP)
        for number, channel_filter in enumerate(filters)
    ]
    return Image.merge("YCbCr", channels)
