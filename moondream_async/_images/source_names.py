"""Say which image an error is about."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Generator
from typing import Any, cast
from urllib.parse import urlsplit

import attrs

from ..errors import ImageError, MoondreamError

_MAX_NAME = 200  # characters of a name that are shown
_NAMELESS = ("bytes (", "data: URI (", "text (", "PIL image (", "array (", "file object (")
_MAX_PATH = 4096  # characters; a longer text is data


@attrs.frozen(eq=False)
class NamedBytes:
    """The bytes of an image that were read from elsewhere, and the name of where that was."""

    data: bytes = attrs.field(repr=False)
    name: str


@contextlib.contextmanager
def name_errors(image: object) -> Generator[None]:
    """Add the image's name to every `ImageError` that does not have one yet."""
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
    """Return the error with the name in its message, unless the message has it already."""
    message = error.message
    if instead_of is not None:
        message = message.replace(f"[{instead_of}]", f"[{name}]")
    elif name not in message:
        message = f"{message.removesuffix('.')} [{name}]."
    named = copy.copy(error)
    named.message, named.args, named.image = message, (message,), name
    return named


def with_item(error: MoondreamError, item: object) -> MoondreamError:
    """Return the error with the id of its item, if it is about an image that has no name of its own."""
    if not isinstance(error, ImageError) or error.image is None or not error.image.startswith(_NAMELESS):
        return error
    return with_name(error, f"item {shown_path(str(item))}, {error.image}", instead_of=error.image)


def source_name(image: object) -> str:
    """Describe where an image comes from: its path, URL or file name, or its kind and size."""
    if isinstance(image, NamedBytes):
        return image.name
    if isinstance(image, str):
        return _name_of_text(image)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return f"bytes ({memoryview(cast('bytes', image)).nbytes:,} bytes)"
    try:
        return _name_of_object(image)
    except Exception:  # the user's own object may raise whatever it likes
        return type(image).__name__


def is_data_uri(text: str) -> bool:
    """Whether a text is a `data:` URI; blanks before it do not count."""
    return text[:256].lstrip()[:5].lower() == "data:"


def shown_path(name: str | bytes) -> str:
    """Return a path as an error shows it: not too long, and printable whatever it holds."""
    text = os.fsdecode(name).encode("utf-8", "backslashreplace").decode()
    text = text if len(text) <= _MAX_NAME else text[:80] + "…"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def shown_url(url: str) -> str:
    """Return a URL without what may be secret: user, password, query and fragment."""
    try:
        parts = urlsplit(url.strip())
    except ValueError:
        return url.strip()[:8].partition(":")[0] + " URL"
    return shown_path(f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}")


def _name_of_text(text: str) -> str:
    if is_data_uri(text):
        return f"data: URI ({len(text):,} characters)"
    if len(text) > _MAX_PATH:
        return f"text ({len(text):,} characters)"
    return shown_url(text) if "://" in text and not text.lower().startswith("file:") else shown_path(text)


def _name_of_object(image: Any) -> str:
    if isinstance(image, os.PathLike):
        return shown_path(os.fspath(cast("os.PathLike[str]", image)))
    if hasattr(image, "mode") and hasattr(image, "size") and hasattr(image, "getbbox"):
        kind = f"PIL image ({image.mode}, {image.size[0]} x {image.size[1]})"
        opened = getattr(image, "filename", None)
        return f"{shown_path(opened)}, {kind}" if isinstance(opened, (str, bytes)) and opened else kind
    if hasattr(image, "read"):
        return file_name(image) or f"file object ({type(image).__name__})"
    interface = getattr(image, "__array_interface__", None)
    if interface is not None:
        return f"array (shape {tuple(interface['shape'])}, type {interface['typestr']})"
    return type(image).__name__


def file_name(file: Any) -> str | None:
    """Return the name of a file object: `name`, or an upload's `filename`; None if it has none."""
    for attribute in ("filename", "name"):
        name = getattr(file, attribute, None)
        if isinstance(name, (str, bytes, os.PathLike)) and name:
            return shown_path(os.fspath(cast("str", name)))
    return None
