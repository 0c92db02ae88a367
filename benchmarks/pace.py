"""Measure how much of a rate limit a long run uses, and how many 429s it gets, for the tiers of Moondream Cloud.

All runs are concurrent, each with its own sandbox and client: they mostly wait.
"""

from __future__ import annotations

import asyncio
import io
import itertools
import time
from collections.abc import Awaitable, Callable

import httpx
from PIL import Image

from moondream_async import AsyncClient
from moondream_async.sandbox import Sandbox

from . import harness
from .harness import Budget, Column, Figure, at_least, at_most, value

TIERS = (2, 10)  # requests/s; Moondream's own
LATENCY = 0.3  # seconds before a response
CONCURRENCY = 32
ADAPTIVE, EXPLICIT, SLEEPS = "map, adaptive", "map, rate_limit set", "httpx, one by one, sleeping"
START = 10.0  # seconds in which the rate is found; it starts without a limit, so part of the first burst is refused
COLUMNS = (
    Column("% of the rate", 1),
    Column("refused at the start"),
    Column("% refused later", 1),
    Column("answered"),
    Column("failed"),
)


def run(*, quick: bool) -> list[Figure]:
    """Run all contestants at all tiers, concurrently."""
    return asyncio.run(_run_all(20.0 if quick else 240.0))


def report(figures: list[Figure]) -> str:
    """Return the figures as a table."""
    return harness.table(figures, "", COLUMNS)


def budgets(figures: list[Figure]) -> dict[str, Budget]:
    """Return the budgets."""
    limits: dict[str, Budget] = {}
    for tier, contestant in itertools.product(TIERS, (ADAPTIVE, EXPLICIT)):
        case = _tier_case(tier)
        share, refused, failed = (
            value(figures, case, contestant, name) for name in ("% of the rate", "% refused later", "failed")
        )
        limits[f"{case}, {contestant}: % of the rate"] = at_least(share, 95)
        limits[f"{case}, {contestant}: % refused later"] = at_most(refused, 2)
        limits[f"{case}, {contestant}: failed"] = at_most(failed, 0)
    return limits


def _tier_case(tier: int) -> str:
    return f"{tier} requests/s allowed"


async def _run_all(seconds: float) -> list[Figure]:
    runs: list[tuple[str, int, Callable[[str, int, float], Awaitable[_Tally]]]] = []
    for tier in TIERS:
        runs += [(ADAPTIVE, tier, _run_adaptive), (EXPLICIT, tier, _run_explicit), (SLEEPS, tier, _run_sleeping)]
    return list(await asyncio.gather(*(_run_case(*each, seconds) for each in runs)))


class _Tally:
    """The outcomes of all requests until the time is over."""

    def __init__(self) -> None:
        self.answered = self.refused = self.failed = self.refused_at_start = 0


async def _run_case(
    contestant: str, tier: int, work: Callable[[str, int, float], Awaitable[_Tally]], seconds: float
) -> Figure:
    async with Sandbox(rate_limit=tier, latency=LATENCY) as sandbox:
        tally = await work(sandbox.base_url, tier, seconds)
    # The server's bucket starts full, with a burst of `tier` requests, which are allowed, too.
    allowed = tier * (seconds + 1)
    values = {
        "% of the rate": 100 * tally.answered / allowed,
        "refused at the start": float(tally.refused_at_start),
        "% refused later": 100 * (tally.refused - tally.refused_at_start) / (tally.answered + tally.refused),
        "answered": float(tally.answered),
        "failed": float(tally.failed),
    }
    return Figure(_tier_case(tier), contestant, values)


async def _run_adaptive(url: str, tier: int, seconds: float) -> _Tally:
    return await _run_map(url, None, seconds)


async def _run_explicit(url: str, tier: int, seconds: float) -> _Tally:
    return await _run_map(url, tier, seconds)


async def _run_map(url: str, rate_limit: float | None, seconds: float) -> _Tally:
    tally, image = _Tally(), _picture()
    async with AsyncClient(base_url=url, rate_limit=rate_limit) as client:
        encoded = await client.encode_image(image)
        start_ends = time.monotonic() + START
        async with client.map("caption", itertools.repeat(encoded), concurrency=CONCURRENCY) as outcomes:
            try:
                async with asyncio.timeout(seconds):
                    async for outcome in outcomes:
                        tally.answered += outcome.ok
                        tally.failed += not outcome.ok
                        if time.monotonic() < start_ends:
                            tally.refused_at_start = client.stats.rate_limited
            except TimeoutError:
                pass
        tally.refused = client.stats.rate_limited
    return tally


async def _run_sleeping(url: str, tier: int, seconds: float) -> _Tally:
    """Make one call after the other, with a sleep that keeps the limit, as many users do."""
    tally = _Tally()
    async with AsyncClient(base_url=url) as client:
        image = (await client.encode_image(_picture())).image_url
    async with httpx.AsyncClient(base_url=url) as http:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            response = await http.post("/caption", json={"image_url": image, "length": "normal"})
            if response.status_code == 200:
                tally.answered += 1
            else:
                tally.refused += 1
            await asyncio.sleep(1 / tier)
    return tally


def _picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(file, "PNG")
    return file.getvalue()
