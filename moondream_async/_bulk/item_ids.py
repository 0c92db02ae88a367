"""Item ids that stay the same between runs."""

from __future__ import annotations

import math
import numbers
import os
import uuid
from typing import Any, cast

import attrs

from .._concurrency.threads import run_in_thread
from .._images.async_files import is_async_file
from .._images.encoder import read_file
from .._images.fingerprint import content_id, name_of
from .._wire.checks import is_sequence
from ..errors import ConfigurationError, ImageError
from .items import Item, read_item


async def identify(index: int, raw: Any) -> Item:
    """Return the item with a stable id: its own id, else its path or URL, else a hash of its content."""
    try:
        item = read_item(index, raw)
        if isinstance(raw, tuple) and item.id is not None:
            return attrs.evolve(item, id=_normalize_id(item.id))
    except ConfigurationError as exc:  # recorded as a failed item
        return Item(index, f"#{index}", None, {}, exc)
    try:
        image: Any = item.image
        if is_sequence(image):  # a group of images
            pairs = [await _name_and_image(each) for each in image]
            return attrs.evolve(item, id=", ".join(name for name, _ in pairs), image=[each for _, each in pairs])
        name, image = await _name_and_image(image)
    except ImageError:  # processing it raises the same error
        return attrs.evolve(item, id=f"#{item.index}")
    return attrs.evolve(item, id=name, image=image)


async def _name_and_image(image: Any) -> tuple[str, Any]:
    name = name_of(image)
    if name is not None:
        return name, image
    return await run_in_thread(content_id, await read_file(image) if is_async_file(image) else image)


def _normalize_id(id: Any) -> str | float:
    if isinstance(id, os.PathLike):
        return os.fsdecode(cast("os.PathLike[str]", id))
    if isinstance(id, uuid.UUID):
        return str(id)
    if isinstance(id, str):
        return id
    if isinstance(id, numbers.Real) and not isinstance(id, bool):
        try:
            if math.isfinite(float(id)):
                return int(id) if isinstance(id, numbers.Integral) else float(id)  # including NumPy's
        except OverflowError:
            raise ConfigurationError(
                "An item's id must be a string, or a number within the range of a float."
            ) from None
    raise ConfigurationError(f"An item's id must be a string or a finite number, not {id!r}.")
