"""The columns that each skill adds to a table, and the cells of a result."""

from __future__ import annotations

from typing import Any, cast

from .._bulk.outcomes import Outcome
from .._extras import import_extra
from ..errors import MoondreamError
from ..types import DetectResult, PointResult, QueryResult, Result, SegmentResult

_TEXT, _NUMBER, _COUNT, _FLAG = "string", "double", "int64", "bool"
_BOX = {"x_min": _NUMBER, "y_min": _NUMBER, "x_max": _NUMBER, "y_max": _NUMBER}

OWN: dict[str, dict[str, Any]] = {
    "query": {"answer": _TEXT, "reasoning": _TEXT},
    "caption": {"caption": _TEXT},
    "detect": {"objects": [{**_BOX, "label": _TEXT, "score": _NUMBER}]},
    "point": {"points": [{"x": _NUMBER, "y": _NUMBER, "label": _TEXT, "score": _NUMBER}]},
    "segment": {"path": _TEXT, "bbox": _BOX},
}
"""The columns of each skill's result: a type, an object of types, or a list of such objects."""

COMMON: dict[str, Any] = {
    "error": _TEXT,
    "error_type": _TEXT,
    "finish_reason": _TEXT,
    "truncated": _FLAG,
    "request_id": _TEXT,
    "input_tokens": _COUNT,
    "output_tokens": _COUNT,
}
"""The columns of all skills. `error` is None for an item that succeeded."""


def names_of(skill: str) -> list[str]:
    """Return the names of the columns that a skill adds."""
    return [*OWN[skill], *COMMON]


def cells(skill: str, outcome: Outcome[Any]) -> dict[str, Any]:
    """Return the cells of an item, all columns included; those without a value are None."""
    row: dict[str, Any] = dict.fromkeys(names_of(skill))
    if outcome.error is not None:
        return row | _error_cells(outcome.error)
    result: Result = outcome.result
    row |= {"finish_reason": result.finish_reason, "request_id": result.request_id, "truncated": result.truncated}
    if result.metrics is not None:
        row |= {"input_tokens": result.metrics.input_tokens, "output_tokens": result.metrics.output_tokens}
    return row | _result_cells(result, OWN[skill])


def arrow_schema(skill: str) -> Any:
    """Return the Arrow schema of the columns that a skill adds.

    Raises:
        ConfigurationError: The extra `parquet` is missing.
    """
    arrow = import_extra("pyarrow", "parquet", "An Arrow schema")
    kinds = OWN[skill] | COMMON
    return arrow.schema([(name, _arrow_type(arrow, kind)) for name, kind in kinds.items()])


def _error_cells(error: MoondreamError) -> dict[str, Any]:
    return {"error": str(error), "error_type": type(error).__name__, "request_id": getattr(error, "request_id", None)}


def _result_cells(result: Result, own: dict[str, Any]) -> dict[str, Any]:
    if isinstance(result, DetectResult):
        return {"objects": [_fields(box, own["objects"][0]) for box in result.objects]}
    if isinstance(result, PointResult):
        return {"points": [_fields(point, own["points"][0]) for point in result.points]}
    if isinstance(result, SegmentResult):
        return {"path": result.path, "bbox": None if result.bbox is None else _fields(result.bbox, own["bbox"])}
    if isinstance(result, QueryResult):
        return {"answer": result.answer, "reasoning": None if result.reasoning is None else result.reasoning.text}
    return {name: getattr(result, name) for name in own}


def _fields(value: Any, kinds: dict[str, Any]) -> dict[str, Any]:
    return {name: _score(value) if name == "score" else getattr(value, name) for name in kinds}


def _score(value: Any) -> float | None:
    score: Any = value.extra.get("score")
    return float(score) if isinstance(score, (int, float)) and not isinstance(score, bool) else None


def _arrow_type(arrow: Any, kind: Any) -> Any:
    if isinstance(kind, list):
        return arrow.list_(_arrow_type(arrow, kind[0]))
    if isinstance(kind, dict):
        fields = cast("dict[str, Any]", kind)
        return arrow.struct([(name, _arrow_type(arrow, each)) for name, each in fields.items()])
    return {_TEXT: arrow.string(), _NUMBER: arrow.float64(), _COUNT: arrow.int64(), _FLAG: arrow.bool_()}[kind]
