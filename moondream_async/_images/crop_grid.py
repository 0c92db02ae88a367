"""Compute the size at which the model gets the most detail of an image (pure; reference: image-pipeline.md).

The vision encoder resizes an image, without keeping its aspect ratio, to fill a grid of `rows` x `columns`
overlapping crops of 378 pixels, at most 12 of them. So pixels beyond about 1.07 MP never reach the model, and a
larger image can reach it with less detail than a smaller one.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator

_CROP = 378  # side of a crop, in pixels
_OVERLAP = 56  # pixels by which neighboring crops overlap, on each side
_WINDOW = _CROP - 2 * _OVERLAP  # pixels that each crop adds
_MARGIN = 2 * _OVERLAP
_MAX_CROPS = 12
_MAX_SEARCHED = 8192  # pixels; up to this side, every length is tried
_MIN_SAVING = 0.95  # resize only to less than this share of the pixels; otherwise it is not worth the blur


def crop_grid(width: int, height: int) -> tuple[int, int]:
    """Return the rows and columns of crops for an image of this size in pixels."""
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
    """Return the width and height, in pixels, to which the model resizes an image of this size."""
    rows, columns = crop_grid(width, height)
    return columns * _WINDOW + _MARGIN, rows * _WINDOW + _MARGIN


def detail(width: int, height: int) -> int:
    """Return how many independent pixels of an image sent at this size reach the model."""
    seen_width, seen_height = seen_size(width, height)
    return min(width, seen_width) * min(height, seen_height)


@functools.lru_cache(maxsize=1024)
def best_size(width: int, height: int) -> tuple[int, int]:
    """Return the size to send: the one with the most detail that keeps the aspect ratio and does not enlarge.

    Of several sizes with equal detail it is the smallest, or the original size if that saves less than 5 %
    of the pixels. Every length of the longer side is tried: the grid changes in steps, and there is no formula
    for its maxima.
    """
    longer, shorter = max(width, height), min(width, height)
    best, most = (width, height), 0
    for length in _candidate_lengths(longer, shorter):
        exact = shorter * length / longer
        for other in sorted({max(1, math.floor(exact)), min(shorter, math.ceil(exact))}):
            size = (length, other) if width >= height else (other, length)
            pixels = detail(*size)
            if pixels > most:
                best, most = size, pixels
    saves_little = best[0] * best[1] > _MIN_SAVING * width * height and detail(width, height) == most
    return (width, height) if saves_little else best


def _candidate_lengths(longer: int, shorter: int) -> Iterator[int]:
    """Yield the lengths of the longer side worth trying."""
    yield from range(1, min(longer, _MAX_SEARCHED) + 1)
    # Longer images reach the model at a few thousand pixels: detail only changes where the other side grows by a pixel,
    # or the side fills one more crop.
    steps = {other * longer // shorter + 1 for other in range(min(shorter, _MAX_SEARCHED))}
    if shorter > _CROP:  # narrower images always fill a single crop
        steps |= set(range(_MARGIN + 1, longer + 1, _WINDOW))
    yield from sorted(length for length in steps if length > _MAX_SEARCHED)
