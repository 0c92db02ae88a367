"""Crop images to boxes."""

from __future__ import annotations

import math
import numbers
from typing import TYPE_CHECKING, Any, cast

from .._images.prepare import upright
from .._public import public
from ..errors import ConfigurationError, ImageError
from ..types import BoundingBox, DetectResult, Result

if TYPE_CHECKING:
    from PIL.Image import Image


_SHAPE_TOLERANCE = 0.02  # of the ratio of the sides


@public("vision")
def crop(image: Any, box: BoundingBox, *, margin: float = 0.0) -> Image:
    """Crop an image to a box and return a Pillow image of mode RGB.

    ```python
    crop("photo.jpg", boxes.objects[0], margin=0.1).save("crop.png")
    ```

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
    check_margin(margin)
    return _cropped(upright(image), box, float(margin))


def crop_all(image: Any, result: DetectResult, *, margin: float) -> list[Image]:
    """Crop an image, which is decoded once, to each box of a result."""
    check_margin(margin)
    picture = upright(image)
    check_same_shape(picture, result)
    return [_cropped(picture, box, float(margin)) for box in result.objects]


def check_same_shape(picture: Image, result: Result) -> None:
    """Check that an image can be the one that a result is for, maybe at another size.

    Raises:
        ConfigurationError: Its shape differs.
    """
    size = getattr(result, "image_size", None)
    if size is None or 0 in size:
        return
    width, height = picture.size
    if abs(width / height / (size[0] / size[1]) - 1) > _SHAPE_TOLERANCE + 1 / min(*size, width, height):
        raise ConfigurationError(
            f"The image is {width} x {height} pixels, but the result is for one of {size[0]} x {size[1]}: "
            "is it another image?"
        )


def enlarged(box: BoundingBox, margin: float) -> BoundingBox:
    """Return a box with a margin on each side, a fraction of its size."""
    across, down = margin * box.width, margin * box.height
    return BoundingBox(box.x_min - across, box.y_min - down, box.x_max + across, box.y_max + down)


def _cropped(picture: Image, box: BoundingBox, margin: float) -> Image:
    left, top, right, bottom = enlarged(box, margin).to_pixels(*picture.size)
    if right <= left or bottom <= top:
        raise ImageError(f"The box covers no pixel of the image of {picture.width} x {picture.height} pixels.")
    return picture.crop((left, top, right, bottom))


def check_margin(margin: object) -> None:
    """Raise `ConfigurationError` for a margin that is not a finite number."""
    if not isinstance(margin, numbers.Real) or isinstance(margin, bool) or not math.isfinite(margin):
        raise ConfigurationError(f"margin must be a finite number, not {margin!r}.")
