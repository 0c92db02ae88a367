"""Find the rectangles near another one without comparing it with all (pure)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Generic, TypeVar

T = TypeVar("T")

Edges = tuple[float, float, float, float]  # left, top, right, bottom


class SpatialIndex(Generic[T]):
    """Values by the cells of a grid that their rectangles cover.

    Args:
        cell: Side of a cell, in the unit of the rectangles.
    """

    def __init__(self, cell: float) -> None:
        self._cell = cell
        self._cells: dict[tuple[int, int], list[T]] = {}

    def add(self, edges: Edges, value: T) -> None:
        """Add a value with its rectangle."""
        for cell in self._covered(edges):
            self._cells.setdefault(cell, []).append(value)

    def near(self, edges: Edges) -> Iterator[T]:
        """Yield the values whose rectangles may intersect this one, each once."""
        seen: set[int] = set()
        for cell in self._covered(edges):
            for value in self._cells.get(cell, ()):
                if id(value) not in seen:
                    seen.add(id(value))
                    yield value

    def _covered(self, edges: Edges) -> Iterator[tuple[int, int]]:
        left, top, right, bottom = (math.floor(edge / self._cell) for edge in edges)
        for row in range(top, bottom + 1):
            for column in range(left, right + 1):
                yield row, column
