"""Choose the grid of tiles of an image (pure; reference: image-pipeline.md)."""

from __future__ import annotations

import math
from collections.abc import Iterator

import attrs

from .._images.crop_grid import best_size, detail
from ..tiles import Tiles

_SEEN = 0.64  # share of an image's pixels; if the model sees this much of it, it is not cut
_SHRINK = 0.97  # steps in which an image is shrunk until the number of its tiles is allowed
_FULL_TILES = ((1176, 910), (910, 1176))  # the largest images of which the model sees every pixel


@attrs.frozen
class Region:
    """A tile, in pixels of the upright image."""

    left: int
    top: int
    right: int
    bottom: int

    @property
    def width(self) -> int:
        """The width in pixels."""
        return self.right - self.left

    @property
    def height(self) -> int:
        """The height in pixels."""
        return self.bottom - self.top


def grid(width: int, height: int, tiles: Tiles) -> tuple[int, int]:
    """Return the columns and rows of tiles for an image of this size in pixels.

    If more tiles than allowed would be needed to show the model every pixel, the tiles are larger than what it sees.
    """
    if tiles.columns is not None and tiles.rows is not None:
        return min(tiles.columns, width), min(tiles.rows, height)
    if detail(*best_size(width, height)) >= _SEEN * width * height:
        return 1, 1
    scale = 1.0
    while True:
        columns, rows = _smallest_grid(width * scale, height * scale, tiles.overlap)
        if columns * rows <= tiles.max_tiles:
            return columns, rows
        scale *= _SHRINK


def regions(width: int, height: int, columns: int, rows: int, overlap: float) -> list[Region]:
    """Return the tiles, row by row.

    Args:
        width: The image's width in pixels.
        height: The image's height in pixels.
        columns: The number of columns.
        rows: The number of rows.
        overlap: How far neighbors overlap, as a fraction of a tile's side.
    """
    return [
        Region(left, top, right, bottom)
        for top, bottom in _spans(height, rows, overlap)
        for left, right in _spans(width, columns, overlap)
    ]


def _smallest_grid(width: float, height: float, overlap: float) -> tuple[int, int]:
    grids = [(_count(width, w, overlap), _count(height, h, overlap)) for w, h in _FULL_TILES]
    return min(grids, key=lambda each: each[0] * each[1])


def _count(length: float, tile: int, overlap: float) -> int:
    """Return how many overlapping tiles of a length cover a length."""
    return 1 if length <= tile else math.ceil((length - tile * overlap) / (tile * (1 - overlap)))


def _spans(length: int, count: int, overlap: float) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each tile along one side, of equal lengths."""
    tile = min(length, math.ceil(length / (count - (count - 1) * overlap)))
    for index in range(count):
        start = round(index * (length - tile) / max(1, count - 1))
        yield start, start + tile
