"""Limits for images of every format, and the error for images beyond them (pure)."""

from __future__ import annotations

from ..errors import ImageError

MAX_PIXELS = 178_956_970
"""Maximum width x height; larger images are refused undecoded. The same as Pillow's decompression bomb limit."""

MAX_FILE_SIZE = 256 * 1024 * 1024
"""Maximum bytes of an image file; larger files are refused unread."""


def check_size(width: int, height: int) -> None:
    """Check that an image has pixels, and at most `MAX_PIXELS`.

    Raises:
        ImageError: It has no pixels, or too many.
    """
    if width < 1 or height < 1:
        raise ImageError(f"The image has no pixels ({width} x {height}).")
    if width * height > MAX_PIXELS:
        raise ImageError(f"The image has {width} x {height} pixels; more than {MAX_PIXELS:,} are refused undecoded.")


def refused(what: str) -> ImageError:
    """Return the error for an image that exceeds a limit no real image comes near."""
    return ImageError(f"The image is refused undecoded: it has {what}.")
