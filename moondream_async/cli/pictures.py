"""What was found, drawn on the image: written to a file, or shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError
from ..types import Result
from ..vision import annotate


def check_name(name: str) -> None:
    """Before anything is paid for: whether a picture can be written there.

    Raises:
        ConfigurationError: It cannot.
    """
    from PIL import Image

    path = Path(name)
    if path.suffix.lower() not in Image.registered_extensions() or not path.parent.is_dir():
        raise ConfigurationError(
            f"The picture cannot be written to {name}: no such kind of picture, or no such folder."
        )


def draw(image: Any, result: Result, labels: Sequence[str], *, save: str | None, show: bool) -> None:
    """Draw, then save and show as asked.

    Raises:
        ConfigurationError: The picture cannot be written.
        MoondreamError: As in `annotate`.
    """
    picture = annotate(image, result, label=labels[0] if len(labels) == 1 else None)
    if save is not None:
        try:
            picture.save(save)
        except (OSError, ValueError) as exc:
            raise ConfigurationError(f"The picture cannot be written to {save}: {exc}.") from None
    if show:
        picture.show()
