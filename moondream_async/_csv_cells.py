"""Write CSV whose texts spreadsheets do not run as formulas (pure)."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable

_FORMULA = re.compile(r"[=+\-@\t\r\n\uff1d\uff0b\uff0d\uff20]")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)


def escape_formula(value: object) -> object:
    """Prefix a text that a spreadsheet would interpret as a formula with a single quote, as OWASP recommends.

    Texts that are plain numbers, such as `-5`, and values that are not texts are returned unchanged.
    """
    if isinstance(value, str) and _FORMULA.match(value) and not _NUMBER.fullmatch(value):
        return "'" + value
    return value


def csv_row(values: Iterable[object]) -> str:
    """Return one row without its line terminator; texts are escaped, and quoted if they contain a line break."""
    row = io.StringIO(newline="")
    csv.writer(row, lineterminator="\r\n").writerow([escape_formula(value) for value in values])
    return row.getvalue().removesuffix("\r\n")
