"""Pillow's work: decode, check, turn upright, put on white, encode; blocking, for a worker thread."""

from __future__ import annotations

import io
import os
from typing import BinaryIO, TypeAlias

from PIL import Image, ImageOps, UnidentifiedImageError

from ..errors import ImageError
from . import sources
from .encoded import EncodedImage

ImageInput: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | EncodedImage
"""What every `image` parameter takes: a path, the bytes of an image file, a binary file, a PIL
image, a `data:` URI, or an `EncodedImage` made before."""

LARGEST_UPLOAD = 10 * 1024 * 1024
"""Bytes of an image file that the service takes (moondream-api.md 1.6)."""

MOST_PIXELS = 178_956_970
"""Width x height beyond which an image is refused undecoded; Pillow's own limit for bombs."""

_PASSED_THROUGH = {"JPEG": "image/jpeg", "PNG": "image/png"}
_ORIENTATION = 0x0112
_JPEG_QUALITY = 92


def encode(image: object) -> EncodedImage:
    """Prepare an image for sending: upright, on white, 8-bit RGB; right bytes pass untouched.

    Raises:
        ImageError: It cannot be read, is not an image, is damaged, or is too large.
    """
    if isinstance(image, EncodedImage):
        return image
    loaded = sources.load(image)
    try:
        if isinstance(loaded, bytes):
            return _encode_file(loaded)
        return _encode_pixels(loaded)
    except ImageError:
        raise
    except MemoryError:
        problem = "there is not enough memory to decode it"
    except Exception as exc:
        problem = str(exc) or type(exc).__name__
    raise ImageError(f"The image cannot be decoded: {problem}.")


def _encode_file(data: bytes) -> EncodedImage:
    try:
        picture: Image.Image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise ImageError(_not_an_image(data)) from None
    except Image.DecompressionBombError:
        raise ImageError(f"The image claims more than {MOST_PIXELS:,} pixels; it is refused undecoded.") from None
    with picture:
        _check_size(picture.size)
        if _is_right(picture, data):
            return _pass_through(picture, data)
        return _encode_pixels(picture)


def _is_right(picture: Image.Image, data: bytes) -> bool:
    return (
        picture.format in _PASSED_THROUGH
        and picture.mode == "RGB"
        and "transparency" not in picture.info
        and getattr(picture, "n_frames", 1) == 1
        and picture.getexif().get(_ORIENTATION, 1) in (0, 1)
        and len(data) <= LARGEST_UPLOAD
    )


def _pass_through(picture: Image.Image, data: bytes) -> EncodedImage:
    size = picture.size
    # Decoding proves that the file is whole; at an eighth of the size it costs the least.
    picture.draft("RGB", (max(1, size[0] // 8), max(1, size[1] // 8)))
    picture.load()
    return EncodedImage.of(data, media_type=_PASSED_THROUGH[str(picture.format)], size=size, original=size)


def _encode_pixels(picture: Image.Image) -> EncodedImage:
    _check_size(picture.size)
    upright = _flatten(_upright(picture))
    file = io.BytesIO()
    upright.save(file, "JPEG", quality=_JPEG_QUALITY, subsampling=0)
    data = file.getvalue()
    if len(data) > LARGEST_UPLOAD:
        raise ImageError(
            f"The image has {len(data):,} bytes as a JPEG, and the service takes {LARGEST_UPLOAD:,}: make it smaller."
        )
    return EncodedImage.of(data, media_type="image/jpeg", size=upright.size, original=upright.size)


def _upright(picture: Image.Image) -> Image.Image:
    picture.load()
    return ImageOps.exif_transpose(picture)


def _flatten(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16") or picture.mode == "I":
        # 16-bit grey: Pillow's own conversion clips to 255 instead of scaling.
        picture = picture.convert("I").point([value / 256 for value in range(65536)], "L")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layered = picture.convert("RGBA")
    white = Image.new("RGB", layered.size, "white")
    white.paste(layered, mask=layered.getchannel("A"))
    return white


def _check_size(size: tuple[int, int]) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise ImageError(f"The image has no pixels ({width} x {height}).")
    if width * height > MOST_PIXELS:
        raise ImageError(f"The image has {width} x {height} pixels; at most {MOST_PIXELS:,} are decoded.")


def _not_an_image(data: bytes) -> str:
    head = data[:64].lstrip().lower()
    if head.startswith((b"<!doctype", b"<html")):
        kind = "an HTML page (perhaps an error page that was downloaded in the image's place)"
    elif head.startswith((b"<svg", b"<?xml")):
        kind = "SVG or XML; convert it to PNG first"
    elif data[4:12] in (b"ftypheic", b"ftypheix", b"ftypmif1", b"ftypheim"):
        kind = "HEIC, which Pillow does not read; convert it to JPEG first"
    elif all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in data[:64]):
        kind = "text"
    else:
        kind = "not an image format that Pillow reads, or damaged at its start"
    return f"The file is not an image: it is {kind}."
