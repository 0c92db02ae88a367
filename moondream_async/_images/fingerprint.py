"""Which image it is: a name that stays the same from run to run; blocking, for a worker thread."""

from __future__ import annotations

import hashlib
import os
from typing import Any, cast

from ..errors import ImageError
from .data_uris import from_base64
from .encoded import EncodedImage
from .prepare import MOST_PIXELS
from .source_names import NamedBytes, is_data_uri, name_errors, source_name
from .sources import load

_LONGEST_NAME = 4096  # characters of a path or URL; what is longer is data
_DIGITS = 32


def name_of(image: object) -> str | None:
    """The path or URL that the image is given by; None if it is given by its content."""
    if isinstance(image, os.PathLike):
        return os.fsdecode(cast("os.PathLike[str]", image))
    if isinstance(image, str):
        return None if _is_data(image) else image
    return None


def _is_data(text: str) -> bool:
    if len(text) > _LONGEST_NAME or is_data_uri(text):
        return True
    return from_base64(text) is not None and not os.path.exists(text)  # noqa: PTH110 - no Path need be made


def content_id(image: Any) -> tuple[str, Any]:
    """`sha256:` and a digest of the image's bytes or pixels; and the image, still to be read.

    Raises:
        ImageError: It cannot be read.
    """
    if isinstance(image, EncodedImage):
        return _digest(image.uri), image
    with name_errors(image):
        return _content_id(image)


def _content_id(image: Any) -> tuple[str, Any]:
    loaded = load(image)
    if isinstance(loaded, bytes):
        can_be_read_again = not hasattr(image, "read") or getattr(image, "seekable", lambda: False)()
        return _digest(loaded), image if can_be_read_again else NamedBytes(loaded, source_name(image))
    if loaded.width * loaded.height > MOST_PIXELS:
        raise ImageError(
            f"The image has {loaded.width:,} x {loaded.height:,} pixels; at most {MOST_PIXELS:,} are read."
        )
    try:
        return _digest(f"{loaded.mode} {loaded.size} ".encode() + loaded.tobytes()), image
    except Exception as exc:
        problem = str(exc) or type(exc).__name__
    raise ImageError(f"The image cannot be decoded: {problem}.")


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()[:_DIGITS]}"
