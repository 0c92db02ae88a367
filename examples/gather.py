"""Caption many images at once: `python examples/gather.py *.jpg`."""

from __future__ import annotations

import asyncio
import sys

from moondream_async import AsyncClient, MoondreamError


async def main(paths: list[str]) -> None:
    async with AsyncClient() as client:
        outcomes = await asyncio.gather(*(client.caption(path, "short") for path in paths), return_exceptions=True)
        for path, outcome in zip(paths, outcomes, strict=True):
            if isinstance(outcome, MoondreamError):
                print(f"{path}: failed: {outcome}")
            elif isinstance(outcome, BaseException):
                raise outcome
            else:
                print(f"{path}: {outcome.caption}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
