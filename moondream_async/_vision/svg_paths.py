"""Parse segment paths, and convert them to SVG documents and polygons in image pixels."""

from __future__ import annotations

import math
import numbers
import re
from typing import Any
from xml.sax.saxutils import quoteattr

from .._extras import import_extra
from ..errors import ConfigurationError, PathError
from ..types import BoundingBox, SegmentResult
from .detections import Size

Point = tuple[float, float]

_INVALID = re.compile(r"[^MmZzLlHhVvCcSsQqTtAa0-9eE+\-., \t\r\n]+")
_COMMANDS = re.compile(r"([MmZzLlHhVvCcSsQqTtAa])")
_NUMBER = re.compile(r"[ \t\r\n,]*([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)")
_FLAG = re.compile(r"[ \t\r\n,]*([01])")
_ARC = (_NUMBER, _NUMBER, _NUMBER, _FLAG, _FLAG, _NUMBER, _NUMBER)
_MAX_LENGTH = 4_000_000  # characters of a path; real ones have thousands
_TOO_LONG_NUMBER = re.compile(r"[0-9]{400}")  # takes long to parse, and no float needs that many digits
_MAX_POINTS, _MAX_POINTS_PER_CHARACTER = 10_000, 2  # of all flattened loops: a fixed number, and more for long paths
_MAX_SHOWN = 100  # characters of a path in an error
_MAX_COORDINATE = 16.0  # in boxes; points of a sane path are not farther from its box
_MIN_TOLERANCE = 1e-3  # pixels


def to_svg(result: SegmentResult, size: Size, *, fill: str, opacity: float) -> str:
    """Return an SVG document of the outline, in image pixels.

    Raises:
        ConfigurationError: An argument is invalid, or the extra `vision` is not installed.
        PathError: The path cannot be parsed, or there is no box.
    """
    if not isinstance(fill, str) or not fill.isprintable():
        raise ConfigurationError(f"fill must be an SVG color, such as '#ff00ff', not {fill!r}.")
    if not isinstance(opacity, numbers.Real) or isinstance(opacity, bool) or not 0 <= opacity <= 1:
        raise ConfigurationError(f"opacity must be from 0 to 1, not {opacity!r}.")
    width, height = size
    begin = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    if not result.path.strip():
        return f"{begin}</svg>"
    x, y, width, height = box_in_pixels(result, size)
    draw(result, import_extra("fontTools.pens.basePen", "vision").NullPen())
    transform = f"translate({x:.12g} {y:.12g}) scale({width:.12g} {height:.12g})"
    style = f"fill={quoteattr(fill)} fill-opacity={quoteattr(f'{float(opacity):g}')}"
    return f'{begin}<path fill-rule="evenodd" {style} transform="{transform}" d={quoteattr(result.path)}/></svg>'


def polygons(result: SegmentResult, size: Size, *, tolerance: float) -> list[list[Point]]:
    """Return the outline's closed loops in image pixels, with curves flattened to lines.

    Raises:
        ConfigurationError: `tolerance` is invalid, or the extra `vision` is not installed.
        PathError: The path cannot be parsed, needs too many points, or there is no box.
    """
    if not (isinstance(tolerance, numbers.Real) and _MIN_TOLERANCE <= tolerance < math.inf):
        raise ConfigurationError(f"tolerance must be at least {_MIN_TOLERANCE} pixels, not {tolerance!r}.")
    if not result.path.strip():
        return []
    x, y, width, height = box_in_pixels(result, size)
    pixels = float(tolerance)
    max_points = _MAX_POINTS + _MAX_POINTS_PER_CHARACTER * len(result.path)
    pen = FlatteningPen(pixels / max(width, 1e-9), pixels / max(height, 1e-9), max_points)
    draw(result, pen)
    return [[(x + px * width, y + py * height) for px, py in loop] for loop in pen.loops if _has_area(loop)]


def box_in_pixels(result: SegmentResult, size: Size) -> tuple[float, float, float, float]:
    """Return the box that the path is relative to: left, top, width and height, in image pixels.

    Raises:
        PathError: There is no box, or an invalid one.
    """
    box: BoundingBox | None = result.bbox
    if box is None:
        raise PathError("The path is relative to a box, but the server sent no box.")
    edges = (float(box.x_min), float(box.y_min), float(box.x_max), float(box.y_max))
    if not all(math.isfinite(edge) and abs(edge) < _MAX_COORDINATE for edge in edges):
        raise PathError(f"Invalid bounding box {edges}.")
    x_min, y_min, x_max, y_max = edges
    return x_min * size[0], y_min * size[1], (x_max - x_min) * size[0], (y_max - y_min) * size[1]


def draw(result: SegmentResult, pen: Any, *, max_points: int | None = None) -> None:
    """Draw the path with a fontTools pen, in coordinates relative to its box.

    Args:
        result: The result with the path.
        pen: The pen.
        max_points: The number of points that the pen can take; None for any.

    Raises:
        PathError: The path cannot be parsed, has too many points, or leads far outside its box.
        ConfigurationError: The extra `vision` is not installed.
    """
    path = result.path
    if len(path) > _MAX_LENGTH:
        raise PathError(f"The path has {len(path):,} characters; at most {_MAX_LENGTH:,} are supported.")
    invalid = _INVALID.search(path)
    if invalid is not None:
        raise PathError(f"The path cannot be parsed: {invalid[0][:_MAX_SHOWN]!r} is not an SVG path command.")
    if _TOO_LONG_NUMBER.search(path):
        raise PathError("The path cannot be parsed: it contains a number of hundreds of digits.")
    parse_path = import_extra("fontTools.svgLib.path", "vision").parse_path
    try:
        parse_path(_separate_arc_arguments(path), _GuardedPen(pen, max_points))
    except PathError:
        raise
    except Exception as exc:
        problem = str(exc) or type(exc).__name__
        raise PathError(f"The path cannot be parsed: {problem[:_MAX_SHOWN]}.") from None


def _separate_arc_arguments(path: str) -> str:
    """Put spaces between the arguments of arcs: fontTools takes quadratic time to split arguments without separators.

    Raises:
        PathError: An arc has invalid arguments.
    """
    parts = _COMMANDS.split(path)
    for index in range(2, len(parts), 2):
        if parts[index - 1] in "Aa":
            parts[index] = " ".join(_parse_arc_arguments(parts[index]))
    return "".join(parts)


def _parse_arc_arguments(text: str) -> list[str]:
    arguments: list[str] = []
    at = 0
    end = len(text.rstrip(" \t\r\n,"))
    while at < end or len(arguments) % len(_ARC) or not arguments:
        match = _ARC[len(arguments) % len(_ARC)].match(text, at)
        if match is None:
            raise PathError(f"The path cannot be parsed: an arc has invalid arguments {text[:_MAX_SHOWN]!r}.")
        arguments.append(match[1])
        at = match.end()
    return arguments


def _has_area(loop: list[Point]) -> bool:
    """Return whether a loop has three distinct points."""
    others = (point for point in loop if point != loop[0])
    second = next(others, None)
    return any(point != second for point in others)


class _GuardedPen:
    """Passes calls on to another fontTools pen, after checking the coordinates and the number of points."""

    def __init__(self, pen: Any, max_points: int | None) -> None:
        self._pen = pen
        self._max_points = max_points
        self._count = 0

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._pen, name)

        def call(*points: Any, **options: Any) -> None:
            for point in points:
                if point is not None and not all(abs(value) <= _MAX_COORDINATE for value in point):
                    raise PathError(f"The path leads to {point}, far outside its box.")
            self._count += len(points)
            if self._max_points is not None and self._count > self._max_points:
                raise PathError(f"The path has more than {self._max_points:,} points, which cannot be filled.")
            method(*points, **options)

        return call


class FlatteningPen:
    """Collects loops of line segments, with curves flattened; implements the protocol of fontTools' pens.

    Args:
        tolerance_x: Maximum horizontal distance between a line and its curve, in the path's coordinates.
        tolerance_y: Maximum vertical distance.
        max_points: Maximum points of all loops.

    Raises:
        PathError: While drawing, if there are more points.
    """

    def __init__(self, tolerance_x: float, tolerance_y: float, max_points: int) -> None:
        self.loops: list[list[Point]] = []
        self._tolerance_x, self._tolerance_y = tolerance_x, tolerance_y
        self._max_points = max_points
        self._left = max_points

    def moveTo(self, point: Point) -> None:  # noqa: N802 - fontTools' names
        """Begin a loop."""
        self._reserve(1)
        self.loops.append([point])

    def lineTo(self, point: Point) -> None:  # noqa: N802
        """Add a line."""
        self._reserve(1)
        self.loops[-1].append(point)

    def curveTo(self, first: Point, second: Point, end: Point) -> None:  # noqa: N802
        """Add a cubic Bézier curve."""
        start = self.loops[-1][-1]
        count = self._reserve_lines(0.75, _bend(start, first, second), _bend(first, second, end))
        for step in range(1, count):
            t, u = step / count, 1 - step / count
            weights = (u * u * u, 3 * u * u * t, 3 * u * t * t, t * t * t)
            self.loops[-1].append(_weighted_sum(weights, (start, first, second, end)))
        self.loops[-1].append(end)

    def qCurveTo(self, control: Point, end: Point) -> None:  # noqa: N802
        """Add a quadratic Bézier curve."""
        start = self.loops[-1][-1]
        count = self._reserve_lines(0.25, _bend(start, control, end))
        for step in range(1, count):
            t, u = step / count, 1 - step / count
            self.loops[-1].append(_weighted_sum((u * u, 2 * u * t, t * t), (start, control, end)))
        self.loops[-1].append(end)

    def closePath(self) -> None:  # noqa: N802
        """End a loop."""

    endPath = closePath  # noqa: N815 - filling closes open loops

    def _reserve_lines(self, factor: float, *bends: Point) -> int:
        """Return how many lines keep within the tolerance; the error decreases with the square of their number."""
        worst = max(max(abs(x) / self._tolerance_x, abs(y) / self._tolerance_y) for x, y in bends)
        count = min(max(1, math.ceil(math.sqrt(factor * worst))), 1000)
        self._reserve(count)
        return count

    def _reserve(self, points: int) -> None:
        self._left -= points
        if self._left < 0:
            raise PathError(
                f"The path needs more than {self._max_points:,} points; use a larger tolerance or a smaller size."
            )


def _bend(first: Point, second: Point, third: Point) -> Point:
    return first[0] - 2 * second[0] + third[0], first[1] - 2 * second[1] + third[1]


def _weighted_sum(weights: tuple[float, ...], points: tuple[Point, ...]) -> Point:
    pairs = list(zip(weights, points, strict=True))
    return sum(w * p[0] for w, p in pairs), sum(w * p[1] for w, p in pairs)
