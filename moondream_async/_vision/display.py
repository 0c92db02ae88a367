"""Show a result in a notebook: drawn on its image, which is loaded now, or else on an empty canvas."""

from __future__ import annotations

import io
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import anyio

from .._api import ApiClient, Settings, SharedSession
from .._images.encoded import EncodedImage
from .._images.image_source import ImageSource
from .._images.options import ImageOptions
from .._images.prepare import encode, upright
from .._images.sources import is_url
from ..config import RetryPolicy, Server, Timeouts
from ..errors import ConfigurationError, MoondreamError
from ..types import Result, SegmentResult
from .annotate import annotate, draw_outline
from .simple_outlines import outline_loops

if TYPE_CHECKING:
    from PIL.Image import Image

_MAX_SIDE = 1024  # pixels; more does not fit in a cell, and makes notebooks large
_CANVAS_SIDE = 640  # pixels of the canvas without an image
_CANVAS_COLOR = (238, 240, 243)
_DOWNLOAD_TIMEOUT = 10.0  # seconds; a cell must not hang because of a picture


def to_png(result: Result) -> bytes | None:
    """Return the picture of a result of `detect`, `point` or `segment`; None if there is neither image nor size.

    Raises:
        MoondreamError: The result cannot be drawn.
    """
    picture = _load(getattr(result, "_source", None), result.image_size) or _canvas(result.image_size)
    if picture is None:
        return None
    file = io.BytesIO()
    _draw(picture, result).save(file, "PNG")
    return file.getvalue()


def _load(source: ImageSource | None, size: tuple[int, int] | None) -> Image | None:
    """Return the image, scaled down; None if it cannot be read, or is not the one that the result is about."""
    image = None if source is None else source.image
    if source is None or image is None:
        return None
    options = ImageOptions(resize=_MAX_SIDE, allow_private_urls=source.allow_private)
    try:
        encoded = _download(image, options) if is_url(image) else encode(image, options)
        picture = upright(encoded)
    except (MoondreamError, TimeoutError):
        return None
    if size is not None and size != encoded.original_size:
        return None
    picture.thumbnail((_MAX_SIDE, _MAX_SIDE))
    return picture


def _download(url: str, options: ImageOptions) -> EncodedImage:
    """Download an image in a thread of its own, as notebooks run an event loop in theirs.

    Raises:
        MoondreamError, TimeoutError: It cannot be downloaded.
    """
    settings = Settings(
        server=Server("", None, None),
        timeouts=Timeouts.of(_DOWNLOAD_TIMEOUT),
        retry=RetryPolicy.of(1),
        image_options=options,
        headers={},
        hooks=(),
    )

    async def download() -> EncodedImage:
        api = ApiClient(settings, SharedSession(max_connections=1, rate_limit=None, http_client=None))
        try:
            with anyio.fail_after(_DOWNLOAD_TIMEOUT):
                return await api.encode_image(url)
        finally:
            await api.aclose()

    with ThreadPoolExecutor(1) as thread:
        return thread.submit(anyio.run, download).result()


def _canvas(size: tuple[int, int] | None) -> Image | None:
    """Return an empty canvas of the image's aspect ratio; None if its size is not known."""
    from PIL import Image

    if size is None:
        return None
    scale = min(1.0, _CANVAS_SIDE / max(size))
    return Image.new("RGB", (max(1, round(size[0] * scale)), max(1, round(size[1] * scale))), _CANVAS_COLOR)


def _draw(picture: Image, result: Any) -> Image:
    """Draw the result; without the extra `vision`, only the edge of a segment."""
    try:
        return annotate(picture, result)
    except ConfigurationError:
        if not isinstance(result, SegmentResult):
            raise
    draw_outline(picture, outline_loops(result, picture.size))
    return picture
