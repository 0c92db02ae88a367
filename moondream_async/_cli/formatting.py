"""Results as text for people, or as JSON for programs."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from typing import Any

from .. import vision
from .._printable import one_line
from .._sync.streams import SegmentStream, TextStream
from ..types import BoundingBox, CaptionResult, DetectResult, Point, PointResult, QueryResult, Result, SegmentResult
from .console import show


def result(value: Result, form: str, image: str, labels: Sequence[str]) -> None:
    """Print a whole result.

    Args:
        value: The result.
        form: `table`, `json`, `jsonl`, `csv`, `coco`, `yolo` or `svg`.
        image: The image's name.
        labels: The labels that were requested.
    """
    show(_formatted(value, form, image, labels).rstrip("\n"))


def stream(pieces: TextStream[Any] | SegmentStream, form: str) -> None:
    """Print a stream as it arrives, as text or JSON lines; the reasoning comes last."""
    as_json = form in ("json", "jsonl")
    if isinstance(pieces, SegmentStream):
        is_line_open = False
        for update in pieces:
            if as_json:
                show(json.dumps(update.to_dict()), flush=True)
            elif update.completed:
                show("\n" * is_line_open + text(pieces.result()))
            else:
                is_line_open = True
                show(f"{box(update.bbox)}  " if update.bbox else update.chunk, end="", flush=True)
        return
    for piece in pieces:
        show(json.dumps({"chunk": piece}) + "\n" if as_json else piece, end="", flush=True)
    answer = pieces.result()
    show(json.dumps(answer.to_dict()) if as_json else "")
    if not as_json and isinstance(answer, QueryResult) and answer.reasoning:
        show(f"({answer.reasoning.text})")


def _formatted(value: Result, form: str, image: str, labels: Sequence[str]) -> str:
    if form in ("json", "jsonl"):
        return json.dumps(value.to_dict(), indent=2 if form == "json" else None)
    if form == "csv":
        return vision.to_csv(value, label=_default_label(labels))
    if form == "yolo":
        return vision.to_yolo(value, labels, label=_default_label(labels))
    if form == "coco":
        return coco([(image, value)], labels)
    if form == "svg" and isinstance(value, SegmentResult):
        return value.to_svg()
    return text(value)


def coco(results: Sequence[tuple[str, Result]], labels: Sequence[str]) -> str:
    """Format the results of images as a COCO document."""
    return json.dumps(vision.to_coco(results, categories=labels, label=_default_label(labels)))


def csv_rows(value: Result, labels: Sequence[str]) -> list[list[str]]:
    """Return a result as the rows of a table, the first with the names of the columns."""
    return list(csv.reader(io.StringIO(vision.to_csv(value, label=_default_label(labels)), newline="")))


def _default_label(labels: Sequence[str]) -> str:
    return labels[0] if len(labels) == 1 else "object"


def text(value: Result, *, image: str = "") -> str:
    """Format a result for a person.

    Args:
        value: The result.
        image: The name of the image, if there are several.
    """
    if isinstance(value, QueryResult):
        thoughts = f"({value.reasoning.text})\n" if value.reasoning else ""
        return thoughts + value.answer
    if isinstance(value, CaptionResult):
        return value.caption
    if isinstance(value, DetectResult):
        rows = [([b.x_min, b.y_min, b.x_max, b.y_max], b.label) for b in value.objects]
        return _table(["x_min", "y_min", "x_max", "y_max"], rows, value.by_label or (), image) + _more(value)
    if isinstance(value, PointResult):
        rows = [([p.x, p.y], p.label) for p in value.points]
        return _table(["x", "y"], rows, value.by_label or (), image) + _more(value)
    if isinstance(value, SegmentResult):
        lines = [box(value.bbox)] if value.bbox else []
        lines += [f"path (0..1 of the box): {value.path}"] if value.path else []
        return "\n".join(lines) or "not found"
    return repr(value)


def _more(value: Result) -> str:
    return "\nthere may be more: it stops at --max-objects" if value.truncated else ""


def box(value: BoundingBox) -> str:
    """Format a box in one line."""
    return f"box {value.x_min:.3f} {value.y_min:.3f} {value.x_max:.3f} {value.y_max:.3f}"


def point(value: Point) -> str:
    """Format a point in one line."""
    return f"{value.x:.3f} {value.y:.3f}"


def _table(names: list[str], rows: list[tuple[list[float], str | None]], labels: Iterable[str], image: str) -> str:
    if not rows:
        return "nothing found"
    labelled = any(label for _, label in rows)
    lines = ["".join(f"{name:>8}" for name in ["#", *names]) + ("  label" if labelled else "")]
    for number, (row, label) in enumerate(rows, 1):
        lines.append(
            f"{number:>8}" + "".join(f"{value:8.3f}" for value in row) + (f"  {one_line(label)}" if label else "")
        )
    missing = [one_line(label) for label in labels if all(label != found for _, found in rows)]
    if missing:
        lines.append(f"{one_line(image)}: " * bool(image) + f"not found: {', '.join(missing)}")
    return "\n".join(lines)
