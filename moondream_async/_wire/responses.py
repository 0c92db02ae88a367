"""Answers -> results: every field of moondream-api.md 1.3, unknown ones kept in `extra`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast

from ..types import (
    BoundingBox,
    CaptionResult,
    DetectResult,
    Grounding,
    Meta,
    Metrics,
    Model,
    Point,
    PointResult,
    QueryResult,
    Reasoning,
    Result,
    SegmentResult,
)

Object = dict[str, Any]
T = TypeVar("T")


class InvalidResponse(ValueError):
    """The answer is not of the shape the skill answers with; the text says what is wrong."""


PARSE_ERRORS = (InvalidResponse, TypeError, ValueError, ArithmeticError, LookupError, AttributeError)
"""What reading an answer that is JSON, but not of the documented shape, can raise."""


MAX_DEPTH = 64
"""Lists and objects in one another. Answers have 5; what is much deeper can be read only on a stack with room."""

_MAX_TOKENS = 2**53
_MAX_DIGITS = 308  # of a whole number that a double holds


def decode(body: str | bytes) -> Any:
    """Read a JSON body.

    Numbers that are not finite (`NaN`, `1e999`), or too large for a double, are read as null: no JSON could be
    written with them.

    Raises:
        Unusable: It is not JSON, or nested more than 64 deep.
    """
    try:
        data = _DECODER.decode(body if isinstance(body, str) else _text_of(body))
    except (ValueError, RecursionError):
        raise InvalidResponse("it is not JSON, or nested too deeply") from None
    if _brackets(body) > MAX_DEPTH and _is_deeper(data, MAX_DEPTH):
        raise InvalidResponse(f"it is nested more than {MAX_DEPTH} deep")
    return data


def _text_of(body: bytes) -> str:
    return body.decode(json.detect_encoding(body), "surrogatepass")


def _no_number(_: str) -> None:
    return None


def _finite(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _whole(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MAX_DIGITS else None


_DECODER = json.JSONDecoder(parse_constant=_no_number, parse_float=_finite, parse_int=_whole)


def _brackets(body: str | bytes) -> int:
    if isinstance(body, str):
        return body.count("[") + body.count("{")
    return body.count(b"[") + body.count(b"{")


def _is_deeper(data: Any, depth: int) -> bool:
    """Whether lists and objects are nested deeper than this; looks at every value once."""
    level: list[Any] = [data]
    for _ in range(depth):
        level = [value for each in level for value in _values(each)]
    return any(isinstance(each, (list, dict)) for each in level)


def _values(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return cast("Object", value).values()
    return cast("list[Any]", value) if isinstance(value, list) else ()


def query(data: Any, meta: Meta) -> QueryResult:
    """Read the answer of `/query`."""
    fields, rest = _split(data, "answer", "reasoning")
    answer, thoughts = text_of(fields, "answer"), fields.get("reasoning")
    return QueryResult(answer=answer, reasoning=reasoning(thoughts), meta=meta, **_common(fields, rest))


def caption(data: Any, meta: Meta) -> CaptionResult:
    """Read the answer of `/caption`."""
    fields, rest = _split(data, "caption")
    return CaptionResult(caption=text_of(fields, "caption"), meta=meta, **_common(fields, rest))


def detect(data: Any, meta: Meta) -> DetectResult:
    """Read the answer of `/detect`."""
    fields, rest = _split(data, "objects")
    return DetectResult(objects=each_of(fields, "objects", box), meta=meta, **_common(fields, rest))


def point(data: Any, meta: Meta) -> PointResult:
    """Read the answer of `/point`."""
    fields, rest = _split(data, "points", "count")
    points, count = each_of(fields, "points", position), fields.get("count")
    return PointResult(points=points, count=_count(count), meta=meta, **_common(fields, rest))


def segment(data: Any, meta: Meta) -> SegmentResult:
    """Read the answer of `/segment`."""
    fields, rest = _split(data, "path", "bbox", "parse_error")
    found, note = fields.get("bbox"), fields.get("parse_error")
    return SegmentResult(
        path=text_of(fields, "path"),
        bbox=None if found is None else box(found),
        parse_error=None if note is None else str(note),
        meta=meta,
        **_common(fields, rest),
    )


def models(data: Any) -> list[Model]:
    """Read the answer of `GET /models`, in OpenAI's shape (`data`) or Station's (`models`)."""
    listing = object_of(data)
    entries = listing.get("data", listing.get("models"))
    if not isinstance(entries, list):
        raise InvalidResponse("it has no list 'data' or 'models'")
    return [_model(object_of(entry)) for entry in cast("list[Any]", entries)]


def box(data: Any) -> BoundingBox:
    """Read one box."""
    edges = object_of(data)
    x_min, y_min, x_max, y_max = (_number(edges, name) for name in ("x_min", "y_min", "x_max", "y_max"))
    return BoundingBox(x_min, y_min, x_max, y_max, optional_text(edges, "label"))


def position(data: Any) -> Point:
    """Read one point."""
    at = object_of(data)
    return Point(_number(at, "x"), _number(at, "y"), optional_text(at, "label"))


def reasoning(data: Any) -> Reasoning | None:
    """Read `reasoning`: an object with text and grounding, or bare text."""
    if data is None:
        return None
    if isinstance(data, str):
        return Reasoning(text=data)
    fields = object_of(data)
    spans = cast("list[Any]", fields.get("grounding") or [])
    return Reasoning(text=text_of(fields, "text"), grounding=tuple(_grounding(object_of(span)) for span in spans))


def metrics(fields: Mapping[str, Any]) -> Metrics | None:
    """Read `metrics`, or the token count of Station's `_stats`."""
    given = fields.get("metrics")
    if isinstance(given, dict):
        known = cast("Object", given)
        read, written, cached = (_count(known.get(name)) for name in _COUNTS)
        times = {name: _milliseconds(known.get(name)) for name in _TIMES}
        return Metrics(input_tokens=read, output_tokens=written, cached_tokens=cached, **times)
    stats = fields.get("_stats", fields.get("stats"))
    if isinstance(stats, dict):
        return Metrics(output_tokens=_count(cast("Object", stats).get("tokens")))
    return None


def _count(value: Any) -> int | None:
    """A count; None for what is not one. The answer is worth more than what is said of it."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return int(value) if is_number and 0 <= value <= _MAX_TOKENS and value == int(value) else None


def _milliseconds(value: Any) -> float | None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if is_number and 0 <= value <= _MAX_TOKENS else None


def summary(fields: Object | None) -> Result:
    """What any answer, or last event of a stream, says of the call: id, finish reason, metrics."""
    return Result(**_common(fields or {}, {}))


_COUNTS = ("input_tokens", "output_tokens", "cached_tokens")
_TIMES = ("prefill_time_ms", "decode_time_ms", "ttft_ms")
_COMMON = frozenset({"request_id", "finish_reason", "metrics"})


def _split(data: Any, *names: str) -> tuple[Object, Object]:
    fields = object_of(data)
    rest = {name: value for name, value in fields.items() if name not in names and name not in _COMMON}
    return fields, rest


def _common(fields: Object, rest: Object) -> dict[str, Any]:
    return {
        "request_id": optional_text(fields, "request_id"),
        "finish_reason": optional_text(fields, "finish_reason"),
        "metrics": metrics(fields),
        "extra": rest,
    }


def _model(entry: Object) -> Model:
    rest = {name: value for name, value in entry.items() if name not in ("id", "name", "description")}
    return Model(
        id=text_of(entry, "id"),
        name=optional_text(entry, "name"),
        description=optional_text(entry, "description"),
        extra=rest,
    )


def _grounding(span: Object) -> Grounding:
    points = cast("list[Any]", span.get("points") or [])
    return Grounding(
        start_idx=int(_number(span, "start_idx")),
        end_idx=int(_number(span, "end_idx")),
        points=tuple(_pair(point) for point in points),
    )


def _pair(data: Any) -> tuple[float, float]:
    try:
        x, y = data
        return float(x), float(y)
    except (TypeError, ValueError):
        raise InvalidResponse("a grounding point is not [x, y]") from None


def object_of(data: Any) -> Object:
    """The JSON object that it is.

    Raises:
        Unusable: It is something else.
    """
    if not isinstance(data, dict):
        raise InvalidResponse(f"there is {type(data).__name__} where an object should be")
    return cast("Object", data)


def text_of(fields: Object, name: str) -> str:
    """A field that is a text.

    Raises:
        Unusable: It is something else.
    """
    value = fields.get(name)
    if not isinstance(value, str):
        raise InvalidResponse(f"it has no text '{name}'")
    return value


def optional_text(fields: Object, name: str) -> str | None:
    """A field as a text; None if it is not there."""
    value = fields.get(name)
    return None if value is None else str(value)


def _number(fields: Object, name: str) -> float:
    value = fields.get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise InvalidResponse(f"it has no number '{name}'")
    return float(value)


def each_of(fields: Object, name: str, read: Callable[[Any], T]) -> tuple[T, ...]:
    """What the entries of a field that is a list are read as.

    Raises:
        Unusable: It is no list.
    """
    items = fields.get(name)
    if not isinstance(items, list):
        raise InvalidResponse(f"it has no list '{name}'")
    return tuple(read(item) for item in cast("list[Any]", items))
