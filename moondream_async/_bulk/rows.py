"""Records as rows of a table, one for each box or point (pure)."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias, cast

from .._wire.responses import is_list, is_object
from .records import Record

Row: TypeAlias = dict[str, Any]

COLUMNS: dict[str, type] = {
    "id": str,
    "skill": str,
    "ok": bool,
    "object": str,
    "question": str,
    "answer": str,
    "reasoning": str,
    "caption": str,
    "count": int,
    "number": int,
    "label": str,
    "x_min": float,
    "y_min": float,
    "x_max": float,
    "y_max": float,
    "x": float,
    "y": float,
    "score": float,
    "path": str,
    "error": str,
    "message": str,
    "status": int,
    "finish_reason": str,
    "truncated": bool,
    "input_tokens": int,
    "output_tokens": int,
    "request_id": str,
    "attempts": int,
    "elapsed": float,
}
"""All possible columns in order, with their types.

`count` is the number of boxes or points, and `number` the row's index among them, from 1. Without any, there is one row
with `count` 0; with several labels, one for each label that was not found. `score` is there if the server sent one.
`truncated` is true if the answer was cut off, so that there may be more. `error` is the class of the error.
Coordinates are 0..1 of the upright image; those of `path` are 0..1 of its box.
"""

_MAX_INT = 2**63 - 1  # of a Parquet column
_ALWAYS = ("id", "skill", "ok")
_BOX, _POINT = ("x_min", "y_min", "x_max", "y_max"), ("x", "y")
_LISTS = {"detect": ("objects", _BOX), "point": ("points", _POINT)}


def rows(record: Record) -> Iterator[Row]:
    """Yield the rows of an item: one per skill, or one for each box or point."""
    is_single = isinstance(record["skill"], str)
    skills: list[str] = [record["skill"]] if is_single else record["skill"]
    results = _object(record.get("result"))
    for skill in skills:
        arguments = _object(record["arguments"] if is_single else record["arguments"].get(skill))
        result = (results if is_single else _object(results.get(skill))) or None
        yield from _skill_rows(record, skill, arguments, result)


def converted_rows(records: Iterable[Record]) -> Iterator[Row]:
    """Yield the rows of items, with values of their columns' types; values that do not fit are dropped."""
    for record in records:
        for row in rows(record):
            cells = {name: _cell(COLUMNS[name], value) for name, value in row.items()}
            yield _without_none(cells)


def as_utf8(row: Row) -> Row:
    """Escape lone surrogates, which file names can contain but tables in UTF-8 cannot store."""
    return {
        name: value.encode("utf-8", "backslashreplace").decode() if isinstance(value, str) else value
        for name, value in row.items()
    }


def columns(all_rows: Iterable[Row]) -> list[str]:
    """Return the columns that the rows use, in order."""
    used: set[str] = set(_ALWAYS)
    for row in all_rows:
        used.update(row)
    return [name for name in COLUMNS if name in used]


def _skill_rows(record: Record, skill: str, arguments: Row, result: Row | None) -> Iterator[Row]:
    row: Row = {"id": str(record["id"]), "skill": skill, "ok": result is not None}
    row |= {name: _text(arguments[name]) for name in ("object", "question") if name in arguments}
    row |= {name: record[name] for name in ("attempts", "elapsed") if name in record}
    if result is None:
        error = _object(record.get("error"))
        row |= {"error": error.get("type"), "message": error.get("message"), "status": error.get("status")}
        yield _without_none(row)
        return
    row["truncated"] = skill in cast("list[Any]", record.get("truncated") or []) or None
    metrics = _object(result.get("metrics"))
    row |= {name: metrics.get(name) for name in ("input_tokens", "output_tokens")}
    row |= {name: result.get(name) for name in ("answer", "caption", "path", "finish_reason", "request_id")}
    reasoning = result.get("reasoning")
    row["reasoning"] = reasoning if isinstance(reasoning, str) else _object(reasoning).get("text")
    box = _object(result.get("bbox"))
    row |= {name: box.get(name) for name in _BOX}
    if skill in _LISTS:
        name, coordinates = _LISTS[skill]
        labels: Any = arguments.get("object")
        entries = cast("list[Row]", result.get(name) or [])
        yield from _list_rows(row, entries, coordinates, labels if is_list(labels) else [])
    else:
        yield _without_none(row)


def _list_rows(row: Row, entries: list[Row], coordinates: Iterable[str], labels: list[Any]) -> Iterator[Row]:
    """Yield a row for each box or point, and one for each of several labels that was not found."""
    for number, entry in enumerate(entries, 1):
        cells = {name: entry.get(name) for name in (*coordinates, "label", "score")}
        yield _without_none(row | {"count": len(entries), "number": number} | cells)
    found = {str(entry.get("label")) for entry in entries}
    for label in labels:
        if str(label) not in found:
            yield _without_none(row | {"count": 0, "label": label})
    if not entries and not labels:
        yield _without_none(row | {"count": 0})


def _without_none(row: Row) -> Row:
    return {name: value for name, value in row.items() if value is not None and name in COLUMNS}


def _cell(kind: type, value: Any) -> Any:
    if kind is str:
        return str(value)
    if kind is bool:
        return bool(value)
    try:
        number = kind(value)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if (math.isfinite(number) if kind is float else abs(number) <= _MAX_INT) else None


def _object(value: Any) -> Row:
    return value if is_object(value) else {}


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if is_list(value) else str(value)
