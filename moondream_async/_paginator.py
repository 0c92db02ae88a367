"""Lists that the server returns page by page, fetched as they are iterated."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Self, TypeVar

import anyio

from ._api import ApiClient
from ._concurrency.loop_local import LoopLocal
from ._wire.errors import invalid_response
from ._wire.responses import page
from .config import check_whole

T = TypeVar("T")

_MAX_PAGE = 100  # entries


class Pages(Generic[T]):
    """The entries of a list, fetched page by page; needs no closing.

    Args:
        api: Sends the requests.
        path: The list's path below the base URL.
        field: The field of the response that holds the entries.
        read: Reads one entry.
        limit: Maximum number of entries; None for all.

    Raises:
        ConfigurationError: `limit` is not a whole number of at least 1.
    """

    def __init__(self, api: ApiClient, path: str, field: str, read: Callable[[Any], T], limit: int | None) -> None:
        self._api, self._path, self._field, self._read = api, path, field, read
        self._remaining = limit if limit is None else check_whole("limit", limit, least=1)
        self._entries: deque[T] = deque()
        self._cursor: str | None = ""
        self._seen: set[str] = set()
        self._locks: LoopLocal[anyio.Lock] = LoopLocal(anyio.Lock)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._entries:
            if self._cursor is None or self._remaining == 0:
                raise StopAsyncIteration
            async with self._locks.get():
                if not self._entries and self._cursor is not None:
                    await self._fetch_page(self._cursor)
        if self._remaining == 0:
            raise StopAsyncIteration
        self._remaining = None if self._remaining is None else self._remaining - 1
        return self._entries.popleft()

    async def aclose(self) -> None:
        """Fetch no more pages."""
        self._entries.clear()
        self._cursor = None

    async def _fetch_page(self, cursor: str) -> None:
        if cursor in self._seen:
            raise invalid_response(200, None, f"the pages of {self._field} repeat endlessly")
        query: dict[str, str | int] = {"limit": min(_MAX_PAGE, self._remaining or _MAX_PAGE)}
        if cursor:
            query["cursor"] = cursor
        entries, self._cursor = await self._api.call(
            "GET", self._path, lambda data, _: page(data, self._field, self._read), query=query
        )
        self._seen.add(cursor)
        self._entries.extend(entries)
