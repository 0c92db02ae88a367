"""A file of results as CSV or Parquet."""

from __future__ import annotations

import csv
import importlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import ConfigurationError, ResultsFileError
from .journal import read_records
from .table import COLUMNS, Row, columns, rows

_ROWS_AT_ONCE = 10_000

PathLike = str | os.PathLike[str]


def export(results: PathLike, out: PathLike) -> int:
    """Write a file of results as a table: one row for each box or point found, else one for each item and skill.

    Args:
        results: The file that `run` wrote.
        out: Where to; `.csv` or `.parquet` (extra `parquet`). It is replaced when the whole table is written.

    Returns:
        How many rows.

    Raises:
        ConfigurationError: `out` has another ending, or the extra is missing.
        ResultsFileError: A file cannot be read or written, or `results` is no file of results.
    """
    target = Path(out)
    write = _WRITERS.get(target.suffix.lower())
    if write is None:
        raise ConfigurationError(f"{os.fspath(out)!r} must end in {' or '.join(_WRITERS)}.")
    unfinished = target.with_name(target.name + ".new")
    used = columns(_rows(results))
    try:
        try:
            count = write(unfinished, used, _rows(results))
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
    except OSError as exc:
        problem = exc.strerror or str(exc)
    else:
        return count
    raise ResultsFileError(f"{os.fspath(out)!r} cannot be written: {problem}.")


def _rows(results: PathLike) -> Iterator[Row]:
    for record in read_records(results):
        yield from rows(record)


def _to_csv(path: Path, used: list[str], found: Iterator[Row]) -> int:
    count = 0
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.DictWriter(file, used)
        writer.writeheader()
        for row in found:
            writer.writerow(row)
            count += 1
    return count


def _to_parquet(path: Path, used: list[str], found: Iterator[Row]) -> int:
    try:
        arrow: Any = importlib.import_module("pyarrow")
        parquet: Any = importlib.import_module("pyarrow.parquet")
    except ImportError:
        raise ConfigurationError("Parquet needs the extra 'parquet': pip install 'moondream-async[parquet]'.") from None
    types: dict[type, Any] = {str: arrow.string(), bool: arrow.bool_(), int: arrow.int64(), float: arrow.float64()}
    schema = arrow.schema([(name, types[COLUMNS[name]]) for name in used])
    count = 0
    with parquet.ParquetWriter(path, schema) as writer:
        while some := list(itertools.islice(found, _ROWS_AT_ONCE)):
            writer.write_table(arrow.Table.from_pylist([_as_utf8(row) for row in some], schema=schema))
            count += len(some)
    return count


def _as_utf8(row: Row) -> Row:
    """Without the half characters that file names can hold, which no Parquet file takes."""
    return {
        name: value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
        for name, value in row.items()
    }


_WRITERS: dict[str, Callable[[Path, list[str], Iterator[Row]], int]] = {".csv": _to_csv, ".parquet": _to_parquet}
