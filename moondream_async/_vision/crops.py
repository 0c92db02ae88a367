"""Crop images to boxes."""

from __future__ import annotations

import math
import numbers
from typing import TYPE_CHECKING, Any, cast

from .._images.prepare import upright
from .._public import public
from ..errors import ConfigurationError, ImageError
from ..types import BoundingBox

if TYPE_CHECKING:
    from PIL.Image import Image


@public("vision")
def crop(image: Any, box: BoundingBox, *, margin: float = 0.0) -> Image:
    """Crop an image to a box and return a Pillow image of mode RGB.

    Args:
        image: Anything the skills accept except a URL. EXIF orientation is applied first, because boxes refer to the
            upright image.
        box: The box, 0..1 of the upright image.
        margin: Margin to add on each side, as a fraction of the box's size. Default 0.

    Raises:
        ImageError: The image cannot be used, or the box is empty.
        ConfigurationError: `box` is not a `BoundingBox`, or `margin` is not a finite number.
    """
    if not isinstance(box, BoundingBox):
        raise ConfigurationError(f"box must be a BoundingBox, not {type(cast('object', box)).__name__}.")
    if not isinstance(margin, numbers.Real) or isinstance(margin, bool) or not math.isfinite(margin):
        raise ConfigurationError(f"margin must be a finite number, not {margin!r}.")
    picture = upright(image)
    margin_x, margin_y = float(margin) * box.width, float(margin) * box.height
    enlarged = BoundingBox(box.x_min - margin_x, box.y_min - margin_y, box.x_max + margin_x, box.y_max + margin_y)
    left, top, right, bottom = enlarged.to_pixels(*picture.size)
    if right <= left or bottom <= top:
        raise ImageError(f"The box covers no pixel of the image of {picture.width} x {picture.height} pixels.")
    return picture.crop((left, top, right, bottom))
