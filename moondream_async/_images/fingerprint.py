"""Identify images by a name that is stable across runs; blocking, for a worker thread."""

from __future__ import annotations

import hashlib
import os
from typing import Any, cast

from ..errors import ImageError
from .data_uris import from_base64
from .encoded import EncodedImage
from .limits import MAX_PIXELS
from .source_names import MAX_PATH_LENGTH, NamedBytes, is_data_uri, name_errors, source_name
from .sources import load

_DIGITS = 32  # hexadecimal digits of the digest that are kept


def name_of(image: object) -> str | None:
    """Return an image's path or URL, or None if it was passed by its content."""
    if isinstance(image, os.PathLike):
        return os.fsdecode(cast("os.PathLike[str]", image))
    if isinstance(image, str):
        return None if _is_data(image) else image
    return None


def _is_data(text: str) -> bool:
    if len(text) > MAX_PATH_LENGTH or is_data_uri(text):
        return True
    return from_base64(text) is not None and not os.path.exists(text)  # noqa: PTH110 - a str is enough


def content_id(image: Any) -> tuple[str, Any]:
    """Return `sha256:` and a digest of the image's bytes or pixels, and an image that can still be read.

    Raises:
        ImageError: The image cannot be read.
    """
    if isinstance(image, EncodedImage):
        return _digest(image.uri), image
    with name_errors(image):
        return _content_id(image)


def _content_id(image: Any) -> tuple[str, Any]:
    loaded = load(image)
    if isinstance(loaded, bytes):
        is_rereadable = not hasattr(image, "read") or getattr(image, "seekable", lambda: False)()
        return _digest(loaded), image if is_rereadable else NamedBytes(loaded, source_name(image))
    if loaded.width * loaded.height > MAX_PIXELS:
        raise ImageError(
            f"The image has {loaded.width:,} x {loaded.height:,} pixels; at most {MAX_PIXELS:,} are supported."
        )
    try:
        return _digest(f"{loaded.mode} {loaded.size} ".encode() + loaded.tobytes()), image
    except Exception as exc:
        problem = str(exc) or type(exc).__name__
    raise ImageError(f"The image cannot be decoded: {problem}.")


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()[:_DIGITS]}"
