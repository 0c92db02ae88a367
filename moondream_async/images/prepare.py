"""Pillow's work: decode, check, turn upright, put on white, encode; blocking, for a worker thread."""

from __future__ import annotations

import io
import os
from typing import BinaryIO, TypeAlias, cast

from PIL import Image, UnidentifiedImageError

from ..errors import ImageError
from . import grid, sources
from .encoded import EncodedImage

ImageInput: TypeAlias = str | os.PathLike[str] | bytes | bytearray | memoryview | BinaryIO | Image.Image | EncodedImage
"""What every `image` parameter takes: a path, the bytes of an image file, a binary file, a PIL
image, a `data:` URI, or an `EncodedImage` made before."""

LARGEST_UPLOAD = 10 * 1024 * 1024
"""Bytes of an image file that the service takes (moondream-api.md 1.6)."""

MOST_PIXELS = 178_956_970
"""Width x height beyond which an image is refused undecoded; Pillow's own limit for bombs."""

_PASSED_THROUGH = {"JPEG": "image/jpeg", "PNG": "image/png"}
_PASSED_PIXELS = 2.0  # times the pixels of the best size, up to which right bytes are not worth re-encoding
_NEAR_PIXELS = 1.1  # times the pixels of the best size, up to which a decoded image is not worth resampling
_PNG_DEPTH = 24  # where a PNG says how many bits a channel has
_ORIENTATION = 0x0112
_TURNED = (5, 6, 7, 8)  # orientations that swap width and height
_JPEG_QUALITY = 90
_SHRUNK_SIDES = (4096, 3072, 2048)  # pixels; tried in turn when a full-resolution image exceeds the limit

Size = tuple[int, int]


def encode(image: object, *, full_resolution: bool = False) -> EncodedImage:
    """Prepare an image for sending: upright, on white, 8-bit RGB, sized for the model.

    Args:
        image: Anything `ImageInput` names.
        full_resolution: Keep the original's size, as `segment` wants it, instead of the size at which
            the model sees the most. Shrunk only as far as the service's 10 MB demand.

    Raises:
        ImageError: It cannot be read, is not an image, is damaged, or is too large.
    """
    if isinstance(image, EncodedImage):
        return image
    try:
        loaded = sources.load(image)
        if isinstance(loaded, bytes):
            return _encode_file(loaded, full_resolution=full_resolution)
        return _encode_pixels(loaded, full_resolution=full_resolution)
    except ImageError:
        raise
    except MemoryError:
        problem = "there is not enough memory to decode it"
    except Exception as exc:
        problem = str(exc) or type(exc).__name__
    raise ImageError(f"The image cannot be decoded: {problem}.")


def _encode_file(data: bytes, *, full_resolution: bool) -> EncodedImage:
    try:
        picture: Image.Image = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise ImageError(_not_an_image(data)) from None
    except Image.DecompressionBombError:
        raise ImageError(f"The image claims more than {MOST_PIXELS:,} pixels; it is refused undecoded.") from None
    with picture:
        _check_size(picture.size)
        if _is_right(picture, data) and (full_resolution or _is_well_sized(picture.size)):
            return _pass_through(picture, data)
        if not full_resolution:
            # A JPEG decodes at a half, a quarter or an eighth of its size for a fraction of the work.
            original = _upright_size(picture)
            picture.draft("RGB", _target(picture))
            return _encode_pixels(picture, full_resolution=False, original=original)
        return _encode_pixels(picture, full_resolution=True)


def _is_right(picture: Image.Image, data: bytes) -> bool:
    return (
        picture.format in _PASSED_THROUGH
        and picture.mode == "RGB"
        and "transparency" not in picture.info
        and getattr(picture, "n_frames", 1) == 1
        and _orientation(picture) in (0, 1)
        and (picture.format != "PNG" or data[_PNG_DEPTH] == 8)
        and len(data) <= LARGEST_UPLOAD
    )


def _is_well_sized(size: Size) -> bool:
    best = grid.best_size(*size)
    as_much_detail = grid.detail(*size) == grid.detail(*best)
    return as_much_detail and size[0] * size[1] <= _PASSED_PIXELS * best[0] * best[1]


def _pass_through(picture: Image.Image, data: bytes) -> EncodedImage:
    size = picture.size
    # Decoding proves that the file is whole; at an eighth of the size it costs the least.
    picture.draft("RGB", (max(1, size[0] // 8), max(1, size[1] // 8)))
    picture.load()
    return EncodedImage.of(data, media_type=_PASSED_THROUGH[str(picture.format)], size=size, original=size)


def _encode_pixels(picture: Image.Image, *, full_resolution: bool, original: Size | None = None) -> EncodedImage:
    _check_size(picture.size)
    original = original or _upright_size(picture)
    exif = _orientation(picture)
    # Photographs hold their colours at half resolution already; drawings and text do not.
    subsampling = "4:2:0" if picture.format == "JPEG" else "4:4:4"
    picture.load()
    flat = _flatten(picture)
    best = grid.best_size(*original)
    # As stored: turning comes last, when there are fewest pixels to turn.
    if not full_resolution and not _is_near(_swapped(flat.size, exif), best):
        flat = flat.resize(_swapped(best, exif), Image.Resampling.LANCZOS, reducing_gap=2.0)
    upright = _turn(flat, exif)
    data = _jpeg(upright, subsampling)
    for side in _SHRUNK_SIDES if full_resolution else ():
        if len(data) <= LARGEST_UPLOAD:
            break
        upright.thumbnail((side, side), Image.Resampling.LANCZOS)
        data = _jpeg(upright, subsampling)
    if len(data) > LARGEST_UPLOAD:
        raise ImageError(
            f"The image has {len(data):,} bytes as a JPEG, and the service takes {LARGEST_UPLOAD:,}: make it smaller."
        )
    return EncodedImage.of(data, media_type="image/jpeg", size=upright.size, original=original)


def _is_near(size: Size, best: Size) -> bool:
    """Whether an image that was decoded at this size shows the model as much as at the best, with few more pixels."""
    few_more = size[0] * size[1] <= _NEAR_PIXELS * best[0] * best[1]
    return few_more and grid.detail(*size) >= grid.detail(*best)


def _jpeg(picture: Image.Image, subsampling: str) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=_JPEG_QUALITY, subsampling=subsampling)
    return file.getvalue()


def _orientation(picture: Image.Image) -> int:
    try:
        return int(picture.getexif().get(_ORIENTATION, 1))
    except Exception:
        return 1


def _swapped(size: Size, orientation: int) -> Size:
    return (size[1], size[0]) if orientation in _TURNED else size


def _upright_size(picture: Image.Image) -> Size:
    return _swapped(picture.size, _orientation(picture))


def _target(picture: Image.Image) -> Size:
    """The best size, as stored."""
    return _swapped(grid.best_size(*_upright_size(picture)), _orientation(picture))


_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def _turn(picture: Image.Image, orientation: int) -> Image.Image:
    turn = _TURNS.get(orientation)
    return picture if turn is None else picture.transpose(turn)


def _flatten(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16") or picture.mode == "I":
        picture = _grey_16(picture)
    if picture.mode == "La":  # premultiplied grey, which Pillow turns into nothing but LA
        picture = picture.convert("LA")
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    layered = picture.convert("RGBA")
    white = Image.new("RGB", layered.size, "white")
    white.paste(layered, mask=layered.getchannel("A"))
    return white


def _grey_16(picture: Image.Image) -> Image.Image:
    """8-bit grey: scaled, where Pillow's own conversion clips at 255; unless no value is above 255."""
    wide = picture.convert("I")
    _, most = cast("tuple[int, int]", wide.getextrema())
    if picture.mode == "I" and most <= 255:
        return wide.convert("L")
    return wide.point([value / 256 for value in range(65536)], "L")


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
