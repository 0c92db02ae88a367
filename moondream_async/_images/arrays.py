"""Convert arrays (NumPy arrays, and objects with `__array_interface__`) to Pillow images."""

from __future__ import annotations

from typing import Any, cast

from ..errors import ImageError

_WIDE = ("<i4", ">i4", "<u4", ">u4")  # 32 bits: treated like Pillow's mode I if all values fit into 16 bits
_TYPES = ("|u1", "|b1", "<u2", ">u2", *_WIDE)
_CHANNELS = (1, 3, 4)


def is_array(value: object) -> bool:
    """Return whether an object can be read as an array."""
    return hasattr(value, "__array_interface__") or hasattr(value, "__array__")


def to_image(value: Any) -> Any:
    """Convert an array to an image: RGB, RGBA or gray `uint8`, or gray `bool`, `uint16` or 32-bit (0..65,535).

    Raises:
        ImageError: Its shape or type is not that of an image.
    """
    from PIL import Image

    array = value if hasattr(value, "__array_interface__") else value.__array__()
    interface = cast("dict[str, Any]", array.__array_interface__)
    shape, dtype = tuple(interface["shape"]), str(interface["typestr"])
    _check(shape, dtype)
    if dtype in _WIDE:
        array = _to_numpy(array).astype("<i4")  # larger unsigned values become negative, and are refused later
    if shape[2:] == (1,):
        array = _to_numpy(array)[:, :, 0]
    elif not _is_readable_by_pillow(array):
        array = _to_numpy(array)
    return Image.fromarray(array)


def _check(shape: tuple[int, ...], dtype: str) -> None:
    if len(shape) == 3 and shape[0] in _CHANNELS and min(shape[1:]) > max(_CHANNELS):
        raise ImageError(f"The array's shape {shape} has its channels first; pass array.transpose(1, 2, 0).")
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in _CHANNELS):
        raise ImageError(
            f"The array's shape {shape} is not that of an image: "
            "pass (height, width), (height, width, 3) for RGB, or (height, width, 4) for RGBA."
        )
    if 0 in shape:
        raise ImageError(f"The array has no pixels: its shape is {shape}.")
    if dtype not in _TYPES or (dtype != "|u1" and len(shape) == 3 and shape[2] != 1):
        raise ImageError(
            f"The array's type {dtype!r} is not that of an image: pass uint8 in 0..255 "
            "(floats in 0..1: (array * 255).astype('uint8'); 16 bits: (array // 257).astype('uint8'))."
        )


def _is_readable_by_pillow(array: Any) -> bool:
    """Return whether Pillow can read the array's bytes; NumPy also reads from the address in the interface."""
    if array.__array_interface__.get("strides") is not None:
        return hasattr(array, "tobytes")
    try:
        memoryview(array)
    except TypeError:
        return False
    return True


def _to_numpy(array: Any) -> Any:
    try:
        import numpy
    except ImportError:
        raise ImageError("Reading this array requires NumPy: pip install numpy.") from None
    return numpy.asarray(array)
