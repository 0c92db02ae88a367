"""Results as text for people, or as JSON for programs."""

from __future__ import annotations

import json
from typing import Any

from ..sync_streams import SegmentStream, TextStream
from ..types import (
    BoundingBox,
    CaptionResult,
    DetectResult,
    Point,
    PointResult,
    QueryResult,
    Result,
    SegmentResult,
)


def result(value: Result, *, as_json: bool) -> None:
    """Print a whole result."""
    print(json.dumps(value.to_dict(), indent=2) if as_json else text(value))


def stream(pieces: TextStream[Any] | SegmentStream, *, as_json: bool) -> None:
    """Print a stream as it comes."""
    if isinstance(pieces, SegmentStream):
        for update in pieces:
            if as_json:
                print(json.dumps(update.to_dict()), flush=True)
            elif update.completed:
                print("\n" + text(pieces.result()))
            else:
                print(box(update.bbox) if update.bbox else update.chunk, end="", flush=True)
        return
    for piece in pieces:
        print(json.dumps({"chunk": piece}) + "\n" if as_json else piece, end="", flush=True)
    print(json.dumps(pieces.result().to_dict()) if as_json else "")


def text(value: Result) -> str:
    """A result as a person would like to read it."""
    if isinstance(value, QueryResult):
        thoughts = f"({value.reasoning.text})\n" if value.reasoning else ""
        return thoughts + value.answer
    if isinstance(value, CaptionResult):
        return value.caption
    if isinstance(value, DetectResult):
        return _table(
            ["x_min", "y_min", "x_max", "y_max"], [[b.x_min, b.y_min, b.x_max, b.y_max] for b in value.objects]
        )
    if isinstance(value, PointResult):
        return _table(["x", "y"], [[p.x, p.y] for p in value.points])
    if isinstance(value, SegmentResult):
        return f"{box(value.bbox) if value.bbox else 'not found'}\npath (0..1 of the box): {value.path}".rstrip()
    return repr(value)


def box(value: BoundingBox) -> str:
    """A box in one line."""
    return f"box {value.x_min:.3f} {value.y_min:.3f} {value.x_max:.3f} {value.y_max:.3f}  "


def point(value: Point) -> str:
    """A point in one line."""
    return f"{value.x:.3f} {value.y:.3f}"


def _table(names: list[str], rows: list[list[float]]) -> str:
    if not rows:
        return "nothing found"
    lines = ["".join(f"{name:>8}" for name in ["#", *names])]
    lines += [f"{number:>8}" + "".join(f"{value:8.3f}" for value in row) for number, row in enumerate(rows, 1)]
    return "\n".join(lines)
