"""Lists that come in pages, each with where the next begins (pure)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol, TypeVar

from ..config import check_whole
from .errors import unreadable
from .responses import Unusable, each_of, object_of, optional_text

T = TypeVar("T")

_LARGEST_PAGE = 100


class Call(Protocol):
    """Sends a request and reads its answer."""

    async def __call__(
        self, method: str, path: str, read: Callable[[Any, Any], T], *, query: dict[str, str | int]
    ) -> T:
        """Do it."""
        ...


async def pages(call: Call, path: str, name: str, read: Callable[[Any], T], limit: int | None) -> AsyncGenerator[T]:
    """The entries of a list, page by page as they are asked for.

    Args:
        call: Sends.
        path: Of the list.
        name: The field of the answer in which the entries are.
        read: Reads one.
        limit: How many to give at most; None gives all.

    Raises:
        ConfigurationError: `limit` is no whole number of at least 1.
    """
    left = limit if limit is None else check_whole("limit", limit, least=1)
    cursor: str | None = None
    seen: set[str] = set()
    while left is None or left > 0:
        query: dict[str, str | int] = {"limit": _LARGEST_PAGE if left is None else min(_LARGEST_PAGE, left)}
        if cursor is not None:
            query["cursor"] = cursor
        found, cursor = await call("GET", path, lambda data, _: page(data, name, read), query=query)
        for entry in found[:left]:
            yield entry
        left = left if left is None else left - len(found)
        if cursor is None:
            return
        if cursor in seen:
            raise unreadable(200, None, f"{name} go round in a circle")
        seen.add(cursor)


def page(data: Any, name: str, read: Callable[[Any], T]) -> tuple[list[T], str | None]:
    """Read a page: its entries, and where the next begins (None: this was the last)."""
    fields = object_of(data)
    cursor = optional_text(fields, "next_cursor")
    if fields.get("has_more") and not cursor:
        raise Unusable("it has more, and no 'next_cursor'")
    return list(each_of(fields, name, read)), cursor if fields.get("has_more") else None
