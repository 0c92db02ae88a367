"""`python -m benchmarks [name ...] [--quick] [--check] [--json FILE] [--from FILE ...] [--readme] [--plot FILE]`."""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import platform
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

import attrs

from . import (
    batches,
    calls,
    cold,
    engines,
    films,
    images,
    mapping,
    pace,
    servers,
    soak,
    start,
    streams,
    sync,
    tiles,
    web,
)
from .harness import Figure

BENCHMARKS = {
    "calls": calls,
    "streams": streams,
    "sync": sync,
    "map": mapping,
    "pace": pace,
    "servers": servers,
    "batches": batches,
    "images": images,
    "films": films,
    "tiles": tiles,
    "start": start,
    "cold": cold,
    "soak": soak,
    "web": web,
    "engines": engines,
}
PACKAGES = (
    *("moondream-async", "httpx", "httpcore", "httptools", "h11", "httpx-sse", "anyio", "pillow"),
    *("cykooz-resizer", "av"),
    *("aiohttp", "httpx2", "pyreqwest", "openai", "moondream", "pyvips-binary", "supervision", "sahi"),
)
README = Path(__file__).with_name("README.md")
_SECTION = re.compile(r"(<!-- begin of the last full run -->\n).*(<!-- end of the last full run -->\n)", re.DOTALL)

Figures = dict[str, list[Figure]]


def main() -> int:
    """Run the named benchmarks, or all of them, and print their tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"any of {', '.join(BENCHMARKS)}; default: all")
    parser.add_argument(
        "--quick", action="store_true", help="make fewer calls: for a first impression, not for figures to quote"
    )
    parser.add_argument("--check", action="store_true", help="compare with the budgets; exit with 1 if one is missed")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument(
        "--from", type=Path, nargs="+", dest="files", metavar="FILE", help="measure nothing; read what --json wrote"
    )
    parser.add_argument("--readme", action="store_true", help="also replace the tables in benchmarks/README.md")
    parser.add_argument("--plot", type=Path, help="also plot calls per second to this file (needs matplotlib)")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"unknown benchmarks: {', '.join(sorted(unknown))}")
    if arguments.files:
        environment, figures = _read(arguments.files)
        print(_tables(environment, figures))
    else:
        environment = _environment()
        figures = _measure(environment, arguments.names or list(BENCHMARKS), quick=arguments.quick)
    if arguments.json:
        arguments.json.write_text(json.dumps({"environment": environment, "figures": _to_json(figures)}, indent=2))
    if arguments.plot:
        from .plot import draw

        draw([figure for cases in figures.values() for figure in cases], arguments.plot)
    budgets, missed = _budgets(figures)
    if arguments.readme:
        section = f"{_tables(environment, figures)}\n\n{budgets}\n"
        README.write_text(_SECTION.sub(lambda match: f"{match[1]}\n{section}\n{match[2]}", README.read_text()))
    if arguments.check:
        print(f"\n{budgets}")
    return 1 if arguments.check and missed else 0


def _measure(environment: str, names: list[str], *, quick: bool) -> Figures:
    """Run benchmarks, and print each table once it is complete."""
    print(environment)
    figures: Figures = {}
    for name in names:
        figures[name] = BENCHMARKS[name].run(quick=quick)
        print(f"\n{_table(name, figures[name])}", flush=True)
    return figures


def _tables(environment: str, figures: Figures) -> str:
    return "\n\n".join([environment, *(_table(name, figures[name]) for name in BENCHMARKS if name in figures)])


def _table(name: str, figures: list[Figure]) -> str:
    return f"### {name}\n\n{BENCHMARKS[name].report(figures)}"


def _environment() -> str:
    """Return when and with which versions the benchmarks run."""
    versions: list[str] = []
    for name in PACKAGES:
        try:
            versions.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            continue
    today = datetime.date.today()
    environment = f"{today:%B %Y}, Python {platform.python_version()}, {', '.join(versions)}."
    return textwrap.fill(environment, 128, break_on_hyphens=False)


def _to_json(figures: Figures) -> dict[str, Any]:
    return {name: [attrs.asdict(figure) for figure in cases] for name, cases in figures.items()}


def _read(files: list[Path]) -> tuple[str, Figures]:
    """Return the environments and the figures of earlier runs; of a benchmark in several files, the last one's."""
    runs: list[dict[str, Any]] = [json.loads(file.read_text()) for file in files]
    figures = {name: [Figure(**each) for each in cases] for run in runs for name, cases in run["figures"].items()}
    return "\n".join(dict.fromkeys(run["environment"] for run in runs)), figures


def _budgets(figures: Figures) -> tuple[str, int]:
    """Return a table of the budgets, and how many are missed."""
    lines, missed = ["### budgets", "", "| figure | measured | budget | |", "|---|---:|---:|---|"], 0
    for name in (name for name in BENCHMARKS if name in figures):
        for label, (measured, holds, budget) in BENCHMARKS[name].budgets(figures[name]).items():
            if measured != measured:  # NaN: the case or the contestant was skipped
                verdict = "not measured"
            elif holds(measured):
                verdict = "met"
            else:
                verdict, missed = "**missed**", missed + 1
            lines.append(f"| {label} | {measured:,.2f} | {budget} | {verdict} |")
    return "\n".join(lines), missed


if __name__ == "__main__":
    sys.exit(main())
