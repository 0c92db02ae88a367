"""What is closed however a block is left."""

from __future__ import annotations

from types import TracebackType
from typing import Self


class AsyncClosing:
    """`async with` for whatever has `aclose()`."""

    async def aclose(self) -> None:
        """Stop what is under way; safe to call again."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()
