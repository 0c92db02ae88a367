"""Measure the start: imports, the first client, and 1,000 clients that are created and closed."""

from __future__ import annotations

import asyncio
import subprocess
import time
from statistics import median

from moondream_async import AsyncClient

from . import harness
from .harness import KEY, Budget, Column, Figure, at_most, value

REFERENCE = "import httpx"
COLUMNS = (Column("ms", 2, ratio=True), Column("modules"))
_PROGRAMS = {
    "import httpx": "import httpx",
    "httpx's own first call": "import httpx, httpcore, anyio._backends._asyncio; httpx.AsyncClient(verify=False)",
    "import moondream_async": "import moondream_async",
    "import, client, first call": (
        "from moondream_async import AsyncClient, EncodedImage; "
        f"AsyncClient('{KEY}', base_url='http://localhost:1')._api.http"
    ),
}
IMPORTS, CLIENTS = "imports in a new process", "clients"


def run(*, quick: bool) -> list[Figure]:
    """Run all cases."""
    rounds = 5 if quick else 15
    times: dict[str, list[tuple[float, int, int]]] = {name: [] for name in _PROGRAMS}
    for program in _PROGRAMS.values():
        _measure_imports(program)  # writes the bytecode
    for _ in range(rounds):
        for name, program in _PROGRAMS.items():
            times[name].append(_measure_imports(program))
    figures = [
        Figure(IMPORTS, name, {"ms": median(t[0] for t in rows), "modules": rows[0][1], "heavy": rows[0][2]})
        for name, rows in times.items()
    ]
    return figures + asyncio.run(_measure_clients(200 if quick else 1000))


def report(figures: list[Figure]) -> str:
    """Return the figures as a table, and the memory that clients keep."""
    kept = value(figures, CLIENTS, "1,000 made and closed", "kept MB")
    return (
        harness.table(figures, REFERENCE, COLUMNS)
        + f"\n\n1,000 clients that were created and closed keep {kept:.1f} MB."
    )


def budgets(figures: list[Figure]) -> dict[str, Budget]:
    """Return the budgets; `cold` compares the first call with aiohttp's."""
    kept = value(figures, CLIENTS, "1,000 made and closed", "kept MB")
    return {
        "import loads httpx or Pillow": at_most(value(figures, IMPORTS, "import moondream_async", "heavy"), 0),
        "a second client, ms": at_most(value(figures, CLIENTS, "a second one", "ms"), 1),
        "1,000 clients made and closed, MB kept": at_most(kept, 2),
    }


def _measure_imports(program: str) -> tuple[float, int, int]:
    """Return the milliseconds, the number of new modules, and 1 if httpx or Pillow is among them."""
    code = (
        "import sys, time; now = sys.modules; before = len(now); t = time.perf_counter()\n"
        f"{program}\n"
        "print((time.perf_counter() - t) * 1000, len(now) - before, 'httpx' in now or 'PIL' in now)"
    )
    command, environment = harness.python(code)
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()
    return float(out[0]), int(out[1]), int(out[2] == "True")


async def _measure_clients(count: int) -> list[Figure]:
    picture = harness.image(2_000)
    with harness.server() as url:

        async def use_client() -> float:
            started = time.perf_counter()
            client = AsyncClient(KEY, base_url=url)
            elapsed = time.perf_counter() - started
            await client.query(picture, "what?")
            await client.aclose()
            return elapsed

        first = await use_client()
        for _ in range(50):
            await use_client()
        before = harness.rss_mb()
        times = [await use_client() for _ in range(count)]
        kept = (harness.rss_mb() - before) * 1000 / count
    return [
        Figure(CLIENTS, "the first", {"ms": first * 1000}),
        Figure(CLIENTS, "a second one", {"ms": median(times) * 1000}),
        Figure(CLIENTS, "1,000 made and closed", {"kept MB": kept}),
    ]
