"""The command `export`."""

from __future__ import annotations

from .._bulk.export import export
from .arguments import Arguments
from .console import show


def run(arguments: Arguments) -> None:
    """Export a results file as a table."""
    rows = export(arguments.results, arguments.table)
    show(f"{rows:,} rows in {arguments.table}")
