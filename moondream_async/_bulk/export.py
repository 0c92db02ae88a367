"""Export a results file to CSV or Parquet."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from .._csv_cells import csv_row
from .._extras import import_extra
from .._public import public
from ..errors import ConfigurationError, ResultsFileError
from .atomic_files import replace_file
from .reading import ResultsFile, check_path, describe
from .records import Record
from .rows import COLUMNS, Row, as_utf8, columns, converted_rows

_ROWS_PER_GROUP = 10_000

PathLike = str | os.PathLike[str]


@public("bulk")
def export(results: PathLike, out: PathLike) -> int:
    """Export a results file to a table with one row per box or point, or else one per item and skill.

    A label that was searched for together with others and not found has a row with the `count` 0.

    Lines that cannot be parsed are skipped with a log warning. Values that do not fit their column are left empty. In
    CSV, text that a spreadsheet would run as a formula is prefixed with an apostrophe.

    ```python
    export("results.jsonl", "results.csv")
    ```

    Args:
        results: A file written by `run`.
        out: The output path, ending in `.csv` or `.parquet` (extra `parquet`). It is replaced once the whole table is
            written.

    Returns:
        The number of rows.

    Raises:
        ConfigurationError: `out` has another extension, or the extra is not installed.
        ResultsFileError: A file cannot be read or written, or `results` is not a results file.
    """
    out = check_path(out)
    write = _WRITERS.get(Path(out).suffix.lower())
    if write is None or "\0" in out:
        raise ConfigurationError(f"{out!r} must end in {' or '.join(_WRITERS)}.")
    target = Path(os.path.realpath(out))  # write the target of a link, not the link
    with ResultsFile(results) as file:
        if file.is_same(target):
            raise ConfigurationError(f"{out!r} is the results file itself.")
        names = columns(converted_rows(_records(file)))
        try:
            with replace_file(target) as temporary:
                return write(temporary, names, converted_rows(_records(file)))
        except OSError as exc:
            raise ResultsFileError(f"{out!r} cannot be written: {describe(exc)}.") from None


def _records(file: ResultsFile) -> Iterator[Record]:
    return (entry.record for entry in file.entries())


def _to_csv(path: Path, names: list[str], table: Iterator[Row]) -> int:
    count = 0
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        file.write(csv_row(names) + "\r\n")
        for row in table:
            file.write(csv_row(row.get(name, "") for name in names) + "\r\n")
            count += 1
    return count


def _to_parquet(path: Path, names: list[str], table: Iterator[Row]) -> int:
    arrow = import_extra("pyarrow", "parquet", "Parquet")
    parquet = import_extra("pyarrow.parquet", "parquet", "Parquet")
    types: dict[type, Any] = {str: arrow.string(), bool: arrow.bool_(), int: arrow.int64(), float: arrow.float64()}
    schema = arrow.schema([(name, types[COLUMNS[name]]) for name in names])
    count = 0
    with parquet.ParquetWriter(path, schema) as writer:
        while group := list(itertools.islice(table, _ROWS_PER_GROUP)):
            writer.write_table(arrow.Table.from_pylist([as_utf8(row) for row in group], schema=schema))
            count += len(group)
    return count


_WRITERS: dict[str, Callable[[Path, list[str], Iterator[Row]], int]] = {".csv": _to_csv, ".parquet": _to_parquet}
