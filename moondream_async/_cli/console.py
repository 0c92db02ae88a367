"""Text for a terminal: what servers, models and file names bring along cannot control it."""

from __future__ import annotations

from typing import Any

_KEPT = "\n\t"
_CONTROLS = {code: f"\\x{code:02x}" for code in (*range(0x20), *range(0x7F, 0xA0)) if chr(code) not in _KEPT}
_LINE_BREAKS = {"\n": "\\n", "\t": "\\t"}


def printable(text: str) -> str:
    """Return the text with control characters escaped; line feeds and tabs stay."""
    return text.translate(_CONTROLS)


def one_line(value: object) -> str:
    """Return a value as text in one line, with all control characters escaped."""
    return str(value).translate(_CONTROLS | str.maketrans(_LINE_BREAKS))


def show(*parts: object, **options: Any) -> None:
    """Print, with control characters escaped. All output of the command goes through this."""
    print(*(printable(str(part)) for part in parts), **options)
