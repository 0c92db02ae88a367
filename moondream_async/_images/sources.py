"""From what the user has to bytes or a Pillow image; blocking, to be called in a worker thread."""

from __future__ import annotations

import contextlib
import errno
import inspect
import os
import re
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

from ..errors import ImageError
from . import arrays, formats
from .data_uris import from_base64, from_data_uri
from .source_names import NamedBytes, is_data_uri, shown_path, shown_url

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

LARGEST_FILE = 256 * 1024 * 1024
"""Bytes; a larger file is refused unread."""

_LONGEST_PATH = 4096  # characters; what is longer can only be base64
_OTHER_URL = re.compile(r"\s*(file:/|[a-z][a-z0-9+.-]+://)", re.IGNORECASE)

_ASYNC_FILE = "The file object is async, and is read here without an event loop: pass what `await file.read()` gives."


class AsyncFileError(ImageError):
    """The file's `read()` gives a coroutine, so that only the event loop can read it."""


def is_url(image: object) -> bool:
    """Whether it is an http(s) URL, which has to be fetched before it can be loaded."""
    return isinstance(image, str) and image[:256].lstrip().lower().startswith(("http://", "https://"))


def load(image: object) -> bytes | Image:
    """Read the user's image: its file's bytes, or the Pillow image it is.

    Raises:
        ImageError: It cannot be read, or is not a kind of image that is understood.
    """
    if isinstance(image, NamedBytes):
        return _from_bytes(image.data)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _from_bytes(bytes(cast("bytes", image)))
    if isinstance(image, str):
        return _from_text(image)
    if isinstance(image, os.PathLike):
        return _from_path(_user_code("path", lambda: os.fspath(cast("os.PathLike[str]", image))))
    if is_pillow(image):
        return _unread_file(image) or cast("Image", image)
    if hasattr(image, "read"):
        return _from_file(cast("BinaryIO", image))
    if arrays.is_array(image):
        return cast("Image", _user_code("array", lambda: arrays.to_image(image)))
    raise ImageError(
        "image must be a path, an http(s) URL, bytes, a binary file, a PIL image, an array, a data: URI, base64 "
        f"or an EncodedImage, not {type(image).__name__}."
    )


def is_pillow(image: object) -> bool:
    """Whether it is a PIL image: asked by name, so that callers who pass a path do not pay for the import here."""
    return any(base.__module__ == "PIL.Image" and base.__name__ == "Image" for base in type(image).__mro__)


def _unread_file(image: Any) -> bytes | None:
    """The file behind a JPEG or PNG that Pillow opened and has not decoded yet; None for all other images.

    From its file a JPEG decodes in half the time, and right bytes pass through as they are.
    """
    file = getattr(image, "fp", None)
    if file is None or not getattr(image, "tile", None) or image.format not in ("JPEG", "PNG"):
        return None
    if getattr(image, "is_animated", False):
        return None
    try:
        at = file.tell()
        try:
            data = _read(file)
        finally:
            file.seek(at)
    except (OSError, ValueError, AttributeError):
        return None
    return data if isinstance(data, bytes) and data else None


def _from_bytes(data: bytes) -> bytes:
    """The image's bytes; `data:` URIs and base64 are understood as bytes, too."""
    if data and formats.kind_of(data) is None and data.isascii():
        text = data.decode("ascii")
        if is_data_uri(text):
            return _not_empty(from_data_uri(text), "The data: URI")
        return from_base64(text) or data
    return _not_empty(data, "The image")


def _from_text(text: str) -> bytes:
    if len(text) > 2 * LARGEST_FILE:
        raise ImageError(f"A text of {len(text):,} characters is too long to be an image.")
    if is_data_uri(text):
        return _not_empty(from_data_uri(text), "The data: URI")
    data = _read_path(text) if len(text) <= _LONGEST_PATH else None
    if data is None and len(text) <= _LONGEST_PATH and _OTHER_URL.match(text):
        return _from_other_url(text.strip())
    if data is None:
        data = from_base64(text)
    if data is None:
        raise ImageError(f"There is no file {shown_path(text)!r}, and it is not the base64 of an image either.")
    return data


def _from_other_url(url: str) -> bytes:
    """Read a `file://` URL; other schemes are not read here."""
    if url[:5].lower() != "file:":
        scheme = url.partition(":")[0].lower()
        raise ImageError(
            f"{shown_url(url)} cannot be read: {scheme}:// is not fetched here; fetch it yourself and pass the bytes, "
            "or give an http(s) URL or a path."
        )
    parts = urlsplit(url)
    if parts.netloc.lower() not in ("", "localhost"):
        raise ImageError(f"{shown_path(url)} names another machine; write file:///, and the whole path after it.")
    data = _read_path(_path_of(parts.path))
    if data is None:  # what was pasted together may hold spaces, # and % as they are
        data = _read_path(re.sub(r"(?i)^file:(//(localhost)?(?=/))?", "", url))
    if data is None:
        raise ImageError(f"There is no file {shown_path(url)!r}.")
    return data


def _path_of(quoted: str) -> str:
    return url2pathname(quoted) if os.name == "nt" else unquote(quoted, errors="surrogateescape")


def _from_path(name: str | bytes) -> bytes:
    data = _read_path(name)
    if data is None:
        raise ImageError(f"There is no file {shown_path(name)!r}.")
    return data


def _read_path(name: str | bytes) -> bytes | None:
    """The bytes of a file; None if there is none of this name."""
    found = _read_exact_path(name)
    expanded = os.path.expanduser(name)  # noqa: PTH111 - a name, which may be bytes
    return _read_exact_path(expanded) if found is None and expanded != name else found


def _read_exact_path(name: str | bytes) -> bytes | None:
    try:
        # One descriptor: what is checked is what is read. It does not wait for a pipe that nobody writes to.
        descriptor = os.open(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, descriptor)
            _check_file(os.fstat(descriptor), shown_path(name))
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(LARGEST_FILE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        if exc.errno == errno.ENAMETOOLONG:
            return None
        problem = exc.strerror or str(exc)
    except ImageError:
        raise
    except ValueError as exc:  # a NUL in the name, or what no file system can encode
        problem = str(exc)
    else:
        return _not_empty(data, repr(shown_path(name)))
    raise ImageError(f"{shown_path(name)!r} cannot be read: {problem}.")


def _check_file(status: os.stat_result, shown: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{shown!r} is a directory; give the path of one image file.")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{shown!r} is not a regular file.")
    if status.st_size > LARGEST_FILE:
        raise ImageError(f"{shown!r} has {status.st_size:,} bytes; at most {LARGEST_FILE:,} are read.")


def _from_file(file: BinaryIO) -> bytes:
    if inspect.iscoroutinefunction(file.read):
        raise AsyncFileError(_ASYNC_FILE)
    data = _user_code("file object", lambda: _read(file))
    if not isinstance(data, bytes):
        raise ImageError("The file object gives text; open the image in binary mode ('rb').")
    if len(data) > LARGEST_FILE:
        raise ImageError(f"The file object holds more than {LARGEST_FILE:,} bytes.")
    return _not_empty(data, "The file object")


def _read(file: BinaryIO) -> object:
    """Read from the start to the end, however little each read gives."""
    if _not_awaitable(getattr(file, "seekable", lambda: False)()):
        _not_awaitable(file.seek(0))
    pieces: list[bytes] = []
    left = LARGEST_FILE + 1
    while left > 0:
        piece = _not_awaitable(file.read(left))
        if not isinstance(piece, (bytes, bytearray)):
            return piece
        if not piece:
            break
        pieces.append(bytes(piece))
        left -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _not_awaitable(result: object) -> object:
    """Return what a method of a file gave, unless it is to be awaited."""
    if not inspect.isawaitable(result):
        return result
    if inspect.iscoroutine(result):
        result.close()  # or it would warn that nobody awaited it
    raise AsyncFileError(_ASYNC_FILE)


def _user_code(what: str, call: Callable[[], T]) -> T:
    """Call what the user brought along; whatever it raises is an `ImageError`."""
    try:
        return call()
    except ImageError:
        raise
    except Exception as exc:
        problem = str(exc) or type(exc).__name__
    raise ImageError(f"The {what} cannot be read: {problem}.")


def _not_empty(data: bytes, what: str) -> bytes:
    if not data:
        raise ImageError(f"{what} is empty (0 bytes).")
    return data
