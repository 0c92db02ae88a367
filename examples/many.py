"""Caption many images and count an object in each: `python examples/many.py face a.jpg b.jpg ...`."""

from __future__ import annotations

import asyncio
import sys

from moondream_async import AsyncClient


async def main(label: str, paths: list[str]) -> None:
    async with AsyncClient() as client:
        skills = {"caption": {"length": "short"}, "detect": {"object": label}}
        async for outcome in client.map(skills, paths, concurrency=16):
            if outcome.ok:
                results = outcome.unwrap()
                print(f"{outcome.id}: {len(results['detect'].objects)} x {label}; {results['caption'].caption}")
            else:
                print(f"{outcome.id}: failed: {outcome.error}")
        print(f"{client.stats.input_tokens + client.stats.output_tokens} tokens")


asyncio.run(main(sys.argv[1], sys.argv[2:]))
