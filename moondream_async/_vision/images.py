"""Any image a user has -> an upright Pillow image of mode RGB, at its own size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .._images.prepare import upright as decode

if TYPE_CHECKING:
    from PIL.Image import Image


def upright(image: Any) -> Image:
    """The image as its coordinates mean it; never the caller's own.

    Args:
        image: Anything that the skills take but a URL.

    Raises:
        ImageError: It cannot be used.
    """
    picture = decode(image)
    return picture.copy() if picture is image else picture
