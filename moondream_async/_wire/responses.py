"""Convert responses to results: every field of moondream-api.md 1.3; unknown fields are kept in `extra`."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NoReturn, TypeGuard, TypeVar, cast

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
    """The response does not have the documented format; the message says what is wrong."""


PARSE_ERRORS = (InvalidResponse, TypeError, ValueError, ArithmeticError, LookupError, AttributeError)
"""All errors that reading JSON in an undocumented format can raise."""


MAX_DEPTH = 64
"""Maximum nesting of lists and objects. Responses have 5 levels; many more could overflow the stack."""

_MAX_TOKENS = 2**53
_MAX_DIGITS = 308  # of an integer that fits a double


def decode(body: str | bytes) -> Any:
    """Decode a JSON body.

    Numbers that are not finite (`NaN`, `1e999`) or too large for a double become None, as they could not be written
    as JSON again.

    Raises:
        InvalidResponse: It is not JSON, or nested more than 64 levels deep.
    """
    try:
        data = _DECODER.decode(body if isinstance(body, str) else _to_text(body))
    except (ValueError, RecursionError):
        raise InvalidResponse("it is not JSON, or nested too deeply") from None
    if _count_brackets(body) > MAX_DEPTH and _is_deeper(data, MAX_DEPTH):
        raise InvalidResponse(f"it is nested more than {MAX_DEPTH} levels deep")
    return data


def _to_text(body: bytes) -> str:
    if body.isascii() and b"\0" not in body:  # otherwise it may be UTF-16 or UTF-32
        return body.decode("ascii")
    return body.decode(json.detect_encoding(body), "surrogatepass")


def _parse_constant(_: str) -> None:
    return None


def _parse_float(digits: str) -> float | None:
    number = float(digits)
    return number if math.isfinite(number) else None


def _parse_int(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MAX_DIGITS else None


_DECODER = json.JSONDecoder(parse_constant=_parse_constant, parse_float=_parse_float, parse_int=_parse_int)


def reject_number(word: str) -> NoReturn:
    """Raise for a number that JSON does not have, such as `NaN`."""
    raise ValueError(f"{word} is not a JSON number")


def finite(digits: str) -> float:
    """Parse a number; raise if it is too large for a double."""
    number = float(digits)
    return number if math.isfinite(number) else reject_number(digits)


def _count_brackets(body: str | bytes) -> int:
    if isinstance(body, str):
        return body.count("[") + body.count("{")
    return body.count(b"[") + body.count(b"{")


def _is_deeper(data: Any, depth: int) -> bool:
    """Return whether lists and objects are nested deeper than this; visits each value once."""
    level: list[Any] = [data]
    for _ in range(depth):
        level = [child for value in level for child in children(value)]
    return any(isinstance(value, (list, dict)) for value in level)


def children(value: Any) -> Iterable[Any]:
    """Return the values in a list or an object; nothing of any other value."""
    if is_object(value):
        return value.values()
    return value if is_list(value) else ()


def query(data: Any, meta: Meta) -> QueryResult:
    """Read the response of `/query`."""
    fields, extra = _split(data, "answer", "reasoning")
    answer, thoughts = text_of(fields, "answer"), fields.get("reasoning")
    return QueryResult(answer=answer, reasoning=reasoning(thoughts), meta=meta, **_common(fields, extra))


def caption(data: Any, meta: Meta) -> CaptionResult:
    """Read the response of `/caption`."""
    fields, extra = _split(data, "caption")
    return CaptionResult(caption=text_of(fields, "caption"), meta=meta, **_common(fields, extra))


def detect(data: Any, meta: Meta) -> DetectResult:
    """Read the response of `/detect`."""
    fields, extra = _split(data, "objects")
    return DetectResult(objects=each_of(fields, "objects", box), meta=meta, **_common(fields, extra))


def point(data: Any, meta: Meta) -> PointResult:
    """Read the response of `/point`."""
    fields, extra = _split(data, "points", "count")
    points, count = each_of(fields, "points", position), fields.get("count")
    return PointResult(points=points, count=_count(count), meta=meta, **_common(fields, extra))


def segment(data: Any, meta: Meta) -> SegmentResult:
    """Read the response of `/segment`."""
    fields, extra = _split(data, "path", "bbox", "parse_error")
    bbox = fields.get("bbox")
    return SegmentResult(
        path=text_of(fields, "path"),
        bbox=None if bbox is None else box(bbox),
        parse_error=optional_text(fields, "parse_error"),
        meta=meta,
        **_common(fields, extra),
    )


def models(data: Any) -> list[Model]:
    """Read the response of `GET /models`, in OpenAI's format (`data`) or Station's (`models`)."""
    listing = object_of(data)
    entries = listing.get("data", listing.get("models"))
    if not is_list(entries):
        raise InvalidResponse("it has no list 'data' or 'models'")
    return [_model(object_of(entry)) for entry in entries]


def box(data: Any) -> BoundingBox:
    """Read a bounding box."""
    edges = object_of(data)
    x_min, y_min, x_max, y_max = (_number(edges, name) for name in _EDGES)
    extra = _others(edges, *_EDGES, "label")
    return BoundingBox(x_min, y_min, x_max, y_max, optional_text(edges, "label"), extra=extra)


def position(data: Any) -> Point:
    """Read a point."""
    fields = object_of(data)
    extra = _others(fields, "x", "y", "label")
    return Point(_number(fields, "x"), _number(fields, "y"), optional_text(fields, "label"), extra=extra)


def reasoning(data: Any) -> Reasoning | None:
    """Read `reasoning`: an object with text and grounding, or plain text."""
    if data is None:
        return None
    if isinstance(data, str):
        return Reasoning(text=data)
    fields = object_of(data)
    spans = cast("list[Any]", fields.get("grounding") or [])
    return Reasoning(text=text_of(fields, "text"), grounding=tuple(_grounding(object_of(span)) for span in spans))


def metrics(fields: Mapping[str, Any]) -> Metrics | None:
    """Read `metrics`, or the token count in Station's `_stats`."""
    values = fields.get("metrics")
    if is_object(values):
        get = values.get
        return Metrics(
            _count(get("input_tokens")),
            _count(get("output_tokens")),
            _milliseconds(get("prefill_time_ms")),
            _milliseconds(get("decode_time_ms")),
            _milliseconds(get("ttft_ms")),
            _count(get("cached_tokens")),
        )
    stats = fields.get("_stats", fields.get("stats"))
    if is_object(stats):
        return Metrics(output_tokens=_count(stats.get("tokens")))
    return None


def _count(value: Any) -> int | None:
    """Return a count, or None if it is not valid: invalid metrics are no reason to lose the answer."""
    number = _milliseconds(value)
    return int(number) if number is not None and number == int(number) else None


def _milliseconds(value: Any) -> float | None:
    is_number = type(value) is int or type(value) is float  # neither a bool nor None
    return value if is_number and 0 <= value <= _MAX_TOKENS else None


def summary(fields: Object | None) -> Result:
    """Read request id, finish reason and metrics from any response, or from the last event of a stream."""
    return Result(**_common(fields or {}, {}))


_EDGES = ("x_min", "y_min", "x_max", "y_max")
_COMMON = frozenset({"request_id", "finish_reason", "metrics"})


def _split(data: Any, *names: str) -> tuple[Object, Object]:
    """Return all fields, and those that are neither named nor common to all skills."""
    fields = object_of(data)
    return fields, _others(fields, *names, *_COMMON)


def _others(fields: Object, *names: str) -> Object:
    """Return the fields that are not named."""
    return {name: value for name, value in fields.items() if name not in names}


def _common(fields: Object, extra: Object) -> dict[str, Any]:
    return {
        "request_id": optional_text(fields, "request_id"),
        "finish_reason": optional_text(fields, "finish_reason"),
        "metrics": metrics(fields),
        "extra": extra,
    }


def _model(entry: Object) -> Model:
    extra = {name: value for name, value in entry.items() if name not in ("id", "name", "description")}
    return Model(
        id=text_of(entry, "id"),
        name=optional_text(entry, "name"),
        description=optional_text(entry, "description"),
        extra=extra,
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


def is_object(value: object) -> TypeGuard[Object]:
    """Return whether a decoded value is a JSON object."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Return whether a decoded value is a JSON array."""
    return isinstance(value, list)


def object_of(data: Any) -> Object:
    """Return the data, if it is a JSON object.

    Raises:
        InvalidResponse: It is not an object.
    """
    if not is_object(data):
        raise InvalidResponse(f"it has {type(data).__name__} instead of an object")
    return data


def text_of(fields: Object, name: str) -> str:
    """Return a text field.

    Raises:
        InvalidResponse: It is missing or not text.
    """
    value = fields.get(name)
    if not isinstance(value, str):
        raise InvalidResponse(f"it has no text '{name}'")
    return value


def optional_text(fields: Object, name: str) -> str | None:
    """Return a field as text, or None if it is missing."""
    value = fields.get(name)
    return None if value is None else str(value)


def _number(fields: Object, name: str) -> float:
    value = fields.get(name)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise InvalidResponse(f"it has no number '{name}'")
    return float(value)


def each_of(fields: Object, name: str, read: Callable[[Any], T]) -> tuple[T, ...]:
    """Read each entry of a list field.

    Raises:
        InvalidResponse: It is missing or not a list.
    """
    items = fields.get(name)
    if not is_list(items):
        raise InvalidResponse(f"it has no list '{name}'")
    return tuple(read(item) for item in items)


def page(data: Any, name: str, read: Callable[[Any], T]) -> tuple[list[T], str | None]:
    """Read a page of a list: its entries, and the cursor of the next page (None: this is the last)."""
    fields = object_of(data)
    cursor = optional_text(fields, "next_cursor")
    if fields.get("has_more") and not cursor:
        raise InvalidResponse("it has more pages, but no 'next_cursor'")
    return list(each_of(fields, name, read)), cursor if cursor and fields.get("has_more", True) else None
