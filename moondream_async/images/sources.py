"""From what the user has to bytes or a Pillow image; blocking, to be called in a worker thread."""

from __future__ import annotations

import base64
import binascii
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, TypeVar, cast
from urllib.parse import unquote_to_bytes

from ..errors import ImageError

if TYPE_CHECKING:
    from PIL.Image import Image

T = TypeVar("T")

LARGEST_FILE = 256 * 1024 * 1024
"""Bytes; a larger file is refused unread."""

_DATA_URI = re.compile(r"data:(?P<type>[^,;]*)(?P<options>(?:;[^,;]*)*),", re.IGNORECASE)


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
    if _is_pillow(image):
        return cast("Image", image)
    if hasattr(image, "read"):
        return _from_file(cast("BinaryIO", image))
    raise ImageError(
        "image must be a path, bytes, a binary file, a PIL image, a data: URI or an EncodedImage, "
        f"not {type(image).__name__}."
    )


def _is_pillow(image: object) -> bool:
    # Asked by name, so that callers who pass a path do not pay for the import here.
    return any(base.__module__ == "PIL.Image" and base.__name__ == "Image" for base in type(image).__mro__)


def _from_text(text: str) -> bytes:
    if text[:5].lower() == "data:":
        return _from_data_uri(text)
    if re.match(r"https?://", text, re.IGNORECASE):
        raise ImageError("Images are not fetched from URLs; download it and pass the bytes.")
    return _from_path(text)


def _from_data_uri(uri: str) -> bytes:
    match = _DATA_URI.match(uri)
    if not match:
        raise ImageError("The data: URI has no comma before its data.")
    if ";base64" not in match["options"].lower():
        return _not_empty(unquote_to_bytes(uri[match.end() :]), "The data: URI")
    payload = re.sub(r"\s+", "", uri[match.end() :])
    try:
        return _not_empty(base64.b64decode(payload, validate=True), "The data: URI")
    except (binascii.Error, ValueError) as exc:
        raise ImageError(f"The data: URI holds damaged base64: {exc}.") from None


def _from_path(name: str | bytes) -> bytes:
    shown = os.fsdecode(name)
    if len(shown) > 200:
        shown = shown[:80] + "…"
    try:
        path = Path(os.fsdecode(name))
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise ImageError(f"{shown!r} is a directory; give the path of one image file.")
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{shown!r} is not a regular file.")
        if status.st_size > LARGEST_FILE:
            raise ImageError(f"{shown!r} has {status.st_size:,} bytes; at most {LARGEST_FILE:,} are read.")
        return _not_empty(path.read_bytes(), repr(shown))
    except FileNotFoundError:
        raise ImageError(f"There is no file {shown!r}.") from None
    except (OSError, ValueError) as exc:
        if isinstance(exc, ImageError):
            raise
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise ImageError(f"{shown!r} cannot be read: {reason}.") from None


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
    whole = bytearray()
    while len(whole) <= LARGEST_FILE:
        piece: object = file.read(LARGEST_FILE + 1 - len(whole))
        if not isinstance(piece, (bytes, bytearray)):
            return piece
        if not piece:
            break
        whole += piece
    return bytes(whole)


def _user_code(what: str, call: Callable[[], T]) -> T:
    """Call what the user brought along; whatever it raises is an `ImageError`."""
    try:
        return call()
    except Exception as exc:
        problem = str(exc) or type(exc).__name__
    raise ImageError(f"The {what} cannot be read: {problem}.")


def _not_empty(data: bytes, what: str) -> bytes:
    if not data:
        raise ImageError(f"{what} is empty (0 bytes).")
    return data
