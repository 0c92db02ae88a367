"""Tables for notebooks (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape

_MAX_CELL = 2_000  # characters; notebooks keep them all


def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> str:
    """Return an HTML table whose texts are escaped, so that an answer or a file name cannot run a script."""
    lines = [_row("th", header), *(_row("td", row) for row in rows)]
    return f"<table>{''.join(lines)}</table>"


def _row(tag: str, cells: Sequence[object]) -> str:
    return f"<tr>{''.join(f'<{tag}>{_text(cell)}</{tag}>' for cell in cells)}</tr>"


def _text(cell: object) -> str:
    text = "" if cell is None else str(cell)
    return escape(text if len(text) <= _MAX_CELL else text[:_MAX_CELL] + "…")
