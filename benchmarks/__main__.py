"""`python -m benchmarks [name ...] [--quick] [--check] [--json FILE] [--plot FILE]`."""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import platform
import sys
from pathlib import Path

import attrs

from . import batches, calls, images, mapping, pace, soak, start, streams, sync
from .harness import Figure

BENCHMARKS = {
    "calls": calls,
    "streams": streams,
    "sync": sync,
    "map": mapping,
    "pace": pace,
    "batches": batches,
    "images": images,
    "start": start,
    "soak": soak,
}
PACKAGES = ("moondream-async", "httpx", "httpcore", "httpx-sse", "anyio", "pillow", "aiohttp", "openai", "moondream")


def main() -> int:
    """Run the named benchmarks, or all, and print their tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(BENCHMARKS)}; default all")
    parser.add_argument("--quick", action="store_true", help="fewer calls: for a first look, not for figures to quote")
    parser.add_argument("--check", action="store_true", help="compare with the budgets; exit 1 if one is missed")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--plot", type=Path, help="also draw calls per second to this file (needs matplotlib)")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    print(f"Python {platform.python_version()}, {', '.join(_versions())}")
    figures: dict[str, list[Figure]] = {}
    for name in arguments.names or BENCHMARKS:
        figures[name] = BENCHMARKS[name].run(quick=arguments.quick)
        print(f"\n### {name}\n\n{BENCHMARKS[name].report(figures[name])}", flush=True)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({n: [attrs.asdict(f) for f in found] for n, found in figures.items()}, indent=2)
        )
    if arguments.plot:
        from .plot import draw

        draw([figure for found in figures.values() for figure in found], arguments.plot)
    return _check(figures) if arguments.check else 0


def _versions() -> list[str]:
    found: list[str] = []
    for name in PACKAGES:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _check(figures: dict[str, list[Figure]]) -> int:
    print("\n### budgets\n\n| budget | measured | wanted | |\n|---|---:|---:|---|")
    missed = 0
    for name, found in figures.items():
        for budget, (measured, holds, wanted) in BENCHMARKS[name].budgets(found).items():
            if measured != measured:  # not a number: the case, or the contestant, was left out
                verdict = "not measured"
            elif holds(measured):
                verdict = "kept"
            else:
                verdict, missed = "**missed**", missed + 1
            print(f"| {budget} | {measured:,.2f} | {wanted} | {verdict} |")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
