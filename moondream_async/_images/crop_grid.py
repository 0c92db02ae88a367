"""What the model sees of an image, and the size at which it sees the most (reference: image-pipeline.md).

Pure arithmetic. The encoder cuts the image into `rows` x `columns` crops of 378 pixels that overlap, at
most 12 of them, after resizing it, aspect not kept, to exactly fill them. So pixels beyond about 1.07 MP
never reach the model, and a larger image can reach it with less detail than a smaller one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

_CROP = 378  # pixels of a crop's side
_OVERLAP = 56  # pixels by which neighbours overlap, on each side
_WINDOW = _CROP - 2 * _OVERLAP  # pixels each crop adds
_MARGIN = 2 * _OVERLAP
_MAX_CROPS = 12
_ALL_LENGTHS = 8192
_NEXT_TO_ALL = 0.95  # of the pixels; for less than that a resize is not worth its blur


def crop_grid(width: int, height: int) -> tuple[int, int]:
    """Rows and columns of local crops for an image of this size in pixels."""
    w, h = width - _MARGIN, height - _MARGIN
    if w <= _WINDOW or h <= _WINDOW:
        return 1, 1
    min_rows, min_columns = math.ceil(h / _WINDOW), math.ceil(w / _WINDOW)
    if min_rows * min_columns > _MAX_CROPS:
        ratio = math.sqrt(_MAX_CROPS / (min_rows * min_columns))
        return max(1, math.floor(min_rows * ratio)), max(1, math.floor(min_columns * ratio))
    rows = max(math.floor(math.sqrt(_MAX_CROPS * h / w)), min_rows)
    columns = max(math.floor(math.sqrt(_MAX_CROPS * w / h)), min_columns)
    if rows * columns > _MAX_CROPS:
        if rows > columns:
            rows = math.floor(_MAX_CROPS / columns)
        else:
            columns = math.floor(_MAX_CROPS / rows)
    return rows, columns


def seen_size(width: int, height: int) -> tuple[int, int]:
    """Width and height, in pixels, to which the model resizes an image of this size."""
    rows, columns = crop_grid(width, height)
    return columns * _WINDOW + _MARGIN, rows * _WINDOW + _MARGIN


def detail(width: int, height: int) -> int:
    """How many independent pixels of an image sent at this size reach the model."""
    seen_width, seen_height = seen_size(width, height)
    return min(width, seen_width) * min(height, seen_height)


@functools.lru_cache(maxsize=1024)
def best_size(width: int, height: int) -> tuple[int, int]:
    """The size to send: of all that keep the aspect and enlarge nothing, the one with the most detail.

    Among those with equal detail it is the smallest; the original itself where that saves next to
    nothing. Every length of the longer side is tried: the grid jumps, and no formula finds its peaks.
    """
    longer, shorter = max(width, height), min(width, height)
    best, most = (width, height), 0
    for length in _lengths(longer, shorter):
        exact = shorter * length / longer
        for other in sorted({max(1, math.floor(exact)), min(shorter, math.ceil(exact))}):
            size = (length, other) if width >= height else (other, length)
            found = detail(*size)
            if found > most:
                best, most = size, found
    saves_nothing = best[0] * best[1] > _NEXT_TO_ALL * width * height and detail(width, height) == most
    return (width, height) if saves_nothing else best


def _lengths(longer: int, shorter: int) -> Iterator[int]:
    """Lengths of the longer side worth trying: all of them, as far as any image that is not a thread needs."""
    yield from range(1, min(longer, _ALL_LENGTHS) + 1)
    # Beyond, only the other side still has anything to gain: where it grows by a pixel.
    for other in range(min(shorter, _ALL_LENGTHS)):
        length = other * longer // shorter + 1
        if length > _ALL_LENGTHS:
            yield length
