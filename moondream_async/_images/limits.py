"""Limits that hold for images of every format, and the error for what is beyond them (pure)."""

from __future__ import annotations

from ..errors import ImageError

MAX_PIXELS = 178_956_970
"""Width x height beyond which an image is refused undecoded; Pillow's own limit for bombs."""


def check_size(width: int, height: int) -> None:
    """Check a width and height.

    Raises:
        ImageError: There are no pixels, or too many.
    """
    if width < 1 or height < 1:
        raise ImageError(f"The image has no pixels ({width} x {height}).")
    if width * height > MAX_PIXELS:
        raise ImageError(f"The image has {width} x {height} pixels; more than {MAX_PIXELS:,} are refused undecoded.")


def refused(what: str) -> ImageError:
    """Return the error for an image that has more of something than any real one."""
    return ImageError(f"The image is refused undecoded: it has {what}.")
