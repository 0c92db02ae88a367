"""Segment paths: read, set into the image, written as SVG, made polygons."""

from __future__ import annotations

import importlib
import math
import numbers
import re
from typing import Any
from xml.sax.saxutils import quoteattr

from ..errors import ConfigurationError, PathError
from ..types import BoundingBox, SegmentResult

Size = tuple[int, int]
Point = tuple[float, float]

_NO_PART_OF_A_PATH = re.compile(r"[^MmZzLlHhVvCcSsQqTtAa0-9eE+\-., \t\r\n]+")
_COMMANDS = re.compile(r"([MmZzLlHhVvCcSsQqTtAa])")
_NUMBER = re.compile(r"[ \t\r\n,]*([-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?)")
_FLAG = re.compile(r"[ \t\r\n,]*([01])")
_ARC = (_NUMBER, _NUMBER, _NUMBER, _FLAG, _FLAG, _NUMBER, _NUMBER)
_LONGEST = 4_000_000  # characters of a path; one of a real outline has thousands
_LONGEST_NUMBER = re.compile(r"[0-9]{400}")  # digits; a number of more takes time to read, and says nothing
_MAX_POINTS, _POINTS_A_CHARACTER = 10_000, 2  # of all loops, curves made straight pieces: so many, and so many more
_SHOWN = 100  # characters of a path in an error
_FARTHEST = 16.0  # boxes away from its own, beyond which no point of a sane path lies
_FINEST = 1e-3  # pixels; pieces are not made shorter for the sake of their curve


def to_svg(result: SegmentResult, size: Size, *, fill: str, opacity: float) -> str:
    """A whole SVG, in the image's pixels."""
    if not isinstance(fill, str) or not fill.isprintable():
        raise ConfigurationError(f"fill must be a colour as SVG has it, such as '#ff00ff', not {fill!r}.")
    if not isinstance(opacity, numbers.Real) or isinstance(opacity, bool) or not 0 <= opacity <= 1:
        raise ConfigurationError(f"opacity must be from 0 to 1, not {opacity!r}.")
    width, height = size
    begin = f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
    if not result.path.strip():
        return f"{begin}</svg>"
    x, y, across, down = placed(result, size)
    draw(result, _CheckingPen())
    place = f"translate({x:.12g} {y:.12g}) scale({across:.12g} {down:.12g})"
    style = f"fill={quoteattr(fill)} fill-opacity={quoteattr(f'{float(opacity):g}')}"
    return f'{begin}<path fill-rule="evenodd" {style} transform="{place}" d={quoteattr(result.path)}/></svg>'


def polygons(result: SegmentResult, size: Size, *, tolerance: float) -> list[list[Point]]:
    """The loops, in the image's pixels."""
    if not (isinstance(tolerance, numbers.Real) and _FINEST <= tolerance < math.inf):
        raise ConfigurationError(f"tolerance must be pixels, from {_FINEST}, not {tolerance!r}.")
    if not result.path.strip():
        return []
    x, y, across, down = placed(result, size)
    finest = float(tolerance)
    most = _MAX_POINTS + _POINTS_A_CHARACTER * len(result.path)
    pen = FlatteningPen(finest / max(across, 1e-9), finest / max(down, 1e-9), most)
    draw(result, pen)
    return [[(x + px * across, y + py * down) for px, py in loop] for loop in pen.loops if _has_inside(loop)]


def placed(result: SegmentResult, size: Size) -> tuple[float, float, float, float]:
    """Where the path's box lies: left, top, width and height, in pixels.

    Raises:
        PathError: There is none.
    """
    box: BoundingBox | None = result.bbox
    if box is None:
        raise PathError("The path is relative to a box, and the server sent none.")
    edges = (float(box.x_min), float(box.y_min), float(box.x_max), float(box.y_max))
    if not all(math.isfinite(edge) and abs(edge) < _FARTHEST for edge in edges):
        raise PathError(f"Invalid bounding box {edges}.")
    x_min, y_min, x_max, y_max = edges
    return x_min * size[0], y_min * size[1], (x_max - x_min) * size[0], (y_max - y_min) * size[1]


def draw(result: SegmentResult, pen: Any) -> None:
    """Draw the path, in its own coordinates, with one of fontTools' pens.

    Raises:
        PathError: It cannot be read.
        ConfigurationError: The extra `vision` is missing.
    """
    path = result.path
    if len(path) > _LONGEST:
        raise PathError(f"The path has {len(path):,} characters; at most {_LONGEST:,} are read.")
    stranger = _NO_PART_OF_A_PATH.search(path)
    if stranger is not None:
        raise PathError(f"The path cannot be read: {stranger[0][:_SHOWN]!r} is no command of SVG paths.")
    if _LONGEST_NUMBER.search(path):
        raise PathError("The path cannot be read: it has a number of hundreds of digits.")
    parse = needed("fontTools.svgLib.path").parse_path
    try:
        parse(_with_arcs_spaced(path), _Careful(pen))
    except PathError:
        raise
    except Exception as exc:
        problem = str(exc) or type(exc).__name__
    else:
        return
    raise PathError(f"The path cannot be read: {problem[:_SHOWN]}.")


def _with_arcs_spaced(path: str) -> str:
    """Put a space between the arguments of arcs, which fontTools takes apart in quadratic time where there is none.

    Raises:
        PathError: An arc has other arguments.
    """
    pieces = _COMMANDS.split(path)
    for index in range(2, len(pieces), 2):
        if pieces[index - 1] in "Aa":
            pieces[index] = " ".join(_arc_arguments(pieces[index]))
    return "".join(pieces)


def _arc_arguments(text: str) -> list[str]:
    found: list[str] = []
    at = 0
    end = len(text.rstrip(" \t\r\n,"))
    while at < end or len(found) % len(_ARC) or not found:
        match = _ARC[len(found) % len(_ARC)].match(text, at)
        if match is None:
            raise PathError(f"The path cannot be read: an arc has the arguments {text[:_SHOWN]!r}.")
        found.append(match[1])
        at = match.end()
    return found


def _has_inside(loop: list[Point]) -> bool:
    """Tell whether a loop has three points that differ."""
    others = (point for point in loop if point != loop[0])
    second = next(others, None)
    return any(point != second for point in others)


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


class _CheckingPen:
    """Draws nothing; by the protocol of fontTools' pens."""

    def _ignore(self, *points: Point) -> None:
        """Take whatever is drawn."""

    moveTo = lineTo = curveTo = qCurveTo = closePath = endPath = _ignore  # noqa: N815 - fontTools' names


class FlatteningPen:
    """Collects loops of straight pieces; by the protocol of fontTools' pens.

    Args:
        across: How far a piece may miss its curve, in the path's own units, sideways.
        down: Likewise, up or down.
        most: Points of all loops.

    Raises:
        PathError: While drawing: there are more points.
    """

    def __init__(self, across: float, down: float, most: int) -> None:
        self.loops: list[list[Point]] = []
        self._across, self._down = across, down
        self._most = most
        self._left = most

    def moveTo(self, point: Point) -> None:  # noqa: N802 - fontTools' names
        """Begin a loop."""
        self._take(1)
        self.loops.append([point])

    def lineTo(self, point: Point) -> None:  # noqa: N802
        """A straight piece."""
        self._take(1)
        self.loops[-1].append(point)

    def curveTo(self, first: Point, second: Point, end: Point) -> None:  # noqa: N802
        """A cubic curve."""
        start = self.loops[-1][-1]
        count = self._pieces(0.75, _bend(start, first, second), _bend(first, second, end))
        for step in range(1, count):
            t, u = step / count, 1 - step / count
            weights = (u * u * u, 3 * u * u * t, 3 * u * t * t, t * t * t)
            self.loops[-1].append(_weighted(weights, (start, first, second, end)))
        self.loops[-1].append(end)

    def qCurveTo(self, control: Point, end: Point) -> None:  # noqa: N802
        """A quadratic curve."""
        start = self.loops[-1][-1]
        count = self._pieces(0.25, _bend(start, control, end))
        for step in range(1, count):
            t, u = step / count, 1 - step / count
            self.loops[-1].append(_weighted((u * u, 2 * u * t, t * t), (start, control, end)))
        self.loops[-1].append(end)

    def closePath(self) -> None:  # noqa: N802
        """End a loop."""

    endPath = closePath  # noqa: N815 - what is filled is closed

    def _pieces(self, factor: float, *bends: Point) -> int:
        """How many straight pieces keep within the tolerance: the error falls with their square."""
        worst = max(max(abs(x) / self._across, abs(y) / self._down) for x, y in bends)
        count = min(max(1, math.ceil(math.sqrt(factor * worst))), 1000)
        self._take(count)
        return count

    def _take(self, count: int) -> None:
        self._left -= count
        if self._left < 0:
            raise PathError(
                f"The path needs more than {self._most:,} points; ask for a larger tolerance, or a smaller size."
            )


def _bend(first: Point, second: Point, third: Point) -> Point:
    return first[0] - 2 * second[0] + third[0], first[1] - 2 * second[1] + third[1]


def _weighted(weights: tuple[float, ...], points: tuple[Point, ...]) -> Point:
    pairs = list(zip(weights, points, strict=True))
    return sum(w * p[0] for w, p in pairs), sum(w * p[1] for w, p in pairs)
