"""Read and apply the EXIF orientation.

Pillow's reader loads all tags to find this one, so a small malicious file can make it allocate gigabytes.
"""

from __future__ import annotations

import re

from PIL import Image

from . import ifd

Size = tuple[int, int]

_TAG = 0x0112
_SWAPPING = (5, 6, 7, 8)  # orientations that swap width and height
_TRANSPOSES = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_IN_XMP = re.compile(rb"""tiff:Orientation(?:\s*=\s*["']|>)([1-8])""")


def of_file(picture: Image.Image) -> int:
    """Return the orientation, 1 to 8, of an image that was opened from a file; 1 if it has no readable one."""
    return _from_exif(_exif(picture)) or _from_xmp(picture) or 1


def of_image(picture: Image.Image) -> int:
    """Return the orientation that Pillow reports for an image passed by a user, who may have changed it."""
    try:
        return int(picture.getexif().get(_TAG, 1))
    except Exception:
        return 1


def apply(picture: Image.Image, orientation: int) -> Image.Image:
    """Return the image upright."""
    method = _TRANSPOSES.get(orientation)
    return picture if method is None else picture.transpose(method)


def swapped(size: Size, orientation: int) -> Size:
    """Convert a stored size to the upright size, or an upright size to the stored one."""
    return (size[1], size[0]) if orientation in _SWAPPING else size


def _exif(picture: Image.Image) -> bytes:
    exif = picture.info.get("exif")
    if isinstance(exif, bytes):
        return exif
    raw = picture.info.get("Raw profile type exif")  # ImageMagick's way of storing it in a PNG
    if not isinstance(raw, str):
        return b""
    try:
        return bytes.fromhex("".join(raw.split("\n")[3:]))
    except ValueError:
        return b""


def _from_exif(exif: bytes) -> int | None:
    block = exif.removeprefix(b"Exif\0\0")
    layout = ifd.Layout.of(block)
    start = layout.first(block) if layout and not layout.is_big else None
    if layout is None or start is None:
        return None
    entries = layout.entries(block, start, layout.entry_count(block, start) or 0)
    entry = next((entry for entry in entries if entry.tag == _TAG), None)
    # The value is inline whatever number of values the entry declares.
    value = (entry and layout.integers(block, entry._replace(size=1), 1)) or (0,)
    return value[0] if 1 <= value[0] <= 8 else None


def _from_xmp(picture: Image.Image) -> int | None:
    xmp = picture.info.get("xmp") or picture.info.get("XML:com.adobe.xmp") or b""
    match = _IN_XMP.search(xmp.encode("utf-8", "ignore") if isinstance(xmp, str) else bytes(xmp))
    return int(match[1]) if match else None
