"""Stream events per second: `AsyncTextStream` against bare httpx and httpx-sse with `json.loads`."""

from __future__ import annotations

import asyncio
import json

import httpx
from httpx_sse import aconnect_sse

from moondream_async import AsyncClient

from . import harness
from .harness import Figure, Stopwatch

REFERENCE = "httpx-sse"
EVENTS = 1000


def report(figures: list[Figure]) -> str:
    """A Markdown table with ratios to the reference."""
    return harness.table(figures, REFERENCE)


def run(*, quick: bool) -> list[Figure]:
    """All cases."""
    with harness.server() as url:
        return asyncio.run(_run(url, rounds=3 if quick else 15))


async def _run(url: str, *, rounds: int) -> list[Figure]:
    figures = await _case("1,000 events in one piece", f"{url}/events-{EVENTS}", rounds)
    return figures + await _case("1,000 events one by one", f"{url}/events-{EVENTS}/apart", rounds)


async def _case(case: str, base: str, rounds: int) -> list[Figure]:
    image = harness.image(2_000)
    body = json.dumps({"image_url": image.image_url, "question": "what?", "stream": True}).encode()
    ours, theirs = Stopwatch(), Stopwatch()
    async with AsyncClient("k", base_url=base) as client, httpx.AsyncClient(timeout=120) as bare:

        async def read_ours() -> str:
            async with await client.query(image, "what?", stream=True) as stream:
                return "".join([piece async for piece in stream])

        async def read_theirs() -> str:
            headers = {"X-Moondream-Auth": "k", "Content-Type": "application/json"}
            async with aconnect_sse(bare, "POST", f"{base}/v1/query", content=body, headers=headers) as source:
                return "".join([json.loads(event.data)["chunk"] async for event in source.aiter_sse()])

        if await read_ours() != await read_theirs():
            raise RuntimeError("the contestants read different texts")
        for _ in range(rounds):
            for watch, read in ((ours, read_ours), (theirs, read_theirs)):
                with watch.round(EVENTS):
                    await read()
    return [ours.figure("moondream-async", case), theirs.figure("httpx-sse", case)]
