"""Render segment paths as masks, filled by FreeType with the even-odd rule."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

from .._extras import import_extra
from .._images.limits import MAX_PIXELS
from ..errors import ConfigurationError, PathError
from ..types import SegmentResult
from .detections import Size
from .svg_paths import box_in_pixels, draw

if TYPE_CHECKING:
    from PIL.Image import Image

_HALF = 128  # gray level of a pixel that is half inside
_MAX_RUNS = 2_000_000  # of a mask; real outlines have thousands
_MAX_EDGE_LENGTH = 10_000_000  # pixels of all edges, which determine FreeType's time; real outlines have thousands
_MAX_POINTS = 32_000  # of a path, in FreeType
_MAX_SIDE = 32_000  # pixels, in FreeType


def mask(result: SegmentResult, size: Size, *, antialias: bool) -> Image:
    """Render the mask as a Pillow image of mode `L`, 255 inside.

    Raises:
        ConfigurationError: The size is too large, or the extra `vision` is not installed.
        PathError: The path cannot be parsed or filled, or there is no box.
    """
    from PIL import Image

    if size[0] * size[1] > MAX_PIXELS:
        raise ConfigurationError(f"A mask of {size[0]:,} x {size[1]:,} pixels is too large.")
    picture = Image.new("L", size)
    if not result.path.strip():
        return picture
    x, y, width, height = box_in_pixels(result, size)
    pen = import_extra("fontTools.pens.freetypePen", "vision").FreeTypePen(None)
    draw(result, pen, max_points=_MAX_POINTS)
    loops = [[(x + px * width, y + py * height) for px, py in contour.points] for contour in pen.contours]
    _check_edge_length(loops)
    region = _covered_region([point for loop in loops for point in loop], size)
    if region is None:
        return picture
    left, top, right, bottom = region
    # FreeType's y axis points upwards.
    transform = (width, 0, 0, -height, x - left, bottom - y)
    try:
        data, _ = pen.buffer(width=right - left, height=bottom - top, transform=transform, evenOdd=True)
    except Exception as exc:  # freetype-py's own error class
        raise PathError(f"The path cannot be filled at {size[0]:,} x {size[1]:,} pixels: {exc}.") from None
    part = Image.frombuffer("L", (right - left, bottom - top), data, "raw", "L", 0, 1)
    if not antialias:
        part = part.point([0] * _HALF + [255] * (256 - _HALF))
    picture.paste(part, (left, top))
    return picture


def mask_array(result: SegmentResult, size: Size) -> Any:
    """Render the mask as a NumPy array of bool, shape `(height, width)`."""
    return import_extra("numpy", "vision").asarray(mask(result, size, antialias=False)) > 0


def rle(result: SegmentResult, size: Size) -> dict[str, Any]:
    """Encode the mask as COCO's compressed run-length encoding: column by column, starting with a run outside.

    Raises:
        PathError: The mask has too many runs, or as in `mask`.
    """
    numpy = import_extra("numpy", "vision")
    inside = mask_array(result, size).reshape(-1, order="F")
    changes = numpy.flatnonzero(numpy.diff(inside)) + 1
    if changes.size > _MAX_RUNS:
        raise PathError(f"The mask has {changes.size:,} runs, more than {_MAX_RUNS:,}; use a smaller width and height.")
    bounds = [0, *([0] if inside[0] else []), *changes.tolist(), inside.size]
    return {"size": [size[1], size[0]], "counts": _compress_runs([b - a for a, b in itertools.pairwise(bounds)])}


def _compress_runs(runs: list[int]) -> str:
    """Encode each run as its difference from the run two before it, in groups of five bits, lowest first."""
    text = bytearray()
    for index, run in enumerate(runs):
        value, more = run - runs[index - 2] if index > 2 else run, True
        while more:
            group = value & 0x1F
            value >>= 5
            more = value != (-1 if group & 0x10 else 0)
            text.append((group | 0x20 if more else group) + 48)
    return text.decode("ascii")


def _check_edge_length(loops: list[list[tuple[float, float]]]) -> None:
    """Check that the edges can be filled quickly.

    Raises:
        PathError: They are too long.
    """
    edges = (edge for loop in loops for edge in itertools.pairwise([*loop, loop[0]]))
    length = sum(abs(bx - ax) + abs(by - ay) for (ax, ay), (bx, by) in edges)
    if length > _MAX_EDGE_LENGTH:
        raise PathError(
            f"The path's edges are {length:,.0f} pixels long at this size, more than {_MAX_EDGE_LENGTH:,}; "
            "use a smaller width and height."
        )


def _covered_region(points: list[tuple[float, float]], size: Size) -> tuple[int, int, int, int] | None:
    """Return the part of the image that the points enclose, or None if they lie outside the image.

    Raises:
        PathError: It is too large for FreeType.
    """
    left, top = (max(0, math.floor(min(point[axis] for point in points))) for axis in (0, 1))
    right, bottom = (min(size[axis], math.ceil(max(point[axis] for point in points))) for axis in (0, 1))
    if right <= left or bottom <= top:
        return None
    if max(right - left, bottom - top) > _MAX_SIDE:
        raise PathError(f"A mask of more than {_MAX_SIDE:,} pixels a side cannot be filled; use a smaller size.")
    return left, top, right, bottom
