"""CSV that spreadsheets show as text, and never run (pure)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

_FORMULA = re.compile(r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def escape_formula(value: object) -> object:
    """Put a quotation mark before a text that a spreadsheet would take for a formula, as OWASP recommends.

    Texts that are plain numbers, such as `-5`, stay as they are; so does everything that is not text.
    """
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return "'" + value
    return value


def csv_row(values: Iterable[object]) -> str:
    """Write one row, without its end; texts are escaped, and quoted where they hold a line break of any kind."""
    row = io.StringIO(newline="")
    csv.writer(row, lineterminator="\r\n").writerow([escape_formula(value) for value in values])
    return row.getvalue().removesuffix("\r\n")
