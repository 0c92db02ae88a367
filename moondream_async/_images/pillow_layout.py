"""Check how Pillow lays out images in memory.

The resizer of the extra `fast` reads and writes them in place, at the offsets that Pillow 12 and 13 use. Pillow does
not promise to keep them, and a wrong pointer would crash the process.
"""

from __future__ import annotations

import ctypes
from typing import ClassVar

from PIL import Image

_SIZE = _WIDTH, _HEIGHT = 3, 5  # of the images that are looked at


class _Imaging(ctypes.Structure):
    """The start of Pillow's `ImagingMemoryInstance`."""

    _fields_: ClassVar = [
        ("mode", ctypes.c_int),
        ("type", ctypes.c_int),
        ("depth", ctypes.c_int),
        ("bands", ctypes.c_int),
        ("width", ctypes.c_int),
        ("height", ctypes.c_int),
        ("palette", ctypes.c_void_p),
        ("rows_of_1_byte_pixels", ctypes.c_void_p),
        ("rows_of_4_byte_pixels", ctypes.c_void_p),
    ]


def is_known() -> bool:
    """Return whether images of 1 and of 4 bytes a pixel are laid out as expected."""
    if not hasattr(ctypes, "pythonapi"):
        return False
    gray, colored = Image.new("L", _SIZE), Image.new("RGB", _SIZE)
    gray.putpixel((_WIDTH - 1, _HEIGHT - 1), 7)
    colored.putpixel((_WIDTH - 1, _HEIGHT - 1), (7, 8, 9))
    first, second = _read(gray), _read(colored)
    return (
        (first.bands, first.width, first.height) == (1, *_SIZE)
        and (second.bands, second.width, second.height) == (3, *_SIZE)
        and (first.palette, first.rows_of_4_byte_pixels) == (None, None)
        and (second.palette, second.rows_of_1_byte_pixels) == (None, None)
        and _last_pixel(first.rows_of_1_byte_pixels, 1) == b"\7"
        and _last_pixel(second.rows_of_4_byte_pixels, 4)[:3] == b"\7\x08\x09"
    )


def _read(picture: Image.Image) -> _Imaging:
    find = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
        ("PyCapsule_GetPointer", ctypes.pythonapi)
    )
    return _Imaging.from_address(find(picture.getim(), b"Pillow Imaging"))


def _last_pixel(rows: int | None, pixel_size: int) -> bytes:
    row = rows and (ctypes.c_void_p * _HEIGHT).from_address(rows)[-1]
    return ctypes.string_at(row + (_WIDTH - 1) * pixel_size, pixel_size) if row else b""
