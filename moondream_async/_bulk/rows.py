"""Records as rows of a table: one for each thing that was found (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias, cast

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
    "path": str,
    "error": str,
    "message": str,
    "status": int,
    "finish_reason": str,
    "input_tokens": int,
    "output_tokens": int,
    "request_id": str,
    "attempts": int,
    "elapsed": float,
}
"""Every column there can be, in order, and its type.

`count` is how many things were found, `number` which of them the row is, from 1; a row with a count of 0 says that
nothing was found. `error` is the error's class. Coordinates are 0..1 of the upright image, those of `path` 0..1 of
its box.
"""

_ALWAYS = ("id", "skill", "ok")
_BOX, _POINT = ("x_min", "y_min", "x_max", "y_max"), ("x", "y")
_LISTS = {"detect": ("objects", _BOX), "point": ("points", _POINT)}


def rows(record: Record) -> Iterator[Row]:
    """The rows of one item: for each skill one, or one for each box or point."""
    names: list[str] = [record["skill"]] if isinstance(record["skill"], str) else record["skill"]
    one = isinstance(record["skill"], str)
    for name in names:
        arguments = _object(record["arguments"] if one else record["arguments"].get(name))
        result = _object(record.get("result"))
        found = (result if one else _object(result.get(name))) or None
        yield from _of_skill(record, name, arguments, found)


def columns(all_rows: Iterable[Row]) -> list[str]:
    """The columns that any of the rows uses, in order."""
    used: set[str] = set(_ALWAYS)
    for row in all_rows:
        used.update(row)
    return [name for name in COLUMNS if name in used]


def _of_skill(record: Record, skill: str, arguments: Row, found: Row | None) -> Iterator[Row]:
    row: Row = {"id": str(record["id"]), "skill": skill, "ok": found is not None}
    row |= {name: _text(arguments[name]) for name in ("object", "question") if name in arguments}
    row |= {name: record[name] for name in ("attempts", "elapsed") if name in record}
    if found is None:
        error = _object(record.get("error"))
        row |= {"error": error.get("type"), "message": error.get("message"), "status": error.get("status")}
        yield _without_none(row)
        return
    metrics = _object(found.get("metrics"))
    row |= {name: metrics.get(name) for name in ("input_tokens", "output_tokens")}
    row |= {name: found.get(name) for name in ("answer", "caption", "path", "finish_reason", "request_id")}
    thoughts = found.get("reasoning")
    row["reasoning"] = thoughts if isinstance(thoughts, str) else _object(thoughts).get("text")
    box = _object(found.get("bbox"))
    row |= {name: box.get(name) for name in _BOX}
    if skill in _LISTS:
        name, parts = _LISTS[skill]
        yield from _of_list(row, cast("list[Row]", found.get(name) or []), parts)
    else:
        yield _without_none(row)


def _of_list(row: Row, things: list[Row], parts: Iterable[str]) -> Iterator[Row]:
    row["count"] = len(things)
    if not things:
        yield _without_none(row)
    for number, thing in enumerate(things, 1):
        yield _without_none(row | {"number": number} | {name: thing.get(name) for name in (*parts, "label")})


def _without_none(row: Row) -> Row:
    return {name: value for name, value in row.items() if value is not None and name in COLUMNS}


def _object(value: Any) -> Row:
    return cast("Row", value) if isinstance(value, dict) else {}


def _text(value: Any) -> str:
    return ", ".join(map(str, cast("list[Any]", value))) if isinstance(value, list) else str(value)
