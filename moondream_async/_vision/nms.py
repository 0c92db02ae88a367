"""Non-maximum suppression without NumPy (pure)."""

from __future__ import annotations

import bisect
import math
from collections.abc import Iterable, Sequence
from typing import TypeAlias

from ..types import BoundingBox

_MAX_COORDINATE = 1e100  # beyond this, products of edges may not be finite

Edges: TypeAlias = tuple[float, float, float, float, float]  # x_min, y_min, x_max, y_max, area


def nms(boxes: Sequence[BoundingBox], iou: float) -> list[BoundingBox]:
    """Return the boxes that do not overlap an earlier kept box of the same label by `iou` or more."""
    if not iou > 0 or not all(_is_ordinary(box) for box in boxes):
        return _pairwise(boxes, iou)
    kept: list[BoundingBox] = []
    indexes: dict[str | None, _Index] = {}
    for box in boxes:
        edges = (box.x_min, box.y_min, box.x_max, box.y_max, box.area)
        if not edges[4]:  # empty boxes overlap nothing
            kept.append(box)
            continue
        index = indexes.setdefault(box.label, _Index())
        if not _any_overlaps(edges, index.near(edges), iou):
            kept.append(box)
            index.add(edges)
    return kept


class _Index:
    """Boxes sorted by their left edge, one list for each power of two of their width.

    Only boxes that start less than their own width to the left of a box can overlap it. Grouping by width keeps one
    wide box from widening every search.
    """

    def __init__(self) -> None:
        self._by_exponent: dict[int, list[Edges]] = {}

    def add(self, edges: Edges) -> None:
        exponent = math.frexp(edges[2] - edges[0])[1]  # the width is less than 2**exponent
        bisect.insort(self._by_exponent.setdefault(exponent, []), edges)

    def near(self, edges: Edges) -> Iterable[Edges]:
        for exponent, group in self._by_exponent.items():
            first = math.nextafter(edges[0] - math.ldexp(1.0, exponent), -math.inf)  # the subtraction may round up
            yield from group[bisect.bisect_left(group, (first,)) : bisect.bisect_left(group, (edges[2],))]


def _any_overlaps(edges: Edges, others: Iterable[Edges], iou: float) -> bool:
    """Return whether a box overlaps any of the others by `iou` or more; computed as in `BoundingBox.iou`."""
    left, top, right, bottom, area = edges
    for x_min, y_min, x_max, y_max, other_area in others:
        if y_min >= bottom or y_max <= top or x_max <= left or x_min >= right:
            continue
        shared = (min(right, x_max) - max(left, x_min)) * (min(bottom, y_max) - max(top, y_min))
        union = area + other_area - shared
        if union and shared / union >= iou:
            return True
    return False


def _pairwise(boxes: Sequence[BoundingBox], iou: float) -> list[BoundingBox]:
    """Suppress by comparing all pairs, which also handles NaN, infinity and thresholds of 0 or less."""
    kept: list[BoundingBox] = []
    for box in boxes:
        if not any(box.label == other.label and box.iou(other) >= iou for other in kept):
            kept.append(box)
    return kept


def _is_ordinary(box: BoundingBox) -> bool:
    return all(abs(edge) < _MAX_COORDINATE for edge in (box.x_min, box.y_min, box.x_max, box.y_max))
