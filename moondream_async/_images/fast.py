"""The resizer of the extra `fast`, which uses SIMD instructions."""

from __future__ import annotations

import functools
from typing import Any

from PIL import Image

from .._concurrency.forks import no_fork
from .._log import log
from .orientation import Size


def is_available() -> bool:
    """Return whether the extra is installed and works with this Pillow."""
    return _load() is not None


def resize(picture: Image.Image, box: tuple[float, float], size: Size, *, finely: bool) -> Image.Image:
    """Resize an image of mode RGB, L or CMYK with the filters that Pillow calls LANCZOS and BICUBIC.

    Args:
        picture: The image.
        box: The width and height of the part to resize, from the upper left corner.
        size: Its new width and height.
        finely: Use LANCZOS, which is the sharper one.
    """
    module = _load()
    kernel = module.FilterType.lanczos3 if finely else module.FilterType.catmull_rom
    options = module.ResizeOptions(
        resize_alg=module.ResizeAlg.convolution(kernel), crop_box=module.CropBox(0, 0, *box), use_alpha=False
    )
    resized = Image.new(picture.mode, size)
    module.Resizer().resize_pil(picture, resized, options)  # releases the GIL; starts no threads
    return resized


@functools.cache
def _load() -> Any:
    """Import the resizer; return None if that fails or it would not find the pixels of Pillow's images."""
    with no_fork():
        try:
            import cykooz_resizer
        except Exception as exc:
            problem = str(exc)
        else:
            from . import pillow_layout

            if pillow_layout.is_known():
                return cykooz_resizer
            problem = "this Pillow lays out images in memory in another way"
    log.debug("Images are resized by Pillow alone: %s", problem)
    return None
