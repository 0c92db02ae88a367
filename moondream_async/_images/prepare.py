"""Convert any image to an `EncodedImage`; blocking, for a worker thread.

JPEG and PNG files that already suit the model are sent unchanged; all other images are decoded and re-encoded.
"""

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
    resizing,
    sources,
    tags,
    tiff,
    unsupported,
)
from .encoded import EncodedImage
from .lazy import LazyImage
from .locks import lock_for
from .options import DEFAULT, ImageOptions
from .orientation import Size
from .source_names import name_errors


class SupportsArrayInterface(Protocol):
    """A NumPy array, or an object that can be read as one: `(height, width[, channels])`, RGB, `uint8`."""

    @property
    def __array_interface__(self) -> dict[str, Any]: ...


class AsyncBinaryFile(Protocol):
    """A file whose `read` must be awaited: a web framework's upload, `anyio.open_file`, `aiofiles`."""

    def read(self, size: int = ..., /) -> Awaitable[bytes]:
        """Read up to `size` bytes."""
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
"""Everything that an `image` parameter accepts: a path, an http(s) URL, the bytes of an image file, a binary file
(sync or async), a PIL image, an array (RGB, `uint8`), a `data:` URI, bare base64, or an `EncodedImage`."""

_MAX_SIDE = 8192  # pixels per side up to which `segment` keeps the full resolution
_MEDIA_TYPES = {"JPEG": "image/jpeg", "PNG": "image/png"}  # formats that can be sent unchanged
_DRAFTED = ("JPEG", "MPO")  # formats that can be decoded at a half, a quarter or an eighth of the size, much faster
_MAX_PASSED_PIXELS = 2.0  # times the pixels of the best size; up to this, suitable files are not worth re-encoding
_MAX_NEAR_PIXELS = 1.1  # times the pixels of the best size; up to this, an image is not worth resampling
_PNG_DEPTH = 24  # offset of the bit depth in a PNG
_MAX_JPEG_SIDE = 65_500  # pixels; the JPEG format allows no more
_QUALITY = 90
_AVERAGED_QUALITY = 75  # for images whose pixels the model averages, which also averages out the artifacts
_MIN_AVERAGED_PIXELS = 2.0  # times the pixels that the model sees; from this on, its pixels count as averages
_LOWER_QUALITIES = (80, 70, 60)  # tried in turn if the file is too large; below, a smaller size keeps more detail
_MIN_SIDE = 16  # pixels; images are not shrunk below this to fit
_HEAVY_PIXELS = 50_000_000  # larger images are decoded one at a time per process

_heavy_lock = threading.Lock()
if hasattr(os, "register_at_fork"):

    def _renew_lock() -> None:
        global _heavy_lock
        _heavy_lock = threading.Lock()

    os.register_at_fork(after_in_child=_renew_lock)


def encode(image: object, options: ImageOptions = DEFAULT, *, full_resolution: bool = False) -> EncodedImage:
    """Prepare an image for sending: upright, 8-bit sRGB without transparency, at the size that suits the model.

    Args:
        image: Any `ImageInput` except a URL.
        options: Size, quality, maximum bytes, background.
        full_resolution: With `resize="auto"`, keep the original size, as for `segment`, instead of the size at which
            the model gets the most detail.

    Raises:
        ImageError: The image cannot be read, is not an image, is damaged, or is too large.
    """
    if isinstance(image, EncodedImage):
        return image
    plan = _Plan(options, full_resolution=full_resolution)
    with name_errors(image), _as_image_errors():
        with lock_for(image):
            loaded = sources.load(image)
            if not isinstance(loaded, bytes):
                return _encode_image(loaded, plan)
        return _encode_file(loaded, plan)


def upright(image: object, options: ImageOptions = DEFAULT) -> Image.Image:
    """Decode an image to what result coordinates refer to: upright, 8-bit sRGB, at its original size.

    The returned image is never the caller's own object.

    Args:
        image: Any `ImageInput` except a URL.
        options: The background behind transparent parts; default white.

    Raises:
        ImageError: The image cannot be read, is not an image, is damaged, or is too large.
    """
    source = image.data if isinstance(image, EncodedImage) else image
    with name_errors(image), _as_image_errors():
        with lock_for(source):
            loaded = sources.load(source)
            if not isinstance(loaded, bytes):
                rendered = _render_upright(loaded, orientation.of_image(loaded), options)
                return _without_info(rendered.copy() if rendered is image else rendered)
        data, kind = _unwrap(loaded)
        guards.check(data, kind)
        with _open(data, kind) as picture:
            return _without_info(_render_upright(picture, orientation.of_file(picture), options))


def upright_size(image: object) -> Size:
    """Return the width and height of an image in pixels, upright, without decoding it.

    Args:
        image: Any `ImageInput` except a URL.

    Raises:
        ImageError: The image cannot be read, is not an image, or is too large.
    """
    if isinstance(image, EncodedImage):
        return image.width, image.height
    with name_errors(image), _as_image_errors(), lock_for(image):
        loaded = sources.load(image)
        if not isinstance(loaded, bytes):
            limits.check_size(*loaded.size)
            return orientation.swapped(loaded.size, orientation.of_image(loaded))
        data, kind = _unwrap(loaded)
        guards.check(data, kind)
        with _open(data, kind) as picture:
            limits.check_size(*picture.size)
            return orientation.swapped(picture.size, orientation.of_file(picture))


@contextlib.contextmanager
def _as_image_errors() -> Generator[None]:
    """Raise any exception as an `ImageError`."""
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


def _render_upright(picture: Image.Image, exif: int, options: ImageOptions) -> Image.Image:
    limits.check_size(*picture.size)
    with _one_at_a_time(picture.size):
        picture.load()  # this already applies a TIFF's orientation
        exif = 1 if picture.format == "TIFF" else exif
        rendered = render.render(picture, picture.size, _background(options), finely=True)
        return orientation.apply(render.as_rgb(rendered), exif)


def _without_info(picture: Image.Image) -> Image.Image:
    """Remove the metadata, so that nobody applies the orientation and the color profile again."""
    picture.info = {}
    return picture


class _Plan:
    """Decides at which size and quality to send an image."""

    def __init__(self, options: ImageOptions, *, full_resolution: bool) -> None:
        self.options = options
        self._for_grid = options.resize == "auto" and not full_resolution
        self._max_side = options.resize if options.resize != "auto" else _MAX_SIDE

    def size_for(self, original: Size) -> Size:
        if self._for_grid:
            return crop_grid.best_size(*original)
        longest = max(original)
        if self._max_side is None or longest <= self._max_side:
            return original
        return _scale(original, self._max_side / longest)

    def passes(self, size: Size) -> bool:
        """Return whether a suitable file of this size is sent unchanged."""
        best = self.size_for(size)
        return size == best or (self._for_grid and _is_near(size, best, _MAX_PASSED_PIXELS))

    def size_from(self, decoded: Size, original: Size) -> Size:
        """Return the size to which to reduce an image that was decoded at this size.

        Reducing by an integer factor takes a tenth of the time of resampling, and is as good if the model resamples
        the image again.
        """
        best = self.size_for(original)
        if self._for_grid:
            for factor in range(max(1, decoded[0] // best[0]), 0, -1):
                reduced = -(-decoded[0] // factor), -(-decoded[1] // factor)
                if _is_near(reduced, best, _MAX_NEAR_PIXELS):
                    return reduced
        return best

    def is_averaged(self, size: Size) -> bool:
        """Return whether the model averages two or more of the pixels sent into one."""
        return self._for_grid and size[0] * size[1] >= _MIN_AVERAGED_PIXELS * math.prod(crop_grid.seen_size(*size))

    def quality_for(self, size: Size) -> int:
        """Return the JPEG quality for an image sent at this size."""
        if self.options.quality is not None:
            return self.options.quality
        return _AVERAGED_QUALITY if self.is_averaged(size) else _QUALITY


def _is_near(size: Size, best: Size, max_factor: float) -> bool:
    is_small_enough = size[0] * size[1] <= max_factor * best[0] * best[1]
    return is_small_enough and crop_grid.detail(*size) >= crop_grid.detail(*best)


def _encode_file(data: bytes, plan: _Plan) -> EncodedImage:
    data, kind = _unwrap(data)
    guards.check(data, kind)
    with _open(data, kind) as picture:
        limits.check_size(*picture.size)
        if _is_suitable(picture, data, plan.options.max_bytes) and plan.passes(picture.size):
            return _pass_through(picture, data)
        exif, original = orientation.of_file(picture), None
        if picture.format in _DRAFTED:
            original = orientation.swapped(picture.size, exif)
            _draft(picture, exif, plan)
        with _one_at_a_time(picture.size):
            picture.load()  # this already applies a TIFF's orientation
            exif = 1 if picture.format == "TIFF" else exif
            return _encode_pixels(picture, exif, original or orientation.swapped(picture.size, exif), plan)


def _draft(picture: Image.Image, exif: int, plan: _Plan) -> None:
    """Prepare to decode a JPEG at the smallest size that is large enough."""
    original = orientation.swapped(picture.size, exif)
    best = plan.size_for(original)
    decoded = resizing.drafted_size(original, best)
    mode = resizing.jpeg_mode(picture, decoded, plan.size_from(decoded, original))
    picture.draft(mode, orientation.swapped(best, exif))


def _open(data: bytes, kind: str | None) -> Image.Image:
    if kind is None:
        raise ImageError(f"The file is not a supported image: it is {formats.describe(data)}.")
    if kind == "HEIF":
        return _open_heif(data)
    if kind not in Image.OPEN:
        with no_fork():
            Image.init()
    stripped, info = _strip(data, kind)
    try:
        # Only the reader of this format, because some of Pillow's readers start programs. The number of pixels is
        # checked by `limits`; `Image.open` would also warn about half as many.
        picture = Image.OPEN[kind][0](io.BytesIO(stripped), "")
    except KeyError:
        problem = f"a {kind}, which the installed version of Pillow does not support; upgrade Pillow"
    except (SyntaxError, IndexError, TypeError, struct.error) as exc:
        damaged = f"a {kind} that is damaged or truncated at its start"
        problem = unsupported.explain(data, kind, str(exc)) or damaged
    else:
        picture.info.update(info)
        return picture
    raise ImageError(f"The image is {problem}.")


def _unwrap(data: bytes) -> tuple[bytes, str | None]:
    """Return the image file and its format: for an icon, the PNG in it; for a TIFF, with its main picture first."""
    kind = formats.detect_format(data)
    if kind == "TIFF":
        data = tiff.main_picture(data)
    inner = icon.largest_png(data) if kind == "ICO" else None
    return (data, kind) if inner is None else (inner, "PNG")


def _strip(data: bytes, kind: str) -> tuple[bytes, dict[str, Any]]:
    """Return the file in a form that Pillow decodes fast, and the metadata that was removed from it."""
    if kind == "PNG":
        stripped, info = png.split(data)
        tags.check_block(info.get("exif", b""))
        return stripped, info
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
        "The image is a HEIC, which needs the extra 'heif': pip install 'moondream-async[heif]', "
        "or convert it to JPEG first."
    )


def _encode_image(picture: Image.Image, plan: _Plan) -> EncodedImage:
    """Prepare a user's Pillow image without changing it."""
    limits.check_size(*picture.size)
    with _one_at_a_time(picture.size):
        if not isinstance(picture, LazyImage):
            picture.load()  # this already applies a TIFF's orientation
        exif = orientation.of_image(picture)
        original = orientation.swapped(picture.size, exif)
        if isinstance(picture, LazyImage):
            size = orientation.swapped(plan.size_from(original, original), exif)
            picture = picture.at_size(size)
        return _encode_pixels(picture, exif, original, plan)


def _is_suitable(picture: Image.Image, data: bytes, max_bytes: int) -> bool:
    """Return whether a file can be sent unchanged, apart from its size in pixels."""
    return (
        picture.format in _MEDIA_TYPES
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
    # Decode to check that the file is complete; this is fastest at an eighth of the size.
    picture.draft("RGB", (max(1, size[0] // 8), max(1, size[1] // 8)))
    with _one_at_a_time(size):
        picture.load()
    return EncodedImage.of(data, media_type=_MEDIA_TYPES[str(picture.format)], size=size, original=size)


def _encode_pixels(picture: Image.Image, exif: int, original: Size, plan: _Plan) -> EncodedImage:
    limits.check_size(*picture.size)
    # Photos already store their colors at half resolution; drawings and text do not.
    subsampling = "4:2:0" if picture.format in _DRAFTED else "4:4:4"
    size = orientation.swapped(plan.size_from(orientation.swapped(picture.size, exif), original), exif)
    if max(size) > _MAX_JPEG_SIDE:
        raise ImageError(f"The image has {size[0]} x {size[1]} pixels; at most {_MAX_JPEG_SIDE:,} a side can be sent.")
    # The orientation is applied last, when there are the fewest pixels.
    finely = not plan.is_averaged(size)
    rendered = orientation.apply(render.render(picture, size, _background(plan.options), finely=finely), exif)
    data, sent_size = _encode_to_fit(rendered, plan.quality_for(rendered.size), subsampling, plan.options.max_bytes)
    return EncodedImage.of(data, media_type="image/jpeg", size=sent_size, original=original)


def _encode_to_fit(picture: Image.Image, quality: int, subsampling: str, max_bytes: int) -> tuple[bytes, Size]:
    """Encode as a JPEG within the limit, reducing the quality and then the size if necessary."""
    data = _encode_jpeg(picture, quality, subsampling)
    for lower in (q for q in _LOWER_QUALITIES if q < quality):
        if len(data) <= max_bytes:
            break
        quality, data = lower, _encode_jpeg(picture, lower, subsampling)
    while len(data) > max_bytes:
        size = _scale(picture.size, min(0.9, math.sqrt(max_bytes / len(data))))
        if size == picture.size or min(size) < min(_MIN_SIDE, *picture.size):
            raise ImageError(
                f"The image cannot be made to fit {max_bytes:,} bytes (ImageOptions.max_bytes): "
                f"at {picture.width} x {picture.height} pixels it still has {len(data):,}."
            )
        picture = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
        data = _encode_jpeg(picture, quality, subsampling)
    return data, picture.size


def _encode_jpeg(picture: Image.Image, quality: int, subsampling: str) -> bytes:
    # Pillow releases the GIL while it writes to a file descriptor, but not while it writes to a BytesIO.
    with contextlib.suppress(OSError), _memory_file() as file:
        picture.save(file, "JPEG", quality=quality, subsampling=subsampling)
        file.seek(0)
        return file.read()
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality, subsampling=subsampling)
    return buffer.getvalue()


def _memory_file() -> BinaryIO:
    """Open an in-memory file that has a descriptor.

    Raises:
        OSError: The system has no such files, or denies them (by seccomp, `vm.memfd_noexec`, limits).
    """
    if not hasattr(os, "memfd_create"):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    return os.fdopen(os.memfd_create("moondream-async"), "w+b")


def _scale(size: Size, factor: float) -> Size:
    return max(1, round(size[0] * factor)), max(1, round(size[1] * factor))


def _background(options: ImageOptions) -> tuple[int, int, int]:
    assert isinstance(options.background, tuple)  # the field's converter ensures it
    return options.background


@contextlib.contextmanager
def _one_at_a_time(size: Size) -> Generator[None]:
    """Make very large images wait for each other, which bounds the memory they take together."""
    with _heavy_lock if size[0] * size[1] > _HEAVY_PIXELS else contextlib.nullcontext():
        yield
