"""Annotated images: draw results, then save or show the image."""

from __future__ import annotations

import io
import os
import struct
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from .._bulk.atomic_files import replace_file
from .._bulk.reading import describe
from .._images.source_names import MAX_PATH_LENGTH
from ..errors import ConfigurationError
from ..types import Result
from ..vision import annotate
from .console import show_note
from .inline_images import show_inline

if TYPE_CHECKING:
    from PIL.Image import Image

# Raised by Pillow's writers for images that a format does not support.
_WRITE_ERRORS = (OSError, ValueError, KeyError, TypeError, OverflowError, struct.error)
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp")


def check_name(name: str) -> None:
    """Check that an image can be written there, before anything is paid for.

    Raises:
        ConfigurationError: It cannot.
    """
    from PIL import Image

    problem = _find_problem(Path(name))
    if problem is None:
        try:
            _encode(Image.new("RGB", (8, 8)), name)
        except _WRITE_ERRORS:
            problem = f"unsupported image format {Path(name).suffix!r}"
    if problem is not None:
        raise _unwritable(name, problem)


def check_folder(name: str) -> None:
    """Check that images can be written to a folder, and create it if needed.

    Raises:
        ConfigurationError: They cannot.
    """
    path = Path(name)
    try:
        if path.suffix.lower() in _SUFFIXES and not path.is_dir():
            raise ConfigurationError(f"With several images, --save is a folder, and {name!r} looks like a file.")
        path.mkdir(exist_ok=True)
        if not os.access(path, os.W_OK):
            raise ConfigurationError(f"Images cannot be written to {name!r}: permission denied.")
    except OSError as exc:
        raise ConfigurationError(f"The folder {name!r} cannot be created: {exc.strerror or exc}.") from None


def names_in(folder: str, images: Sequence[str]) -> list[str]:
    """Return a different name in a folder for each image, with the image's own suffix where that can be written."""
    names: list[str] = []
    for number, image in enumerate(images, 1):
        path = Path(urlsplit(image).path if "://" in image else image if len(image) <= MAX_PATH_LENGTH else "")
        suffix = path.suffix if path.suffix.lower() in _SUFFIXES else ".png"
        stem = path.stem.strip("-") or f"image-{number}"
        name = str(Path(folder, stem + suffix))
        names.append(name if name not in names else str(Path(folder, f"{stem}-{number}{suffix}")))
    return names


def draw(
    image: Any, result: Result, labels: Sequence[str], *, save: str | None, show: bool, inline: bool = False
) -> None:
    """Draw the result on the image, then save it, show it in a viewer, or draw it inline in the terminal.

    Raises:
        ConfigurationError: The image cannot be written.
        MoondreamError: As in `annotate`.
    """
    picture = annotate(image, result, label=labels[0] if len(labels) == 1 else None)
    if save is not None:
        write(picture, save)
    if inline:
        show_inline(picture)
    if show:
        _show(picture)


def _show(picture: Image) -> None:
    """Open an image in the system's viewer; without one, save it and print where."""
    try:
        if _has_viewer():
            picture.show()
            return
        with tempfile.NamedTemporaryFile(prefix="moondream-", suffix=".png", delete=False) as file:
            picture.save(file)
    except OSError as exc:
        raise ConfigurationError(f"The image cannot be shown: {exc.strerror or exc}.") from None
    show_note(f"There is no image viewer here; the image is in {file.name}")


def _has_viewer() -> bool:
    return sys.platform in ("darwin", "win32") or bool(os.getenv("DISPLAY") or os.getenv("WAYLAND_DISPLAY"))


def write(picture: Image, name: str) -> None:
    """Write an image to a file atomically.

    Raises:
        ConfigurationError: It cannot be written.
    """
    try:
        data = _encode(picture, name)
        target = Path(os.path.realpath(name))  # write the target of a link, not the link
        if target.exists() and not target.is_file():
            target.write_bytes(data)  # a device such as /dev/stdout
            return
        with replace_file(target) as temporary:
            temporary.write_bytes(data)
    except _WRITE_ERRORS as exc:
        raise _unwritable(name, describe(exc)) from None


def _find_problem(path: Path) -> str | None:
    try:
        if path.is_dir():
            return "it is a folder"
        if not path.parent.is_dir():
            return "the folder does not exist"
        is_writable = os.access(path, os.W_OK) if path.exists() else os.access(path.parent, os.W_OK)
    except (OSError, ValueError) as exc:
        return str(exc)
    return None if is_writable else "permission denied"


def _encode(picture: Image, name: str) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    picture.save(file, Image.registered_extensions()[Path(name).suffix.lower()])
    return file.getvalue()


def _unwritable(name: str, problem: str) -> ConfigurationError:
    return ConfigurationError(f"The image cannot be written to {name}: {problem}.")
