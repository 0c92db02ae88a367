"""Decode any image a user passes to an upright Pillow image of mode RGB, at its original size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._images.prepare import upright as decode

if TYPE_CHECKING:
    from PIL.Image import Image


def upright(image: Any) -> Image:
    """Decode an image to what result coordinates refer to; the returned image is never the caller's own object.

    Args:
        image: Anything the skills accept except a URL.

    Raises:
        ImageError: The image cannot be used.
    """
    picture = decode(image)
    return picture.copy() if picture is image else picture
