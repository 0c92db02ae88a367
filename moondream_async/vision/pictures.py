"""Any image a user has -> an upright Pillow image of mode RGB, at its own size."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from ..errors import ImageError
from ..images.encoded import EncodedImage
from ..images.options import ImageOptions
from ..images.prepare import MOST_PIXELS, encode

if TYPE_CHECKING:
    from PIL.Image import Image

_WHOLE = ImageOptions(resize=None, max_bytes=1024 * 1024 * 1024)


def upright(image: Any) -> Image:
    """The image as its coordinates mean it: turned by its EXIF, on white, RGB.

    Args:
        image: Anything that the skills take but a URL.

    Raises:
        ImageError: It cannot be used.
    """
    from PIL import Image, ImageOps

    if isinstance(image, Image.Image):
        if image.width * image.height > MOST_PIXELS:
            raise ImageError(f"The image has {image.width:,} x {image.height:,} pixels; too large.")
        return _flat(ImageOps.exif_transpose(image))
    data = image.data if isinstance(image, EncodedImage) else encode(image, _WHOLE).data
    return _flat(Image.open(io.BytesIO(data)))


def _flat(image: Image) -> Image:
    from PIL import Image

    try:
        if not image.has_transparency_data:
            return image.convert("RGB")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
    except (OSError, ValueError, SyntaxError) as exc:
        problem = str(exc)
    raise ImageError(f"The image cannot be decoded: {problem}.")
