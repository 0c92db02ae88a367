"""What items are called, so that a later run knows them again."""

from __future__ import annotations

import math
import numbers
import os
import uuid
from typing import Any, cast

import attrs

from ..errors import ConfigurationError, ImageError
from ..images.identity import content_id, name_of
from ..net.threads import beside
from .items import Item, read_item


async def named(index: int, raw: Any) -> Item:
    """The item with an id that is the same in every run: as given, else path or URL, else by its content."""
    try:
        item = read_item(index, raw)
        if isinstance(raw, tuple) and item.id is not None:
            return attrs.evolve(item, id=_checked(item.id))
    except ConfigurationError as exc:  # it will fail, and be written as failed
        return Item(index, f"#{index}", None, {}, exc)
    name = name_of(item.image)
    if name is not None:
        return attrs.evolve(item, id=name)
    try:
        by_content, image = await beside(content_id, item.image)
    except ImageError:  # it will fail, too
        return attrs.evolve(item, id=f"#{item.index}")
    return attrs.evolve(item, id=by_content, image=image)


def _checked(id: Any) -> str | float:
    if isinstance(id, os.PathLike):
        return os.fsdecode(cast("os.PathLike[str]", id))
    if isinstance(id, uuid.UUID):
        return str(id)
    if isinstance(id, str):
        return id
    if isinstance(id, numbers.Real) and not isinstance(id, bool) and math.isfinite(id):  # NumPy's, too
        return int(id) if isinstance(id, numbers.Integral) else float(id)
    raise ConfigurationError(f"The id of an item must be a text or a number, not {id!r}.")
