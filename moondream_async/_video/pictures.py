"""Convert PyAV's frames to Pillow images."""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from PIL import Image

from .._images.lazy import LazyImage
from .._images.orientation import Size
from ..errors import ImageError
from .decoding import import_av

_LANCZOS = 0x200 | 0x2000  # swscale's SWS_LANCZOS and SWS_FULL_CHR_H_INT; without the latter, colors are blurred
_MAX_LAZY_BITS = 32  # per pixel; frames with more take more memory than the images that Pillow makes of them


def to_image(source: str | Path, picture: Any) -> Image.Image:
    """Return a frame as an upright image, which is converted on first use.

    Args:
        source: The video, for errors.
        picture: PyAV's frame.

    Raises:
        ImageError: The frame cannot be converted; may also be raised on first use.
    """

    def convert(size: Size) -> Image.Image:
        try:
            return _to_upright_image(picture, size)
        except (import_av().error.FFmpegError, OSError, ValueError) as exc:
            problem = str(exc)
        raise ImageError(f"A frame of {str(source)!r} cannot be converted: {problem}.")

    size = _upright_size(picture)
    if picture.format.bits_per_pixel > _MAX_LAZY_BITS or picture.rotation % 90:
        return convert(size)
    return LazyImage(size, convert)


def _upright_size(picture: Any) -> Size:
    return (picture.height, picture.width) if picture.rotation % 180 == 90 else (picture.width, picture.height)


def _to_upright_image(picture: Any, size: Size) -> Image.Image:
    width, height = size if picture.rotation % 180 == 0 else (size[1], size[0])
    is_full = picture.rotation % 90 or (width, height) == (picture.width, picture.height)
    image = _convert(picture) if is_full else _scale(picture, width, height)
    # FFmpeg and Pillow both count rotations counterclockwise.
    return image.rotate(picture.rotation, expand=True) if picture.rotation else image


def _convert(picture: Any) -> Image.Image:
    rgb = _reformat(picture, picture.width, picture.height, "rgb24")
    plane = rgb.planes[0]
    if plane.line_size < 0:  # the last row comes first
        return cast("Image.Image", rgb.to_image())
    return Image.frombytes("RGB", (picture.width, picture.height), plane, "raw", "RGB", plane.line_size, 1)


def _scale(picture: Any, width: int, height: int) -> Image.Image:
    # swscale makes planes of one color each in half the time of whole pixels.
    planes = _reformat(picture, width, height, "gbrp", interpolation=_LANCZOS).planes
    green, blue, red = (
        Image.frombytes("L", (width, height), plane, "raw", "L", plane.line_size, 1) for plane in planes
    )
    return Image.merge("RGB", (red, green, blue))


def _reformat(picture: Any, width: int, height: int, pixel_format: str, **options: Any) -> Any:
    av = import_av()
    # Not `picture.reformat`, which keeps a scaler in the frame and is not safe in threads. A scaler's own threads cost
    # more than they save.
    if int(av.__version__.split(".")[0]) >= 17:
        options["threads"] = 1
    return av.video.reformatter.VideoReformatter().reformat(picture, width, height, pixel_format, **options)
