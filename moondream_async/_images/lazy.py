"""Pillow images whose pixels are computed when they are needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PIL import Image

from .locks import lock_for
from .orientation import Size


class LazyImage(Image.Image):
    """An RGB image that is converted from something else on first use, and becomes an `Image.Image` then.

    Like the images of `Image.open`, it is loaded by `load`, which Pillow calls before it reads or changes pixels. Until
    then, `at_size` converts it at another size, which may be much faster than resizing.

    Args:
        size: Its width and height in pixels.
        convert: Returns a new image of mode RGB, at the size that it is called with.
    """

    def __init__(self, size: Size, convert: Callable[[Size], Image.Image]) -> None:
        super().__init__()
        self._mode, self._size = "RGB", size
        self._convert = convert

    def at_size(self, size: Size) -> Image.Image:
        """Convert at a size, without keeping the result."""
        with lock_for(self):
            if not isinstance(self, LazyImage):  # loaded meanwhile
                return self
            image = self._convert(size)
        image.info = self.info.copy()
        return image

    def load(self) -> Any:
        with lock_for(self):
            if isinstance(self, LazyImage):
                image = self._convert(self._size)
                self._become_ordinary()
                self.im = image.im
        return Image.Image.load(self)

    @property
    def im(self) -> Any:
        self.load()
        return self.im

    @im.setter
    def im(self, im: Any) -> None:
        self._im = im

    def close(self) -> None:
        with lock_for(self):
            if isinstance(self, LazyImage):
                self._become_ordinary()
        Image.Image.close(self)

    def __eq__(self, other: object) -> bool:  # which compares classes
        self.load()
        if isinstance(other, LazyImage):
            other.load()
        return Image.Image.__eq__(self, other)

    __hash__ = None  # type: ignore[assignment]  # as of `Image.Image`

    def __reduce_ex__(self, protocol: Any) -> Any:
        self.load()
        return self.__reduce_ex__(protocol)  # that of `Image.Image`

    def _become_ordinary(self) -> None:
        del self._convert
        self.__class__ = Image.Image  # type: ignore[assignment]
