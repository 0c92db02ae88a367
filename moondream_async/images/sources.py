"""From what the user has to bytes or a Pillow image; blocking, to be called in a worker thread."""

from __future__ import annotations

import base64
import binascii
import contextlib
import errno
import os
import stat
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast
from urllib.parse import unquote_to_bytes

from ..errors import ImageError
from . import arrays, kinds

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

LARGEST_FILE = 256 * 1024 * 1024
"""Bytes; a larger file is refused unread."""

_LONGEST_HEAD = 1024  # characters of a data: URI before its comma
_LARGEST_QUOTED = 8 * 1024 * 1024  # characters of a data: URI in percents, which are read slowly
_LONGEST_PATH = 4096  # characters; what is longer can only be base64
_SHORTEST_BASE64 = 32  # characters; no image is smaller
_URL_SAFE = str.maketrans("-_", "+/")


def is_url(image: object) -> bool:
    """Whether it is an http(s) URL, which has to be fetched before it can be loaded."""
    return isinstance(image, str) and image[:256].lstrip().lower().startswith(("http://", "https://"))


def load(image: object) -> bytes | Image:
    """Read the user's image: its file's bytes, or the Pillow image it is.

    Raises:
        ImageError: It cannot be read, or is not a kind of image that is understood.
    """
    if isinstance(image, (bytes, bytearray, memoryview)):
        return _not_empty(bytes(cast("bytes", image)), "The image")
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


def _from_text(text: str) -> bytes:
    if len(text) > 2 * LARGEST_FILE:
        raise ImageError(f"A text of {len(text):,} characters is too long to be an image.")
    if text[:5].lower() == "data:":
        return _from_data_uri(text)
    data = _read_path(text) if len(text) <= _LONGEST_PATH else None
    if data is None:
        data = from_base64(text)
    if data is None:
        raise ImageError(f"There is no file {_shown(text)!r}, and it is not the base64 of an image either.")
    return data


def from_base64(text: str) -> bytes | None:
    """The image that bare base64 holds; None if it is something else."""
    start = _decoded("".join(text[:_LONGEST_HEAD].split())[:64])
    if len(text) < _SHORTEST_BASE64 or start is None or kinds.kind_of(start) is None:
        return None
    return _decoded("".join(text.split()))


def _decoded(text: str) -> bytes | None:
    packed = text.rstrip("=").translate(_URL_SAFE)
    try:
        return base64.b64decode(packed + "=" * (-len(packed) % 4), validate=True)
    except (binascii.Error, ValueError):
        return None


def _from_data_uri(uri: str) -> bytes:
    head, comma, _ = uri[:_LONGEST_HEAD].partition(",")
    if not comma:
        raise ImageError("The data: URI has no comma before its data.")
    payload = uri[len(head) + 1 :]
    if ";base64" not in head.lower():
        if len(payload) > _LARGEST_QUOTED:
            raise ImageError("The data: URI is too large for percent encoding; use ;base64.")
        return _not_empty(unquote_to_bytes(payload), "The data: URI")
    try:
        return _not_empty(base64.b64decode("".join(payload.split()), validate=True), "The data: URI")
    except (binascii.Error, ValueError) as exc:
        raise ImageError(f"The data: URI holds damaged base64: {exc}.") from None


def _from_path(name: str | bytes) -> bytes:
    data = _read_path(name)
    if data is None:
        raise ImageError(f"There is no file {_shown(name)!r}.")
    return data


def _read_path(name: str | bytes) -> bytes | None:
    """The bytes of a file; None if there is none of this name."""
    try:
        # One descriptor: what is checked is what is read. It does not wait for a pipe that nobody writes to.
        descriptor = os.open(name, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with contextlib.ExitStack() as stack:
            stack.callback(os.close, descriptor)
            _check_file(os.fstat(descriptor), _shown(name))
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
        return _not_empty(data, repr(_shown(name)))
    raise ImageError(f"{_shown(name)!r} cannot be read: {problem}.")


def _check_file(status: os.stat_result, shown: str) -> None:
    if stat.S_ISDIR(status.st_mode):
        raise ImageError(f"{shown!r} is a directory; give the path of one image file.")
    if not stat.S_ISREG(status.st_mode):
        raise ImageError(f"{shown!r} is not a regular file.")
    if status.st_size > LARGEST_FILE:
        raise ImageError(f"{shown!r} has {status.st_size:,} bytes; at most {LARGEST_FILE:,} are read.")


def _shown(name: str | bytes) -> str:
    text = os.fsdecode(name)
    return text if len(text) <= 200 else text[:80] + "…"


def _from_file(file: BinaryIO) -> bytes:
    data = _user_code("file object", lambda: _read(file))
    if not isinstance(data, bytes):
        raise ImageError("The file object gives text; open the image in binary mode ('rb').")
    if len(data) > LARGEST_FILE:
        raise ImageError(f"The file object holds more than {LARGEST_FILE:,} bytes.")
    return _not_empty(data, "The file object")


def _read(file: BinaryIO) -> object:
    """Read from the start to the end, however little each read gives."""
    if getattr(file, "seekable", lambda: False)():
        file.seek(0)
    pieces: list[bytes] = []
    left = LARGEST_FILE + 1
    while left > 0:
        piece: object = file.read(left)
        if not isinstance(piece, (bytes, bytearray)):
            return piece
        if not piece:
            break
        pieces.append(bytes(piece))
        left -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


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
