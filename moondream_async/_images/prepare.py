"""Any image -> `EncodedImage`: pass right bytes through, make all others right; blocking, for a worker thread."""

from __future__ import annotations

import contextlib
import errno
import io
import math
import os
import struct
import threading
from collections.abc import Awaitable, Generator
from typing import Any, BinaryIO, Protocol, TypeAlias, cast

from PIL import Image

from .._concurrency.forks import no_fork
from ..errors import ImageError
from . import (
    color,
    crop_grid,
    formats,
    gif,
    guards,
    icon,
    limits,
    netpbm,
    orientation,
    png,
    render,
    sources,
    tags,
    tiff,
    unsupported,
)
from .encoded import EncodedImage
from .options import DEFAULT, ImageOptions
from .orientation import Size
from .source_names import name_errors


class SupportsArrayInterface(Protocol):
    """A NumPy array, or what can be read as one: `(height, width[, channels])`, RGB, `uint8`."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...


class AsyncBinaryFile(Protocol):
    """A file whose `read` is awaited: a web framework's upload, `anyio.open_file`, `aiofiles`."""

    def read(self, size: int = ..., /) -> Awaitable[bytes]:
        """Read up to so many bytes."""
        ...


ImageInput: TypeAlias = (
    str
    | os.PathLike[str]
    | bytes
    | bytearray
    | memoryview
    | BinaryIO
    | AsyncBinaryFile
    | Image.Image
    | SupportsArrayInterface
    | EncodedImage
)
"""What every `image` parameter takes: a path, an http(s) URL, the bytes of an image file, a binary file
(async ones too), a PIL image, an array (RGB, `uint8`), a `data:` URI, bare base64, or an `EncodedImage` made before."""

MOST_PIXELS = limits.MAX_PIXELS
"""Width x height beyond which an image is refused undecoded; Pillow's own limit for bombs."""

LARGEST_SIDE = 8192
"""Pixels a side up to which `segment` keeps an image whole."""

_PASSED_THROUGH = {"JPEG": "image/jpeg", "PNG": "image/png"}
_DRAFTED = ("JPEG", "MPO")  # formats that decode at a half, a quarter or an eighth for a fraction of the work
_PASSED_PIXELS = 2.0  # times the pixels of the best size, up to which right bytes are not worth re-encoding
_NEAR_PIXELS = 1.1  # times the pixels of the best size, up to which an image is not worth resampling
_PNG_DEPTH = 24  # where a PNG says how many bits a channel has
_JPEG_SIDE = 65_500  # pixels; a JPEG cannot be longer
_QUALITY = 90
_AVERAGED_QUALITY = 75  # of what the model averages: the artefacts go with it
_AVERAGED_PIXELS = 2.0  # times the pixels that the model sees, from which that counts
_LOWER_QUALITIES = (80, 70, 60)  # tried in turn when the file is too large; below, a smaller picture shows more
_LEAST_SIDE = 16  # pixels; smaller than this nothing is shrunk to fit
_HEAVY_PIXELS = 50_000_000  # above which images are decoded one at a time in the whole process

_heavy = threading.Lock()
_stripes = [threading.Lock() for _ in range(64)]
if hasattr(os, "register_at_fork"):

    def _renew_locks() -> None:
        global _heavy
        _heavy = threading.Lock()
        _stripes[:] = [threading.Lock() for _ in _stripes]

    os.register_at_fork(after_in_child=_renew_locks)


def encode(image: object, options: ImageOptions = DEFAULT, *, full_resolution: bool = False) -> EncodedImage:
    """Prepare an image for sending: upright, on its background, 8-bit sRGB, sized for the model.

    Args:
        image: Anything `ImageInput` names, but a URL.
        options: Size, quality, limit, background.
        full_resolution: With `resize="auto"`, keep the original's size, as `segment` wants it, instead of
            the size at which the model sees the most.

    Raises:
        ImageError: It cannot be read, is not an image, is damaged, or is too large.
    """
    if isinstance(image, EncodedImage):
        return image
    plan = _Plan(options, full_resolution=full_resolution)
    with name_errors(image), _decoding_errors():
        # Pillow's images and open files are nobody's to read in two threads at once.
        with _stripes[(id(image) >> 4) % len(_stripes)]:
            loaded = sources.load(image)
            if not isinstance(loaded, bytes):
                return _encode_image(loaded, plan)
        return _encode_file(loaded, plan)


def upright(image: object) -> Image.Image:
    """Decode an image as its coordinates mean it: upright, on white, 8-bit sRGB, at its own size.

    Args:
        image: Anything `ImageInput` names, but a URL.

    Raises:
        ImageError: It cannot be read, is not an image, is damaged, or is too large.
    """
    given = image.data if isinstance(image, EncodedImage) else image
    with name_errors(image), _decoding_errors():
        with _stripes[(id(given) >> 4) % len(_stripes)]:
            loaded = sources.load(given)
            if not isinstance(loaded, bytes):
                return _upright(loaded, orientation.of_image(loaded))
        data, kind = _unwrapped(loaded)
        guards.check(data, kind)
        with _open(data, kind) as picture:
            return _upright(picture, orientation.of_file(picture))


@contextlib.contextmanager
def _decoding_errors() -> Generator[None]:
    """Turn whatever goes wrong into an `ImageError`."""
    try:
        yield
    except ImageError:
        raise
    except MemoryError:
        problem = "there is not enough memory to decode it"
    except Exception as exc:
        problem = str(exc) or type(exc).__name__
    else:
        return
    raise ImageError(f"The image cannot be decoded: {problem}.")


def _upright(picture: Image.Image, exif: int) -> Image.Image:
    limits.check_size(*picture.size)
    with _one_at_a_time(picture.size):
        picture.load()  # which turns a TIFF upright by itself
        exif = 1 if picture.format == "TIFF" else exif
        rendered = render.render(picture, picture.size, _background(DEFAULT), finely=True)
        return orientation.apply(rendered, exif)


class _Plan:
    """Which size to send, and whether one that is near is as good."""

    def __init__(self, options: ImageOptions, *, full_resolution: bool) -> None:
        self.options = options
        self._for_grid = options.resize == "auto" and not full_resolution
        self._longest = options.resize if options.resize != "auto" else LARGEST_SIDE

    def size_for(self, original: Size) -> Size:
        if self._for_grid:
            return crop_grid.best_size(*original)
        longest = max(original)
        if self._longest is None or longest <= self._longest:
            return original
        return _scaled(original, self._longest / longest)

    def passes(self, size: Size) -> bool:
        """Whether right bytes of this size go through as they are."""
        best = self.size_for(size)
        return size == best or (self._for_grid and _is_near(size, best, _PASSED_PIXELS))

    def size_from(self, decoded: Size, original: Size) -> Size:
        """The size to make of an image that was decoded at this size.

        A half or a third of it costs a tenth of resampling, and serves as well where the model resamples again.
        """
        best = self.size_for(original)
        if self._for_grid:
            for factor in range(max(1, decoded[0] // best[0]), 0, -1):
                reduced = -(-decoded[0] // factor), -(-decoded[1] // factor)
                if _is_near(reduced, best, _NEAR_PIXELS):
                    return reduced
        return best

    def is_averaged(self, size: Size) -> bool:
        """Whether the model makes one pixel of two or more that are sent."""
        return self._for_grid and size[0] * size[1] >= _AVERAGED_PIXELS * math.prod(crop_grid.seen_size(*size))

    def quality_for(self, size: Size) -> int:
        """The JPEG quality for a picture that is sent at this size."""
        if self.options.quality is not None:
            return self.options.quality
        return _AVERAGED_QUALITY if self.is_averaged(size) else _QUALITY


def _is_near(size: Size, best: Size, pixels_more: float) -> bool:
    few_more = size[0] * size[1] <= pixels_more * best[0] * best[1]
    return few_more and crop_grid.detail(*size) >= crop_grid.detail(*best)


def _encode_file(data: bytes, plan: _Plan) -> EncodedImage:
    data, kind = _unwrapped(data)
    guards.check(data, kind)
    with _open(data, kind) as picture:
        limits.check_size(*picture.size)
        if _is_right(picture, data, plan.options.max_bytes) and plan.passes(picture.size):
            return _pass_through(picture, data)
        exif, original = orientation.of_file(picture), None
        if picture.format in _DRAFTED:
            original = orientation.swapped(picture.size, exif)
            picture.draft("RGB", orientation.swapped(plan.size_for(original), exif))
        with _one_at_a_time(picture.size):
            picture.load()  # which turns a TIFF upright by itself
            exif = 1 if picture.format == "TIFF" else exif
            return _encode_pixels(picture, exif, original or orientation.swapped(picture.size, exif), plan)


def _open(data: bytes, kind: str | None) -> Image.Image:
    if kind is None:
        raise ImageError(f"The file is not an image that can be used: it is {formats.describe(data)}.")
    if kind == "HEIF":
        return _open_heif(data)
    if kind not in Image.OPEN:
        with no_fork():
            Image.init()
    needed, info = _needed(data, kind)
    try:
        # That format's reader and no other: some of Pillow's start programs. How many pixels are too many is
        # decided here; `Image.open` would also warn of half as many.
        picture = Image.OPEN[kind][0](io.BytesIO(needed), "")
    except KeyError:
        problem = f"a {kind}, which this Pillow does not read; a newer one does"
    except (SyntaxError, IndexError, TypeError, struct.error) as exc:
        damaged = f"a {kind} that is damaged, or cut off, at its start"
        problem = unsupported.explain(data, kind, str(exc)) or damaged
    else:
        picture.info.update(info)
        return picture
    raise ImageError(f"The image is {problem}.")


def _unwrapped(data: bytes) -> tuple[bytes, str | None]:
    """Return the image file and its format; of an icon, the PNG in it; of a TIFF, with its main picture first."""
    kind = formats.kind_of(data)
    if kind == "TIFF":
        data = tiff.main_picture(data)
    inner = icon.largest_png(data) if kind == "ICO" else None
    return (data, kind) if inner is None else (inner, "PNG")


def _needed(data: bytes, kind: str) -> tuple[bytes, dict[str, Any]]:
    """Return the file as Pillow decodes it fast, and what it says of its picture that Pillow then does not see."""
    if kind == "PNG":
        needed, info = png.split(data)
        tags.check_block(info.get("exif", b""))
        return needed, info
    if kind == "GIF":
        return gif.without_extensions(data), {}
    return netpbm.as_8_bit(data) if kind == "PPM" else data, {}


def _open_heif(data: bytes) -> Image.Image:
    try:
        import pillow_heif
    except ImportError:
        pass
    else:
        file = cast("Any", pillow_heif).open_heif(data)
        limits.check_size(*file.size)
        return cast("Image.Image", file.to_pillow())
    raise ImageError(
        "The image is a HEIC, which Pillow does not read by itself: pip install 'moondream-async[heif]', "
        "or convert it to JPEG first."
    )


def _encode_image(picture: Image.Image, plan: _Plan) -> EncodedImage:
    """Prepare a user's Pillow image, and leave it as it was."""
    limits.check_size(*picture.size)
    with _one_at_a_time(picture.size):
        picture.load()  # which turns a TIFF upright by itself
        exif = orientation.of_image(picture)
        return _encode_pixels(picture, exif, orientation.swapped(picture.size, exif), plan)


def _is_right(picture: Image.Image, data: bytes, max_bytes: int) -> bool:
    return (
        picture.format in _PASSED_THROUGH
        and picture.mode == "RGB"
        and "transparency" not in picture.info
        and getattr(picture, "n_frames", 1) == 1
        and orientation.of_file(picture) == 1
        and (picture.format != "PNG" or data[_PNG_DEPTH] == 8)
        and len(data) <= max_bytes
        and color.is_srgb(picture)
    )


def _pass_through(picture: Image.Image, data: bytes) -> EncodedImage:
    size = picture.size
    # Decoding proves that the file is whole; at an eighth of the size it costs the least.
    picture.draft("RGB", (max(1, size[0] // 8), max(1, size[1] // 8)))
    with _one_at_a_time(size):
        picture.load()
    return EncodedImage.of(data, media_type=_PASSED_THROUGH[str(picture.format)], size=size, original=size)


def _encode_pixels(picture: Image.Image, exif: int, original: Size, plan: _Plan) -> EncodedImage:
    limits.check_size(*picture.size)
    # Photographs hold their colours at half resolution already; drawings and text do not.
    subsampling = "4:2:0" if picture.format in _DRAFTED else "4:4:4"
    size = orientation.swapped(plan.size_from(orientation.swapped(picture.size, exif), original), exif)
    if max(size) > _JPEG_SIDE:
        raise ImageError(f"The image has {size[0]} x {size[1]} pixels; at most {_JPEG_SIDE:,} a side can be sent.")
    # Turned last, when there are fewest pixels to turn.
    finely = not plan.is_averaged(size)
    rendered = orientation.apply(render.render(picture, size, _background(plan.options), finely=finely), exif)
    data, sent = _fitted(rendered, plan.quality_for(rendered.size), subsampling, plan.options.max_bytes)
    return EncodedImage.of(data, media_type="image/jpeg", size=sent, original=original)


def _fitted(picture: Image.Image, quality: int, subsampling: str, max_bytes: int) -> tuple[bytes, Size]:
    """A JPEG within the limit: at lower quality if need be, then smaller."""
    data = _jpeg(picture, quality, subsampling)
    for lower in (q for q in _LOWER_QUALITIES if q < quality):
        if len(data) <= max_bytes:
            break
        quality, data = lower, _jpeg(picture, lower, subsampling)
    while len(data) > max_bytes:
        size = _scaled(picture.size, min(0.9, math.sqrt(max_bytes / len(data))))
        if size == picture.size or min(size) < min(_LEAST_SIDE, *picture.size):
            raise ImageError(
                f"The image cannot be made to fit {max_bytes:,} bytes (ImageOptions.max_bytes): "
                f"at {picture.width} x {picture.height} pixels it still has {len(data):,}."
            )
        picture = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
        data = _jpeg(picture, quality, subsampling)
    return data, picture.size


def _jpeg(picture: Image.Image, quality: int, subsampling: str) -> bytes:
    # Pillow lets other threads run while it writes to a descriptor, and not while it writes to a BytesIO.
    with contextlib.suppress(OSError), _memory_file() as file:
        picture.save(file, "JPEG", quality=quality, subsampling=subsampling)
        file.seek(0)
        return file.read()
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return buffer.getvalue()


def _memory_file() -> BinaryIO:
    """Open a file in memory.

    Raises:
        OSError: There is none on this system, or it is denied (by seccomp, `vm.memfd_noexec`, limits).
    """
    if not hasattr(os, "memfd_create"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return os.fdopen(os.memfd_create("moondream-async"), "w+b")


def _scaled(size: Size, factor: float) -> Size:
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _background(options: ImageOptions) -> tuple[int, int, int]:
    assert isinstance(options.background, tuple)  # its converter saw to it
    return options.background


@contextlib.contextmanager
def _one_at_a_time(size: Size) -> Generator[None]:
    """Huge images wait for each other, so that what they take together stays bounded."""
    with _heavy if size[0] * size[1] > _HEAVY_PIXELS else contextlib.nullcontext():
        yield
