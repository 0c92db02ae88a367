"""Caption many images and count an object in each: `python many.py face a.jpg b.jpg ...`."""

import argparse
import asyncio
from pathlib import Path

from moondream_async import AsyncClient


async def main(label: str, photos: list[Path]) -> None:
    async with AsyncClient() as client:
        skills = {"caption": {"length": "short"}, "detect": {"object": label}}
        async for outcome in client.map(skills, photos, concurrency=16, progress=True):
            if outcome.ok:
                results = outcome.result
                print(f"{outcome.id}: {len(results['detect'].objects)} x {label}; {results['caption'].caption}")
            else:
                print(f"{outcome.id}: failed: {outcome.error}")
        print(f"{client.stats.input_tokens + client.stats.output_tokens} tokens")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("label")
    parser.add_argument("photos", type=Path, nargs="+")
    asyncio.run(main(**vars(parser.parse_args())))
