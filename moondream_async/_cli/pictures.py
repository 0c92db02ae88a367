"""What was found, drawn on the image: written to a file, or shown."""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._bulk.journal import aside_of
from ..errors import ConfigurationError
from ..types import Result
from ..vision import annotate

if TYPE_CHECKING:
    from PIL.Image import Image

# What Pillow's writers raise for pictures that a format cannot hold.
_CANNOT_BE_WRITTEN = (OSError, ValueError, KeyError, TypeError, OverflowError, struct.error)


def check_name(name: str) -> None:
    """Check, before anything is paid for, that a picture can be written there.

    Raises:
        ConfigurationError: It cannot.
    """
    from PIL import Image

    problem = _problem_of(Path(name))
    if problem is None:
        try:
            _encoded(Image.new("RGB", (8, 8)), name)
        except _CANNOT_BE_WRITTEN:
            problem = f"no such kind of picture as {Path(name).suffix!r}"
    if problem is not None:
        raise _unwritable(name, problem)


def draw(image: Any, result: Result, labels: Sequence[str], *, save: str | None, show: bool) -> None:
    """Draw, then save and show as asked.

    Raises:
        ConfigurationError: The picture cannot be written.
        MoondreamError: As in `annotate`.
    """
    picture = annotate(image, result, label=labels[0] if len(labels) == 1 else None)
    if save is not None:
        write(picture, save)
    if show:
        try:
            picture.show()
        except OSError as exc:
            problem = exc.strerror or str(exc)
        else:
            return
        raise ConfigurationError(f"The picture cannot be shown: {problem}.")


def write(picture: Image, name: str) -> None:
    """Write a picture to a file, whole or not at all.

    Raises:
        ConfigurationError: It cannot be written.
    """
    try:
        data = _encoded(picture, name)
        target = Path(os.path.realpath(name))  # what a link points to is written, not the link
        if target.exists() and not target.is_file():
            target.write_bytes(data)  # a device such as /dev/stdout
            return
        with aside_of(target) as unfinished:
            unfinished.write_bytes(data)
            unfinished.replace(target)
    except _CANNOT_BE_WRITTEN as exc:
        problem = (exc.strerror if isinstance(exc, OSError) else None) or str(exc)
    else:
        return
    raise _unwritable(name, problem)


def _problem_of(path: Path) -> str | None:
    try:
        if path.is_dir():
            return "it is a folder"
        if not path.parent.is_dir():
            return "there is no such folder"
        is_writable = os.access(path, os.W_OK) if path.exists() else os.access(path.parent, os.W_OK)
    except (OSError, ValueError) as exc:
        return str(exc)
    return None if is_writable else "permission denied"


def _encoded(picture: Image, name: str) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    picture.save(file, Image.registered_extensions()[Path(name).suffix.lower()])
    return file.getvalue()


def _unwritable(name: str, problem: str) -> ConfigurationError:
    return ConfigurationError(f"The picture cannot be written to {name}: {problem}.")
