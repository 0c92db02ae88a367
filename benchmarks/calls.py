"""Requests per second and CPU per request: `AsyncClient.query` against bare `httpx.AsyncClient.post`.

Both send the same body to the same server and read the JSON of the answer. httpx gets the finished
body; ours builds it, keeps pace, watches timeouts and makes a typed result.
"""

from __future__ import annotations

import asyncio
import json

import httpx

from moondream_async import AsyncClient

from . import harness
from .harness import Figure, Stopwatch

REFERENCE = "httpx"
HEADERS = {"X-Moondream-Auth": "k" * 40, "Content-Type": "application/json"}


def report(figures: list[Figure]) -> str:
    """A Markdown table with ratios to the reference."""
    return harness.table(figures, REFERENCE)


def run(*, quick: bool) -> list[Figure]:
    """All cases."""
    with harness.server() as url:
        return asyncio.run(_run(url, quick=quick))


async def _run(url: str, *, quick: bool) -> list[Figure]:
    scale, rounds = (1, 1) if quick else (4, 3)
    figures: list[Figure] = []
    cases = [
        ("2 KB, 1 in flight", "", 2_000, 1, 500),
        ("2 KB, 16 in flight", "", 2_000, 16, 800),
        ("2 KB, 64 in flight", "", 2_000, 64, 800),
        ("2 KB, 256 in flight", "", 2_000, 256, 512),
        ("2 KB, 256 in flight, answers after 100 ms", "/delay-100", 2_000, 256, 512),
        ("300 KB, 1 in flight", "", 300_000, 1, 200),
    ]
    for case, path, size, in_flight, total in cases:
        figures += await _case(case, url + path, size, in_flight, total * scale, rounds)
    return figures


async def _case(case: str, base: str, size: int, in_flight: int, total: int, rounds: int) -> list[Figure]:
    image = harness.image(size)
    body = json.dumps({"image_url": image.image_url, "question": "what?", "stream": False}).encode()
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    ours, theirs = Stopwatch(), Stopwatch()
    async with AsyncClient("k" * 40, base_url=base) as client, httpx.AsyncClient(timeout=120, limits=limits) as bare:

        async def call_ours() -> None:
            await client.query(image, "what?")

        async def call_theirs() -> None:
            (await bare.post(f"{base}/v1/query", content=body, headers=HEADERS)).json()

        for _ in range(rounds):
            for watch, call, count in ((ours, call_ours, total), (theirs, call_theirs, _affordable(total, in_flight))):
                await harness.run_waves(call, total=in_flight, in_flight=in_flight)
                with watch.round(count):
                    await harness.run_waves(call, total=count, in_flight=in_flight)
    return [ours.figure("moondream-async", case), theirs.figure("httpx", case)]


def _affordable(total: int, in_flight: int) -> int:
    # Stock httpx needs milliseconds a call at 256 in flight: two waves say as much as eight.
    return total if in_flight < 64 else in_flight * 2
