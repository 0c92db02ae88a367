"""Load any image a user passes, as bytes or as a Pillow image; blocking, for a worker thread."""

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
from .limits import MAX_FILE_SIZE
from .source_names import MAX_PATH_LENGTH, NamedBytes, format_path, is_data_uri, redact_url

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

_OTHER_URL = re.compile(r"\s*(file:/|[a-z][a-z0-9+.-]+://)", re.IGNORECASE)

_ASYNC_FILE = (
    "The file object is async and cannot be read without an event loop: pass the bytes of `await file.read()`."
)


class AsyncFileError(ImageError):
    """Raised if a file's `read()` returns an awaitable, so that it must be read in the event loop."""


def is_url(image: object) -> bool:
    """Return whether an image is an http(s) URL, which must be fetched before it can be loaded."""
    return isinstance(image, str) and image[:256].lstrip().lower().startswith(("http://", "https://"))


def load(image: object) -> bytes | Image:
    """Load an image: return the bytes of its file, or the image itself if it is a Pillow image.

    Raises:
        ImageError: The image cannot be read, or is of an unsupported type.
    """
    if isinstance(image, NamedBytes):
        return _from_bytes(image.data)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _from_bytes(bytes(cast("bytes", image)))
    if isinstance(image, str):
        return _from_text(image)
    if isinstance(image, os.PathLike):
        return _from_path(_call_user_code("path", lambda: os.fspath(cast("os.PathLike[str]", image))))
    if is_pillow(image):
        return _read_undecoded(image) or cast("Image", image)
    if hasattr(image, "read"):
        return _from_file(cast("BinaryIO", image))
    if arrays.is_array(image):
        return cast("Image", _call_user_code("array", lambda: arrays.to_image(image)))
    raise ImageError(
        "image must be a path, an http(s) URL, bytes, a binary file, a PIL image, an array, a data: URI, base64 "
        f"or an EncodedImage, not {type(image).__name__}."
    )


def is_pillow(image: object) -> bool:
    """Return whether an image is a PIL image. The class is compared by name, which does not import Pillow."""
    return any(base.__module__ == "PIL.Image" and base.__name__ == "Image" for base in type(image).__mro__)


def _read_undecoded(image: Any) -> bytes | None:
    """Read the file of a JPEG or PNG that Pillow opened but has not decoded yet; return None for other images.

    A JPEG can be decoded from its file in half the time, and suitable files are sent unchanged.
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
    """Return the image's bytes, decoding a `data:` URI or base64 passed as bytes."""
    if data and formats.detect_format(data) is None and data.isascii():
        text = data.decode("ascii")
        if is_data_uri(text):
            return _check_not_empty(from_data_uri(text), "The data: URI")
        return from_base64(text) or data
    return _check_not_empty(data, "The image")


def _from_text(text: str) -> bytes:
    if len(text) > 2 * MAX_FILE_SIZE:
        raise ImageError(f"A text of {len(text):,} characters is too long to be an image.")
    if is_data_uri(text):
        return _check_not_empty(from_data_uri(text), "The data: URI")
    data = _read_path(text) if len(text) <= MAX_PATH_LENGTH else None
    if data is None and len(text) <= MAX_PATH_LENGTH and _OTHER_URL.match(text):
        return _from_other_url(text.strip())
    if data is None:
        data = from_base64(text)
    if data is None:
        raise ImageError(f"There is no file {format_path(text)!r}, and it is not the base64 of an image either.")
    return data


def _from_other_url(url: str) -> bytes:
    """Read a `file://` URL, and refuse other schemes."""
    if url[:5].lower() != "file:":
        scheme = url.partition(":")[0].lower()
        raise ImageError(
            f"{redact_url(url)} cannot be read: {scheme}:// is not supported; download it yourself and pass the bytes, "
            "or pass an http(s) URL or a path."
        )
    parts = urlsplit(url)
    if parts.netloc.lower() not in ("", "localhost"):
        raise ImageError(f"{format_path(url)} names another machine; write file:/// followed by the full path.")
    data = _read_path(_url_to_path(parts.path))
    if data is None:  # a URL that was not built properly may contain unescaped spaces, # and %
        data = _read_path(re.sub(r"(?i)^file:(//(localhost)?(?=/))?", "", url))
    if data is None:
        raise ImageError(f"There is no file {format_path(url)!r}.")
    return data


def _url_to_path(quoted: str) -> str:
    return url2pathname(quoted) if os.name == "nt" else unquote(quoted, errors="surrogateescape")


def _from_path(name: str | bytes) -> bytes:
    data = _read_path(name)
    if data is None:
        raise ImageError(f"There is no file {format_path(name)!r}.")
    return data


def _read_path(name: str | bytes) -> bytes | None:
    """Return the bytes of a file, or None if it does not exist; `~` is expanded if there is no file of that name."""
    data = _read_exact_path(name)
    expanded = os.path.expanduser(name)  # noqa: PTH111 - the name may be bytes
    return _read_exact_path(expanded) if data is None and expanded != name else data


def _read_exact_path(name: str | bytes) -> bytes | None:
    try:
        # Check and read through the same descriptor. Opening does not block on a pipe without a writer.
        descriptor = os.open(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, descriptor)
            _check_file(os.fstat(descriptor), format_path(name))
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(MAX_FILE_SIZE + 1)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as exc:
        if exc.errno == errno.ENAMETOOLONG:
            return None
        problem = exc.strerror or str(exc)
    except ImageError:
        raise
    except ValueError as exc:  # a null character in the name, or one that the file system cannot encode
        problem = str(exc)
    else:
        return _check_not_empty(data, repr(format_path(name)))
    raise ImageError(f"{format_path(name)!r} cannot be read: {problem}.")


def _check_file(status: os.stat_result, name: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{name!r} is a directory; pass the path of an image file.")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{name!r} is not a regular file.")
    if status.st_size > MAX_FILE_SIZE:
        raise ImageError(f"{name!r} is too large: {status.st_size:,} bytes; at most {MAX_FILE_SIZE:,} are supported.")


def _from_file(file: BinaryIO) -> bytes:
    if inspect.iscoroutinefunction(file.read):
        raise AsyncFileError(_ASYNC_FILE)
    data = _call_user_code("file object", lambda: _read(file))
    if not isinstance(data, bytes):
        raise ImageError("The file object returns text; open the image in binary mode ('rb').")
    if len(data) > MAX_FILE_SIZE:
        raise ImageError(f"The file object is too large: more than {MAX_FILE_SIZE:,} bytes.")
    return _check_not_empty(data, "The file object")


def _read(file: BinaryIO) -> object:
    """Read a file from start to end, even if each read returns only a part."""
    if _check_not_awaitable(getattr(file, "seekable", lambda: False)()):
        _check_not_awaitable(file.seek(0))
    chunks: list[bytes] = []
    left = MAX_FILE_SIZE + 1
    while left > 0:
        chunk = _check_not_awaitable(file.read(left))
        if not isinstance(chunk, (bytes, bytearray)):
            return chunk
        if not chunk:
            break
        chunks.append(bytes(chunk))
        left -= len(chunk)
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _check_not_awaitable(result: object) -> object:
    """Return the result of a file's method.

    Raises:
        AsyncFileError: The result must be awaited.
    """
    if not inspect.isawaitable(result):
        return result
    if inspect.iscoroutine(result):
        result.close()  # avoids the warning that it was never awaited
    raise AsyncFileError(_ASYNC_FILE)


def _call_user_code(what: str, call: Callable[[], T]) -> T:
    """Call code that a user passed, and raise any exception as an `ImageError`."""
    try:
        return call()
    except ImageError:
        raise
    except Exception as exc:
        problem = str(exc) or type(exc).__name__
    raise ImageError(f"The {what} cannot be read: {problem}.")


def _check_not_empty(data: bytes, what: str) -> bytes:
    if not data:
        raise ImageError(f"{what} is empty (0 bytes).")
    return data
