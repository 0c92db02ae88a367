"""Escape control characters in text from servers, models and file names (pure)."""

from __future__ import annotations

_KEPT = "\n\t"
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in _KEPT}
_LINE_BREAKS = {"\n": "\\n", "\t": "\\t"}


def printable(text: str) -> str:
    """Escape control characters, except line feeds and tabs."""
    return text.translate(_CONTROLS)


def one_line(value: object) -> str:
    """Format a value as one line, with all control characters escaped."""
    return str(value).translate(_CONTROLS | str.maketrans(_LINE_BREAKS))
