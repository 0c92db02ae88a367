"""Which way up: the EXIF orientation, read by itself and applied.

Pillow's reader loads every tag there is to find this one, and lets a small hostile file claim gigabytes.
"""

from __future__ import annotations

import re
import struct

from PIL import Image

Size = tuple[int, int]

_TAG = 0x0112
_SWAPPING = (5, 6, 7, 8)  # orientations that swap width and height
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_IN_XMP = re.compile(rb"""tiff:Orientation(?:\s*=\s*["']|>)([1-8])""")
_WHOLE = {1: "B", 3: "H", 4: "I"}  # TIFF types of whole numbers; SHORT is right, the others happen


def of_file(picture: Image.Image) -> int:
    """The orientation, 1 to 8, of an image that was opened from a file; 1 where there is none to be read."""
    return _from_exif(_exif(picture)) or _from_xmp(picture) or 1


def of_image(picture: Image.Image) -> int:
    """The orientation of a user's own Pillow image, as Pillow tells it: the user may have changed it."""
    try:
        return int(picture.getexif().get(_TAG, 1))
    except Exception:
        return 1


def turn(picture: Image.Image, orientation: int) -> Image.Image:
    """The image upright."""
    method = _TURNS.get(orientation)
    return picture if method is None else picture.transpose(method)


def swapped(size: Size, orientation: int) -> Size:
    """The size after turning; or, of the upright size, the one as stored."""
    return (size[1], size[0]) if orientation in _SWAPPING else size


def _exif(picture: Image.Image) -> bytes:
    exif = picture.info.get("exif")
    if isinstance(exif, bytes):
        return exif
    raw = picture.info.get("Raw profile type exif")  # how ImageMagick writes it into a PNG
    if not isinstance(raw, str):
        return b""
    try:
        return bytes.fromhex("".join(raw.split("\n")[3:]))
    except ValueError:
        return b""


def _from_exif(exif: bytes) -> int | None:
    block = exif.removeprefix(b"Exif\0\0")
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(block[:4])
    if order is None or len(block) < 10:
        return None
    (start,) = struct.unpack_from(f"{order}I", block, 4)
    if start + 2 > len(block):
        return None
    (count,) = struct.unpack_from(f"{order}H", block, start)
    for at in range(start + 2, min(start + 2 + 12 * count, len(block) - 11), 12):
        tag, kind = struct.unpack_from(f"{order}HH", block, at)
        if tag == _TAG:
            (value,) = struct.unpack_from(order + _WHOLE.get(kind, "H"), block, at + 8)
            return value if kind in _WHOLE and 1 <= value <= 8 else None
    return None


def _from_xmp(picture: Image.Image) -> int | None:
    xmp = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp") or b""
    found = _IN_XMP.search(xmp.encode("utf-8", "ignore") if isinstance(xmp, str) else bytes(xmp))
    return int(found[1]) if found else None
