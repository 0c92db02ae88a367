"""Terminal output, with control characters from servers, models and file names escaped."""

from __future__ import annotations

from typing import Any

_KEPT = "\n\t"
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in _KEPT}
_LINE_BREAKS = {"\n": "\\n", "\t": "\\t"}


def printable(text: str) -> str:
    """Escape control characters, except line feeds and tabs."""
    return text.translate(_CONTROLS)


def one_line(value: object) -> str:
    """Format a value as one line, with all control characters escaped."""
    return str(value).translate(_CONTROLS | str.maketrans(_LINE_BREAKS))


def show(*parts: object, **options: Any) -> None:
    """Print with control characters escaped. All output of the command goes through this function."""
    print(*(printable(str(part)) for part in parts), **options)
