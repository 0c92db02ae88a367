"""Read pages of a list, each with the cursor of the next (pure)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from .responses import InvalidResponse, each_of, object_of, optional_text

T = TypeVar("T")


def page(data: Any, name: str, read: Callable[[Any], T]) -> tuple[list[T], str | None]:
    """Read a page: its entries, and the cursor of the next page (None: this is the last)."""
    fields = object_of(data)
    cursor = optional_text(fields, "next_cursor")
    if fields.get("has_more") and not cursor:
        raise InvalidResponse("it has more pages, but no 'next_cursor'")
    return list(each_of(fields, name, read)), cursor if cursor and fields.get("has_more", True) else None
