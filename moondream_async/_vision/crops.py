"""Parts of images."""

from __future__ import annotations

import math
import numbers
from typing import TYPE_CHECKING, Any, cast

from .._public import public
from ..errors import ConfigurationError, ImageError
from ..types import BoundingBox
from .images import upright

if TYPE_CHECKING:
    from PIL.Image import Image


@public("vision")
def crop(image: Any, box: BoundingBox, *, margin: float = 0.0) -> Image:
    """The part of an image that is in a box.

    Args:
        image: Anything that the skills take but a URL.
        box: 0..1 of the upright image.
        margin: Of the box's size, to add on each side.

    Raises:
        ImageError: The image cannot be used, or the box is empty.
    """
    if not isinstance(box, BoundingBox):
        raise ConfigurationError(f"box must be a BoundingBox, not {type(cast('object', box)).__name__}.")
    if not isinstance(margin, numbers.Real) or isinstance(margin, bool) or not math.isfinite(margin):
        raise ConfigurationError(f"margin must be a number, not {margin!r}.")
    picture = upright(image)
    across, down = float(margin) * box.width, float(margin) * box.height
    wider = BoundingBox(box.x_min - across, box.y_min - down, box.x_max + across, box.y_max + down)
    left, top, right, bottom = wider.to_pixels(*picture.size)
    if right <= left or bottom <= top:
        raise ImageError(f"The box covers no pixel of an image of {picture.width} x {picture.height}.")
    return picture.crop((left, top, right, bottom))
