"""What items are called, so that a later run knows them again."""

from __future__ import annotations

import math
import numbers
import os
import uuid
from collections.abc import Sequence
from typing import Any, cast

import attrs

from .._concurrency.threads import run_in_thread
from .._images.async_files import is_async_file
from .._images.encoder import read_file
from .._images.fingerprint import content_id, name_of
from ..errors import ConfigurationError, ImageError
from .items import Item, read_item


async def named(index: int, raw: Any) -> Item:
    """The item with an id that is the same in every run: as given, else path or URL, else by its content."""
    try:
        item = read_item(index, raw)
        if isinstance(raw, tuple) and item.id is not None:
            return attrs.evolve(item, id=_checked(item.id))
    except ConfigurationError as exc:  # it will fail, and be written as failed
        return Item(index, f"#{index}", None, {}, exc)
    try:
        image: Any = item.image
        if isinstance(image, (list, tuple)):  # several that belong together
            each = [await _name_and_image(one) for one in cast("Sequence[Any]", image)]
            return attrs.evolve(item, id=", ".join(name for name, _ in each), image=[one for _, one in each])
        name, image = await _name_and_image(image)
    except ImageError:  # it will fail, too
        return attrs.evolve(item, id=f"#{item.index}")
    return attrs.evolve(item, id=name, image=image)


async def _name_and_image(image: Any) -> tuple[str, Any]:
    name = name_of(image)
    if name is not None:
        return name, image
    return await run_in_thread(content_id, await read_file(image) if is_async_file(image) else image)


def _checked(id: Any) -> str | float:
    if isinstance(id, os.PathLike):
        return os.fsdecode(cast("os.PathLike[str]", id))
    if isinstance(id, uuid.UUID):
        return str(id)
    if isinstance(id, str):
        return id
    if isinstance(id, numbers.Real) and not isinstance(id, bool):
        try:
            if math.isfinite(float(id)):
                return int(id) if isinstance(id, numbers.Integral) else float(id)  # NumPy's, too
        except OverflowError:
            raise ConfigurationError("The id of an item must be a number that a double holds, or a text.") from None
    raise ConfigurationError(f"The id of an item must be a text or a number, not {id!r}.")
