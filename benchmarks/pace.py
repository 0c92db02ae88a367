"""How much of a rate limit a long run uses, and how many 429s it takes: against the sandbox's tiers.

All runs go on side by side, each with a sandbox and a client of its own: they mostly wait.
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
from .harness import Column, Figure, value

TIERS = (2, 10)  # requests/s; Moondream's own
LATENCY = 0.3  # seconds before an answer
AT_ONCE = 32
ADAPTIVE, EXPLICIT, SLEEPS = "map, adaptive", "map, rate_limit set", "httpx, one by one, sleeping"
START = 10.0  # seconds in which adapting finds the rate: it starts free, so the first burst is refused
COLUMNS = (
    Column("% of the rate", 1),
    Column("refused at the start"),
    Column("% refused later", 1),
    Column("answered"),
    Column("failed"),
)


def run(*, quick: bool) -> list[Figure]:
    """All tiers, all contestants, at the same time."""
    return asyncio.run(_all(20.0 if quick else 240.0))


def report(figures: list[Figure]) -> str:
    """The table."""
    return harness.table(figures, "", COLUMNS)


def budgets(figures: list[Figure]) -> dict[str, tuple[float, Callable[[float], bool], str]]:
    """What has to hold within this run."""
    found: dict[str, tuple[float, Callable[[float], bool], str]] = {}
    for tier, who in itertools.product(TIERS, (ADAPTIVE, EXPLICIT)):
        case = _case(tier)
        found[f"{case}, {who}: % of the rate"] = (
            value(figures, case, who, "% of the rate"),
            lambda share: share >= 95,
            ">= 95",
        )
        found[f"{case}, {who}: % refused later"] = (
            value(figures, case, who, "% refused later"),
            lambda r: r <= 2,
            "<= 2",
        )
        found[f"{case}, {who}: failed"] = (value(figures, case, who, "failed"), lambda n: n == 0, "0")
    return found


def _case(tier: int) -> str:
    return f"{tier} requests/s allowed"


async def _all(seconds: float) -> list[Figure]:
    runs: list[tuple[str, int, Callable[[str, int, float], Awaitable[_Tally]]]] = []
    for tier in TIERS:
        runs += [(ADAPTIVE, tier, _adaptive), (EXPLICIT, tier, _explicit), (SLEEPS, tier, _sleeping)]
    return list(await asyncio.gather(*(_measured(*each, seconds) for each in runs)))


class _Tally:
    """What became of the requests between the first and the end of the time."""

    def __init__(self) -> None:
        self.answered = self.refused = self.failed = self.refused_at_start = 0


async def _measured(
    who: str, tier: int, work: Callable[[str, int, float], Awaitable[_Tally]], seconds: float
) -> Figure:
    async with Sandbox(rate_limit=tier, latency=LATENCY) as sandbox:
        tally = await work(sandbox.base_url, tier, seconds)
    # A pause earns the server's bucket a burst of `tier` requests: it counts as allowed, too.
    allowed = tier * (seconds + 1)
    values = {
        "% of the rate": 100 * tally.answered / allowed,
        "refused at the start": float(tally.refused_at_start),
        "% refused later": 100 * (tally.refused - tally.refused_at_start) / (tally.answered + tally.refused),
        "answered": float(tally.answered),
        "failed": float(tally.failed),
    }
    return Figure(_case(tier), who, values)


async def _adaptive(url: str, tier: int, seconds: float) -> _Tally:
    return await _mapped(url, None, seconds)


async def _explicit(url: str, tier: int, seconds: float) -> _Tally:
    return await _mapped(url, tier, seconds)


async def _mapped(url: str, rate_limit: float | None, seconds: float) -> _Tally:
    tally, image = _Tally(), _picture()
    async with AsyncClient(base_url=url, rate_limit=rate_limit) as client:
        encoded = await client.encode_image(image)
        start_ends = time.monotonic() + START
        async with client.map("caption", itertools.repeat(encoded), concurrency=AT_ONCE) as outcomes:
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


async def _sleeping(url: str, tier: int, seconds: float) -> _Tally:
    """What many users write: one call after the other, with a sleep that keeps the limit."""
    tally = _Tally()
    async with AsyncClient(base_url=url) as client:
        image = (await client.encode_image(_picture())).image_url
    async with httpx.AsyncClient(base_url=url) as http:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            answer = await http.post("/caption", json={"image_url": image, "length": "normal"})
            if answer.status_code == 200:
                tally.answered += 1
            else:
                tally.refused += 1
            await asyncio.sleep(1 / tier)
    return tally


def _picture() -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(file, "PNG")
    return file.getvalue()
