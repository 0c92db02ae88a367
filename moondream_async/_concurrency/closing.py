"""Base classes for `with` and `async with`."""

from __future__ import annotations

from typing import Self


class AsyncClosing:
    """`async with` support for classes that define `aclose()`."""

    async def aclose(self) -> None:
        """Stop the work in progress; safe to call more than once."""
        raise NotImplementedError

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class Closing:
    """`with` support for classes that define `close()`."""

    def close(self) -> None:
        """Stop the work in progress; safe to call more than once."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
