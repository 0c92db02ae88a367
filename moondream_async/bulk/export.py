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
from ..wire.responses import MALFORMED
from .journal import aside_of, read_records
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
    target = Path(os.path.realpath(out))  # what a link points to is written, not the link
    write = _WRITERS.get(Path(out).suffix.lower())
    if write is None:
        raise ConfigurationError(f"{os.fspath(out)!r} must end in {' or '.join(_WRITERS)}.")
    if target.exists() and Path(results).exists() and target.samefile(results):
        raise ConfigurationError(f"{os.fspath(out)!r} is the file of results itself.")
    try:
        size = Path(results).stat().st_size  # a run may be writing on
    except OSError as exc:
        raise ResultsFileError(f"{os.fspath(results)!r} cannot be read: {exc.strerror or exc}.") from None
    used = columns(_rows(results, size))
    try:
        with aside_of(target) as unfinished:
            count = write(unfinished, used, _rows(results, size))
            unfinished.replace(target)
    except OSError as exc:
        problem = exc.strerror or str(exc)
    else:
        return count
    raise ResultsFileError(f"{os.fspath(out)!r} cannot be written: {problem}.")


def _rows(results: PathLike, size: int) -> Iterator[Row]:
    for number, record in enumerate(read_records(results, size=size), 1):
        try:
            yield from [_typed(row) for row in rows(record)]
        except MALFORMED as exc:
            problem = str(exc)
        else:
            continue
        raise ResultsFileError(f"{os.fspath(results)!r} is damaged in line {number}: {problem}.")


def _typed(row: Row) -> Row:
    return {name: COLUMNS[name](value) for name, value in row.items()}


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
