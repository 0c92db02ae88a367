"""The resizer of the extra `fast`, which uses SIMD instructions."""

from __future__ import annotations

import functools
import importlib
import threading
from typing import Any

from PIL import Image

from .._concurrency.forks import no_fork
from .._log import log
from .orientation import Size

_MAX_KEPT_PIXELS = (
    2_500_000  # of images for which a thread's buffer, of up to 4 bytes a pixel, is kept for the next one
)

_thread = threading.local()


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
    resized = Image.new(picture.mode, size, None)
    resizer = _thread_resizer() if picture.width * picture.height <= _MAX_KEPT_PIXELS else module.Resizer()
    resizer.resize_pil(picture, resized, options)  # releases the GIL; starts no threads
    return resized


def _thread_resizer() -> Any:
    if not hasattr(_thread, "resizer"):
        _thread.resizer = _load().Resizer()
    return _thread.resizer


@functools.cache
def _load() -> Any:
    """Import the resizer; return None if that fails or it would not find the pixels of Pillow's images."""
    with no_fork():
        try:
            module = importlib.import_module("cykooz_resizer")
        except Exception as exc:
            problem = str(exc)
        else:
            from . import pillow_layout

            if pillow_layout.is_known():
                return module
            problem = "this Pillow lays out images in memory in another way"
    log.debug("Images are resized by Pillow alone: %s", problem)
    return None
