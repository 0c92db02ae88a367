"""Arrays as images."""

from __future__ import annotations

import io
import sys
from typing import Any

import numpy as np
import pytest
from PIL import Image

from moondream_async import ImageError
from moondream_async._images.prepare import encode


def pixel(array: Any, at: tuple[int, int] = (2, 2)) -> tuple[int, ...]:
    image = encode(array)
    found = Image.open(io.BytesIO(image.data)).getpixel(at)
    assert isinstance(found, tuple)
    return tuple(round(value / 16) * 16 for value in found)


def rgb(color: tuple[int, ...] = (240, 128, 0), size: tuple[int, int] = (20, 30)) -> Any:
    return np.full((*size, len(color)), color, dtype=np.uint8)


class Wrapped:
    """Implements only `__array_interface__`."""

    def __init__(self, array: Any) -> None:
        self.array = array
        self.__array_interface__ = array.__array_interface__


class Tensor:
    """Like a PyTorch tensor: implements only `__array__`."""

    def __array__(self, dtype: Any = None, copy: Any = None) -> Any:
        return rgb()


def test_shape_and_channels() -> None:
    image = encode(rgb())
    assert (image.width, image.height) == (30, 20)
    assert pixel(rgb()) == (240, 128, 0)


@pytest.mark.parametrize(
    ("array", "color"),
    [
        (rgb((240, 128, 0, 255)), (240, 128, 0)),
        (rgb((240, 128, 0, 0)), (256, 256, 256)),
        (np.full((20, 30), 128, np.uint8), (128, 128, 128)),
        (np.full((20, 30, 1), 128, np.uint8), (128, 128, 128)),
        (np.ones((20, 30), bool), (256, 256, 256)),
        (np.zeros((20, 30), bool), (0, 0, 0)),
        (np.full((20, 30), 0x8000, np.uint16), (128, 128, 128)),
        (np.full((20, 30), 0x8000, ">u2"), (128, 128, 128)),
        (rgb((0, 128, 240))[:, :, ::-1], (240, 128, 0)),
        (np.asfortranarray(rgb()), (240, 128, 0)),
        (rgb()[::2, ::3], (240, 128, 0)),
        (Wrapped(rgb()), (240, 128, 0)),
        (Wrapped(rgb((0, 128, 240))[:, :, ::-1]), (240, 128, 0)),
        (Tensor(), (240, 128, 0)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_kinds(array: Any, color: tuple[int, ...]) -> None:
    assert pixel(array) == color


def test_read_only_arrays() -> None:
    array = rgb()
    array.flags.writeable = False
    assert pixel(array) == (240, 128, 0)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((3, 20, 30), np.uint8), "channels first"),
        (np.zeros((20, 30, 2), np.uint8), "not that of an image"),
        (np.zeros((20, 30, 5), np.uint8), "not that of an image"),
        (np.zeros((5, 20, 30, 3), np.uint8), "not that of an image"),
        (np.zeros(20, np.uint8), "not that of an image"),
        (np.array(5, np.uint8), "not that of an image"),
        (np.zeros((0, 30, 3), np.uint8), "no pixels"),
        (np.zeros((20, 30, 3), np.float32), "type '<f4'"),
        (np.zeros((20, 30, 3), np.uint16), "type '<u2'"),
        (np.zeros((20, 30), np.int64), "type '<i8'"),
        (np.zeros((20, 30), object), "type"),
    ],
    ids=lambda value: repr(getattr(value, "shape", value)),
)
def test_invalid_arrays(array: Any, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        encode(array)


def test_wrong_interfaces() -> None:
    class Liar:
        def __init__(self) -> None:
            self.__array_interface__ = {"shape": (1000, 1000, 3), "typestr": "|u1", "version": 3}

        def tobytes(self) -> bytes:
            return b"short"

        def __buffer__(self, flags: int) -> memoryview:
            return memoryview(b"short")

    class Broken:
        @property
        def __array_interface__(self) -> dict[str, Any]:
            return {"shape": "x", "typestr": 7}

    for array in (Liar(), Broken()):
        with pytest.raises(ImageError):
            encode(array)


def test_without_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "numpy", None)
    assert pixel(rgb()) == (240, 128, 0)
    with pytest.raises(ImageError, match="NumPy"):
        encode(np.full((20, 30, 1), 128, np.uint8))
