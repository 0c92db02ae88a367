"""Lists that come in pages, each with where the next begins (pure)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from .responses import InvalidResponse, each_of, object_of, optional_text

T = TypeVar("T")


def page(data: Any, name: str, read: Callable[[Any], T]) -> tuple[list[T], str | None]:
    """Read a page: its entries, and where the next begins (None: this was the last)."""
    fields = object_of(data)
    cursor = optional_text(fields, "next_cursor")
    if fields.get("has_more") and not cursor:
        raise InvalidResponse("it has more, and no 'next_cursor'")
    return list(each_of(fields, name, read)), cursor if cursor and fields.get("has_more", True) else None
