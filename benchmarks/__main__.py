"""`python -m benchmarks [calls] [streams] [sync] [images] [--quick] [--json FILE]`."""

from __future__ import annotations

import argparse
import json
import platform
import sys
from importlib.metadata import version
from pathlib import Path

import attrs

from . import calls, images, streams, sync

BENCHMARKS = {"calls": calls, "streams": streams, "sync": sync, "images": images}
PACKAGES = ("moondream-async", "httpx", "httpcore", "httpx-sse", "anyio")


def main() -> int:
    """Run the named benchmarks, or all, and print their tables."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"some of {', '.join(BENCHMARKS)}; default all")
    parser.add_argument("--quick", action="store_true", help="fewer calls: for a first look, not for figures to quote")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    print(f"Python {platform.python_version()}, " + ", ".join(f"{name} {version(name)}" for name in PACKAGES))
    figures: list[attrs.AttrsInstance] = []
    for name in arguments.names or BENCHMARKS:
        module = BENCHMARKS[name]
        found = module.run(quick=arguments.quick)
        print(f"\n## {name}\n\n{module.report(found)}", flush=True)
        figures += found
    if arguments.json:
        arguments.json.write_text(json.dumps([attrs.asdict(f) for f in figures], indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
