"""Lists that come in pages, asked for as they are needed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, Generic, Protocol, Self, TypeVar

import anyio

from .._concurrency.loop_local import LoopLocal
from .._wire.errors import invalid_response
from .._wire.pages import page
from ..config import check_whole

T = TypeVar("T")

_LARGEST_PAGE = 100


class Call(Protocol):
    """Sends a request and reads its answer."""

    async def __call__(
        self, method: str, path: str, read: Callable[[Any, Any], T], *, query: dict[str, str | int]
    ) -> T:
        """Do it."""
        ...


class Pages(Generic[T]):
    """The entries of a list, page by page as they are asked for; needs no closing.

    Args:
        call: Sends.
        path: Of the list.
        name: The field of the answer in which the entries are.
        read: Reads one.
        limit: How many to give at most; None gives all.

    Raises:
        ConfigurationError: `limit` is no whole number of at least 1.
    """

    def __init__(self, call: Call, path: str, name: str, read: Callable[[Any], T], limit: int | None) -> None:
        self._call, self._path, self._name, self._read = call, path, name, read
        self._left = limit if limit is None else check_whole("limit", limit, least=1)
        self._ready: deque[T] = deque()
        self._next: str | None = ""
        self._seen: set[str] = set()
        self._turning: LoopLocal[anyio.Lock] = LoopLocal(anyio.Lock)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        while not self._ready:
            if self._next is None or self._left == 0:
                raise StopAsyncIteration
            async with self._turning.get():
                if not self._ready and self._next is not None:
                    await self._turn()
        if self._left == 0:
            raise StopAsyncIteration
        self._left = None if self._left is None else self._left - 1
        return self._ready.popleft()

    async def aclose(self) -> None:
        """Ask for no more."""
        self._ready.clear()
        self._next = None

    async def _turn(self) -> None:
        if self._next in self._seen:
            raise invalid_response(200, None, f"the pages of {self._name} go round in a circle")
        asked = self._next or ""
        query: dict[str, str | int] = {"limit": min(_LARGEST_PAGE, self._left or _LARGEST_PAGE)}
        if self._next:
            query["cursor"] = self._next
        found, following = await self._call(
            "GET", self._path, lambda data, _: page(data, self._name, self._read), query=query
        )
        self._next = following
        self._seen.add(asked)
        self._ready.extend(found)
