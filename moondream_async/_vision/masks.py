"""Segment paths as masks: filled by FreeType, even-odd."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from .._images.limits import MAX_PIXELS
from ..errors import ConfigurationError, PathError
from ..types import SegmentResult
from .svg_paths import Size, draw, needed, placed

if TYPE_CHECKING:
    from PIL.Image import Image

_HALF = 128
_MAX_RUNS = 2_000_000  # of a mask; that of a real outline has thousands
_LONGEST = 10_000_000  # pixels along all edges: what FreeType's time goes by; those of a real outline are thousands
_MAX = 32_000  # points of a path, and pixels of a side, that FreeType counts


def mask(result: SegmentResult, size: Size, *, antialias: bool) -> Image:
    """Mode `L`, 255 inside."""
    from PIL import Image

    if size[0] * size[1] > MAX_PIXELS:
        raise ConfigurationError(f"A mask of {size[0]:,} x {size[1]:,} pixels is too large.")
    picture = Image.new("L", size)
    if not result.path.strip():
        return picture
    x, y, across, down = placed(result, size)
    pens = needed("fontTools.pens.freetypePen")
    pen = pens.FreeTypePen(None)
    draw(result, _Limited(pen))
    loops = [[(x + px * across, y + py * down) for px, py in contour.points] for contour in pen.contours]
    _check_length(loops)
    region = _region([point for loop in loops for point in loop], size)
    if region is None:
        return picture
    left, top, right, bottom = region
    # FreeType counts upwards from the bottom.
    place = (across, 0, 0, -down, x - left, bottom - y)
    try:
        data, _ = pen.buffer(width=right - left, height=bottom - top, transform=place, evenOdd=True)
    except Exception as exc:  # freetype-py's own
        raise PathError(f"The path cannot be filled at {size[0]:,} x {size[1]:,} pixels: {exc}.") from None
    part = Image.frombuffer("L", (right - left, bottom - top), data, "raw", "L", 0, 1)
    if not antialias:
        part = part.point([0] * _HALF + [255] * (256 - _HALF))
    picture.paste(part, (left, top))
    return picture


def mask_array(result: SegmentResult, size: Size) -> Any:
    """NumPy, bool, `(height, width)`."""
    return needed("numpy").asarray(mask(result, size, antialias=False)) > 0


def rle(result: SegmentResult, size: Size) -> dict[str, Any]:
    """COCO's compressed run lengths: down the columns, outside first."""
    numpy = needed("numpy")
    inside = mask_array(result, size).reshape(-1, order="F")
    changes = numpy.flatnonzero(numpy.diff(inside)) + 1
    if changes.size > _MAX_RUNS:
        raise PathError(f"The mask has {changes.size:,} runs, more than {_MAX_RUNS:,}; ask for a smaller one.")
    bounds = [0, *([0] if inside[0] else []), *changes.tolist(), inside.size]
    return {"size": [size[1], size[0]], "counts": _packed([b - a for a, b in itertools.pairwise(bounds)])}


def _packed(runs: list[int]) -> str:
    """Each run as its difference to that two before it, in groups of five bits, the lowest first."""
    text = bytearray()
    for index, run in enumerate(runs):
        value, more = run - runs[index - 2] if index > 2 else run, True
        while more:
            group = value & 0x1F
            value >>= 5
            more = value != (-1 if group & 0x10 else 0)
            text.append((group | 0x20 if more else group) + 48)
    return text.decode("ascii")


class _Limited:
    """Hands on to another pen no more points than FreeType counts."""

    def __init__(self, pen: Any) -> None:
        self._pen = pen
        self._count = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._pen, name)

        def call(*points: Any) -> None:
            self._count += len(points)
            if self._count > _MAX:
                raise PathError(f"The path has more than {_MAX:,} points; no more can be filled.")
            method(*points)

        return call


def _check_length(loops: list[list[tuple[float, float]]]) -> None:
    """Refuse edges that would take long to fill.

    Raises:
        PathError: They are too long.
    """
    edges = (edge for loop in loops for edge in itertools.pairwise([*loop, loop[0]]))
    length = sum(abs(bx - ax) + abs(by - ay) for (ax, ay), (bx, by) in edges)
    if length > _LONGEST:
        raise PathError(f"The path's edges are {length:,.0f} pixels long at this size; ask for a smaller mask.")


def _region(points: list[tuple[float, float]], size: Size) -> tuple[int, int, int, int] | None:
    """The part of the image that the points reach; None if there is none.

    Raises:
        PathError: It is too large for FreeType.
    """
    left, top = (max(0, math.floor(min(point[axis] for point in points))) for axis in (0, 1))
    right, bottom = (min(size[axis], math.ceil(max(point[axis] for point in points))) for axis in (0, 1))
    if right <= left or bottom <= top:
        return None
    if max(right - left, bottom - top) > _MAX:
        raise PathError(f"A side of more than {_MAX:,} pixels cannot be filled; ask for a smaller mask.")
    return left, top, right, bottom
