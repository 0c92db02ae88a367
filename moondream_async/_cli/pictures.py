"""Annotated images: draw results, then save or show the image."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._bulk.atomic_files import replace_file
from .._bulk.reading import describe
from ..errors import ConfigurationError
from ..types import Result
from ..vision import annotate

if TYPE_CHECKING:
    from PIL.Image import Image

# Raised by Pillow's writers for images that a format does not support.
_WRITE_ERRORS = (OSError, ValueError, KeyError, TypeError, OverflowError, struct.error)


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


def draw(image: Any, result: Result, labels: Sequence[str], *, save: str | None, show: bool) -> None:
    """Draw the result on the image, then save or show it.

    Raises:
        ConfigurationError: The image cannot be written.
        MoondreamError: As in `annotate`.
    """
    picture = annotate(image, result, label=labels[0] if len(labels) == 1 else None)
    if save is not None:
        write(picture, save)
    if show:
        try:
            picture.show()
        except OSError as exc:
            raise ConfigurationError(f"The image cannot be shown: {exc.strerror or exc}.") from None


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
