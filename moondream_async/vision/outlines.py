"""Segment paths: read, set into the image, written as SVG, made polygons."""

from __future__ import annotations

import importlib
import math
import re
from typing import Any
from xml.sax.saxutils import quoteattr

from ..errors import ConfigurationError, PathError
from ..types import BoundingBox, SegmentResult

Size = tuple[int, int]
Point = tuple[float, float]

_NO_PART_OF_A_PATH = re.compile(r"[^MmZzLlHhVvCcSsQqTtAa0-9eE+\-., \t\r\n]+")
_FARTHEST = 16.0  # boxes away from its own, beyond which no point of a sane path lies
_FINEST = 1e-3  # pixels; pieces are not made shorter for the sake of their curve


def to_svg(result: SegmentResult, size: Size, *, fill: str, opacity: float) -> str:
    """A whole SVG, in the image's pixels."""
    if not isinstance(fill, str) or not fill.isprintable():
        raise ConfigurationError(f"fill must be a colour as SVG has it, such as '#ff00ff', not {fill!r}.")
    if not isinstance(opacity, (int, float)) or isinstance(opacity, bool) or not 0 <= opacity <= 1:
        raise ConfigurationError(f"opacity must be from 0 to 1, not {opacity!r}.")
    width, height = size
    begin = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    if not result.path.strip():
        return f"{begin}</svg>"
    x, y, across, down = placed(result, size)
    draw(result, FlatteningPen(1.0, 1.0))  # refuses what is no path
    place = f"translate({x:.12g} {y:.12g}) scale({across:.12g} {down:.12g})"
    style = f"fill={quoteattr(fill)} fill-opacity={quoteattr(f'{opacity:g}')}"
    return f'{begin}<path fill-rule="evenodd" {style} transform="{place}" d={quoteattr(result.path)}/></svg>'


def polygons(result: SegmentResult, size: Size, *, tolerance: float) -> list[list[Point]]:
    """The loops, in the image's pixels."""
    if not (isinstance(tolerance, (int, float)) and _FINEST <= tolerance < math.inf):
        raise ConfigurationError(f"tolerance must be pixels, from {_FINEST}, not {tolerance!r}.")
    if not result.path.strip():
        return []
    x, y, across, down = placed(result, size)
    pen = FlatteningPen(tolerance / max(across, 1e-9), tolerance / max(down, 1e-9))
    draw(result, pen)
    return [[(x + px * across, y + py * down) for px, py in loop] for loop in pen.loops if len(set(loop)) > 2]


def placed(result: SegmentResult, size: Size) -> tuple[float, float, float, float]:
    """Where the path's box lies: left, top, width and height, in pixels.

    Raises:
        PathError: There is none.
    """
    box: BoundingBox | None = result.bbox
    if box is None:
        raise PathError("The path is relative to a box, and the server sent none.")
    edges = (box.x_min, box.y_min, box.x_max, box.y_max)
    if not all(math.isfinite(edge) and abs(edge) < _FARTHEST for edge in edges):
        raise PathError(f"The box {edges} is none.")
    return box.x_min * size[0], box.y_min * size[1], box.width * size[0], box.height * size[1]


def draw(result: SegmentResult, pen: Any) -> None:
    """Draw the path, in its own coordinates, with one of fontTools' pens.

    Raises:
        PathError: It cannot be read.
        ConfigurationError: The extra `vision` is missing.
    """
    stranger = _NO_PART_OF_A_PATH.search(result.path)
    if stranger is not None:
        raise PathError(f"The path cannot be read: {stranger[0]!r} is no command of SVG paths.")
    parse = needed("fontTools.svgLib.path").parse_path
    try:
        parse(result.path, _Careful(pen))
    except PathError:
        raise
    except Exception as exc:
        problem = str(exc) or type(exc).__name__
    else:
        return
    raise PathError(f"The path cannot be read: {problem}.")


def needed(module: str) -> Any:
    """A module of the extra.

    Raises:
        ConfigurationError: It is missing.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigurationError("This needs the extra 'vision': pip install 'moondream-async[vision]'.") from None


class _Careful:
    """Hands on to another pen what has sane coordinates; ends loops that the path leaves open."""

    def __init__(self, pen: Any) -> None:
        self._pen = pen

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._pen, name)

        def call(*points: Any, **more: Any) -> None:
            for point in points:
                if point is not None and not all(abs(value) <= _FARTHEST for value in point):
                    raise PathError(f"The path goes to {point}, far outside its box.")
            method(*points, **more)

        return call


class FlatteningPen:
    """Collects loops of straight pieces; by the protocol of fontTools' pens.

    Args:
        across: How far a piece may miss its curve, in the path's own units, sideways.
        down: Likewise, up or down.
    """

    def __init__(self, across: float, down: float) -> None:
        self.loops: list[list[Point]] = []
        self._across, self._down = across, down

    def moveTo(self, point: Point) -> None:  # noqa: N802 - fontTools' names
        """Begin a loop."""
        self.loops.append([point])

    def lineTo(self, point: Point) -> None:  # noqa: N802
        """A straight piece."""
        self.loops[-1].append(point)

    def curveTo(self, first: Point, second: Point, end: Point) -> None:  # noqa: N802
        """A cubic curve."""
        start = self.loops[-1][-1]
        count = self._pieces(0.75, _bend(start, first, second), _bend(first, second, end))
        for step in range(1, count):
            t, u = step / count, 1 - step / count
            weights = (u * u * u, 3 * u * u * t, 3 * u * t * t, t * t * t)
            self.lineTo(_weighted(weights, (start, first, second, end)))
        self.lineTo(end)

    def qCurveTo(self, control: Point, end: Point) -> None:  # noqa: N802
        """A quadratic curve."""
        start = self.loops[-1][-1]
        count = self._pieces(0.25, _bend(start, control, end))
        for step in range(1, count):
            t, u = step / count, 1 - step / count
            self.lineTo(_weighted((u * u, 2 * u * t, t * t), (start, control, end)))
        self.lineTo(end)

    def closePath(self) -> None:  # noqa: N802
        """End a loop."""

    endPath = closePath  # noqa: N815 - what is filled is closed

    def _pieces(self, factor: float, *bends: Point) -> int:
        """How many straight pieces keep within the tolerance: the error falls with their square."""
        worst = max(max(abs(x) / self._across, abs(y) / self._down) for x, y in bends)
        return min(max(1, math.ceil(math.sqrt(factor * worst))), 1000)


def _bend(first: Point, second: Point, third: Point) -> Point:
    return first[0] - 2 * second[0] + third[0], first[1] - 2 * second[1] + third[1]


def _weighted(weights: tuple[float, ...], points: tuple[Point, ...]) -> Point:
    pairs = list(zip(weights, points, strict=True))
    return sum(w * p[0] for w, p in pairs), sum(w * p[1] for w, p in pairs)
