"""Name the image that an error is about."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Generator
from typing import Any, cast
from urllib.parse import urlsplit

import attrs

from ..errors import ImageError, MoondreamError

MAX_PATH_LENGTH = 4096
"""Maximum characters of a path or URL; longer texts are treated as data."""

_MAX_SHOWN_NAME = 200  # characters
_NAMELESS = ("bytes (", "data: URI (", "text (", "PIL image (", "array (", "file object (")


@attrs.frozen(eq=False)
class NamedBytes:
    """The bytes of an image, and the name of the source they were read from."""

    data: bytes = attrs.field(repr=False)
    name: str


@contextlib.contextmanager
def name_errors(image: object) -> Generator[None]:
    """Add the image's name to every `ImageError` that has none yet."""
    try:
        yield
    except ImageError as exc:
        if exc.image is not None:
            raise
        error = with_name(exc, source_name(image))
    else:
        return
    raise error.with_traceback(None) from None


def with_name(error: ImageError, name: str, *, instead_of: str | None = None) -> ImageError:
    """Return a copy of the error with the name in its message, unless the message already contains it."""
    message = error.message
    if instead_of is not None:
        message = message.replace(f"[{instead_of}]", f"[{name}]")
    elif name not in message:
        message = f"{message.removesuffix('.')} [{name}]."
    named = copy.copy(error)
    named.message, named.args, named.image = message, (message,), name
    return named


def with_item(error: MoondreamError, item: object) -> MoondreamError:
    """Return the error with its item's id, if it is about an image without a name."""
    if not isinstance(error, ImageError) or error.image is None or not error.image.startswith(_NAMELESS):
        return error
    return with_name(error, f"item {format_path(str(item))}, {error.image}", instead_of=error.image)


def source_name(image: object) -> str:
    """Return an image's path, URL or file name; if it has none, its type and size."""
    if isinstance(image, NamedBytes):
        return image.name
    if isinstance(image, str):
        return _name_of_text(image)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return f"bytes ({memoryview(cast('bytes', image)).nbytes:,} bytes)"
    try:
        return _name_of_object(image)
    except Exception:  # a user's object may raise anything
        return type(image).__name__


def is_data_uri(text: str) -> bool:
    """Return whether a text is a `data:` URI; leading whitespace is ignored."""
    return text[:256].lstrip()[:5].lower() == "data:"


def format_path(name: str | bytes) -> str:
    """Format a path for an error message: shortened if it is long, with unprintable characters escaped."""
    text = os.fsdecode(name).encode("utf-8", "backslashreplace").decode()
    text = text if len(text) <= _MAX_SHOWN_NAME else text[:80] + "…"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def redact_url(url: str) -> str:
    """Return a URL without the parts that may be secret: user, password, query and fragment."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return url.strip()[:8].partition(":")[0] + " URL"
    return format_path(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


def _name_of_text(text: str) -> str:
    if is_data_uri(text):
        return f"data: URI ({len(text):,} characters)"
    if len(text) > MAX_PATH_LENGTH:
        return f"text ({len(text):,} characters)"
    return redact_url(text) if "://" in text and not text.lower().startswith("file:") else format_path(text)


def _name_of_object(image: Any) -> str:
    if isinstance(image, os.PathLike):
        return format_path(os.fspath(cast("os.PathLike[str]", image)))
    if hasattr(image, "mode") and hasattr(image, "size") and hasattr(image, "getbbox"):
        description = f"PIL image ({image.mode}, {image.size[0]} x {image.size[1]})"
        path = getattr(image, "filename", None)
        return f"{format_path(path)}, {description}" if isinstance(path, (str, bytes)) and path else description
    if hasattr(image, "read"):
        return file_name(image) or f"file object ({type(image).__name__})"
    interface = getattr(image, "__array_interface__", None)
    if interface is not None:
        return f"array (shape {tuple(interface['shape'])}, type {interface['typestr']})"
    return type(image).__name__


def file_name(file: Any) -> str | None:
    """Return the name of a file object: an upload's `filename`, or `name`; None if it has neither."""
    for attribute in ("filename", "name"):
        name = getattr(file, attribute, None)
        if isinstance(name, (str, bytes, os.PathLike)) and name:
            return format_path(os.fspath(cast("str", name)))
    return None
