"""Results as data frames of pandas and polars."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Iterable, Iterator
from typing import Any, TypeAlias, cast

from .._extras import import_package
from .._public import public
from ..errors import ConfigurationError
from ..types import CaptionResult, DetectResult, PointResult, QueryResult, Result, SegmentResult
from .outcomes import AnyOutcome, Outcome
from .reading import ResultsFile
from .records import Record, error_fields
from .rows import COLUMNS, Row, as_utf8, columns, converted_rows

Results: TypeAlias = str | os.PathLike[str] | Outcome[Any] | Result | Iterable[Outcome[Any] | Result]
"""The path of a results file, outcomes, results, or one of these."""


_SKILLS: dict[type, str] = {
    QueryResult: "query",
    CaptionResult: "caption",
    DetectResult: "detect",
    PointResult: "point",
    SegmentResult: "segment",
}


@public("bulk")
def to_pandas(results: Results) -> Any:
    """Convert results to a `pandas.DataFrame`: the table that `export` writes, with one row per box or point.

    ```python
    table = to_pandas("results.jsonl")
    ```

    Args:
        results: The path of a file written by `run`; or outcomes, from `map`, `batches.results` or `read_results`; or
            results of the skills, whose `id` is their position.

    Returns:
        A `pandas.DataFrame` with the columns that are used. Whole numbers have the type `Int64`, which has `<NA>` for
        missing values.

    Raises:
        ConfigurationError: pandas is not installed, or `results` is something else.
        ResultsFileError: The file cannot be read, or is not a results file.
    """
    pandas = import_package("pandas", "to_pandas")
    names, table = _table(results)
    types = {name: "Int64" for name in names if COLUMNS[name] is int}
    types |= {name: "float64" for name in names if COLUMNS[name] is float}
    return pandas.DataFrame(table, columns=names).astype(types)


@public("bulk")
def to_polars(results: Results) -> Any:
    """Convert results to a `polars.DataFrame`: the table that `export` writes, with one row per box or point.

    ```python
    table = to_polars("results.jsonl")
    ```

    Args:
        results: As in `to_pandas`.

    Raises:
        ConfigurationError: polars is not installed, or `results` is something else.
        ResultsFileError: The file cannot be read, or is not a results file.
    """
    polars = import_package("polars", "to_polars")
    names, table = _table(results)
    return polars.DataFrame(table, schema={name: COLUMNS[name] for name in names})


def _table(results: object) -> tuple[list[str], list[Row]]:
    """Return the columns and the rows."""
    table = [as_utf8(row) for row in converted_rows(_records(results))]
    return columns(table), table


def _records(results: object) -> Iterator[Record]:
    if isinstance(results, (str, os.PathLike)):
        with ResultsFile(cast("str", results)) as file:
            yield from (entry.record for entry in file.entries())
        return
    if isinstance(results, (Result, AnyOutcome)):
        results = [cast("object", results)]
    if isinstance(results, AsyncIterable):
        raise ConfigurationError("Collect the outcomes first: [outcome async for outcome in ...].")
    if not isinstance(results, Iterable):
        raise ConfigurationError(_wrong_type(results))
    for index, each in enumerate(cast("Iterable[object]", results)):
        if isinstance(each, AnyOutcome):
            yield _record_of(cast("AnyOutcome[Any]", each))
        elif isinstance(each, Result):
            yield _record_of(AnyOutcome(index, index, each, None, each.meta.attempts, each.meta.elapsed))
        else:
            raise ConfigurationError(_wrong_type(each))


def _wrong_type(value: object) -> str:
    return f"results must be outcomes, results, or the path of a results file, not {type(value).__name__}."


def _record_of(outcome: AnyOutcome[Any]) -> Record:
    """Return the record of an outcome; of its arguments, only the labels are known."""
    result: Any = outcome.result
    kind = type(cast("object", outcome.result))
    record: Record = {"id": outcome.id, "ok": outcome.ok, "attempts": outcome.attempts, "elapsed": outcome.elapsed}
    if isinstance(result, dict):
        results = cast("dict[str, Result]", result)
        record["skill"] = list(results)
        record["arguments"] = {skill: _arguments_of(each) for skill, each in results.items()}
        record["result"] = {skill: each.to_dict() for skill, each in results.items()}
    else:
        record["skill"] = _SKILLS.get(kind, "")
        record["arguments"] = _arguments_of(result)
        record["result"] = None if result is None else result.to_dict()
    if outcome.error is not None:
        record["error"] = error_fields(outcome.error)
        if isinstance(record["skill"], list):  # a row for the skill that failed, whose name is not known
            record["skill"] = [*record["skill"], ""]
    return record


def _arguments_of(result: Result | None) -> Record:
    labels = result.by_label if isinstance(result, (DetectResult, PointResult)) else None
    return {} if labels is None else {"object": list(labels)}
