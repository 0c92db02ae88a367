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
    """Run the named benchmarks, or all of them, and print their tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument(
        "--quick", action="store_true", help="make fewer calls: for a first impression, not for figures to quote"
    )
    parser.add_argument("--check", action="store_true", help="compare with the budgets; exit with 1 if one is missed")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--plot", type=Path, help="also plot calls per second to this file (needs matplotlib)")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"unknown benchmarks: {', '.join(sorted(unknown))}")
    print(f"Python {platform.python_version()}, {', '.join(_installed_versions())}")
    figures: dict[str, list[Figure]] = {}
    for name in arguments.names or BENCHMARKS:
        figures[name] = BENCHMARKS[name].run(quick=arguments.quick)
        print(f"\n### {name}\n\n{BENCHMARKS[name].report(figures[name])}", flush=True)
    if arguments.json:
        arguments.json.write_text(
            json.dumps({n: [attrs.asdict(f) for f in cases] for n, cases in figures.items()}, indent=2)
        )
    if arguments.plot:
        from .plot import draw

        draw([figure for cases in figures.values() for figure in cases], arguments.plot)
    return _check(figures) if arguments.check else 0


def _installed_versions() -> list[str]:
    versions: list[str] = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _check(figures: dict[str, list[Figure]]) -> int:
    print("\n### budgets\n\n| figure | measured | budget | |\n|---|---:|---:|---|")
    missed = 0
    for name, cases in figures.items():
        for label, (measured, holds, budget) in BENCHMARKS[name].budgets(cases).items():
            if measured != measured:  # NaN: the case or the contestant was skipped
                verdict = "not measured"
            elif holds(measured):
                verdict = "met"
            else:
                verdict, missed = "**missed**", missed + 1
            print(f"| {label} | {measured:,.2f} | {budget} | {verdict} |")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
