"""Arrays (NumPy's, and what speaks its `__array_interface__`) -> Pillow images."""

from __future__ import annotations

from typing import Any, cast

from ..errors import ImageError

_WIDE = ("<i4", ">i4", "<u4", ">u4")  # 32 bits: taken as Pillow's mode I is, if the values fit into 16
_TYPES = ("|u1", "|b1", "<u2", ">u2", *_WIDE)
_CHANNELS = (1, 3, 4)


def is_array(value: object) -> bool:
    """Whether the object can be read as an array."""
    return hasattr(value, "__array_interface__") or hasattr(value, "__array__")


def to_image(value: Any) -> Any:
    """Read an array as an image: RGB, RGBA or gray of `uint8`, or gray of `bool`, `uint16` or 32 bits (0..65,535).

    Raises:
        ImageError: Its shape or type is not an image's.
    """
    from PIL import Image

    array = value if hasattr(value, "__array_interface__") else value.__array__()
    interface = cast("dict[str, Any]", array.__array_interface__)
    shape, kind = tuple(interface["shape"]), str(interface["typestr"])
    _check(shape, kind)
    if kind in _WIDE:
        array = _in_numpy(array).astype("<i4")  # what is above wraps below 0, and is refused there
    if shape[2:] == (1,):
        array = _in_numpy(array)[:, :, 0]
    elif not _has_bytes(array):
        array = _in_numpy(array)
    return Image.fromarray(array)


def _check(shape: tuple[int, ...], kind: str) -> None:
    if len(shape) == 3 and shape[0] in _CHANNELS and min(shape[1:]) > max(_CHANNELS):
        raise ImageError(f"The array's shape {shape} has its channels first; pass array.transpose(1, 2, 0).")
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] not in _CHANNELS):
        raise ImageError(
            f"The array's shape {shape} is not an image's: (height, width), (height, width, 3) in RGB, or 4 in RGBA."
        )
    if 0 in shape:
        raise ImageError(f"The array has no pixels: its shape is {shape}.")
    if kind not in _TYPES or (kind != "|u1" and len(shape) == 3 and shape[2] != 1):
        raise ImageError(
            f"The array's type {kind!r} is not an image's: pass uint8 in 0..255 "
            "(floats in 0..1: (array * 255).astype('uint8'); 16 bits: (array // 257).astype('uint8'))."
        )


def _has_bytes(array: Any) -> bool:
    """Whether Pillow can read it itself; NumPy follows the address that the interface names, as it is."""
    if array.__array_interface__.get("strides") is not None:
        return hasattr(array, "tobytes")
    try:
        memoryview(array)
    except TypeError:
        return False
    return True


def _in_numpy(array: Any) -> Any:
    try:
        import numpy
    except ImportError:
        raise ImageError("This array can be read with NumPy only, which is not installed.") from None
    return numpy.asarray(array)
