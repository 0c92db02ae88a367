"""Convert a segment's path to lines without other packages; good enough to look at, as arcs become straight lines."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator

from ..errors import PathError
from ..types import SegmentResult
from .detections import Size
from .svg_paths import Point, box_in_pixels

_COMMANDS = re.compile(r"([MmZzLlHhVvCcSsQqTtAa])")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
_COUNTS = {"M": 2, "L": 2, "H": 1, "V": 1, "C": 6, "S": 4, "Q": 4, "T": 2, "A": 7}  # numbers that a step takes
_LINES_PER_CURVE = 8
_MAX_LENGTH = 200_000  # characters of a path; real ones have thousands
_MAX_COORDINATE = 16.0  # in boxes


def outline_loops(result: SegmentResult, size: Size) -> list[list[Point]]:
    """Return the loops of a segment's outline in image pixels.

    Raises:
        PathError: The path cannot be parsed, is too long, or there is no box.
    """
    if not result.path.strip():
        return []
    x, y, width, height = box_in_pixels(result, size)
    loops: list[list[Point]] = []
    for starts_loop, point in _points(result.path):
        if not all(abs(value) <= _MAX_COORDINATE for value in point):
            raise PathError(f"The path leads to {point}, far outside its box.")
        if starts_loop or not loops:
            loops.append([])
        loops[-1].append((x + point[0] * width, y + point[1] * height))
    return loops


def _points(path: str) -> Iterator[tuple[bool, Point]]:
    """Yield the points of the path, relative to its box, and whether each starts a loop."""
    at = start = (0.0, 0.0)
    curve, handle = "", at  # the last kind of curve, and its last control point, which `S` and `T` mirror
    for command, values in _steps(path):
        x, y = at if command.islower() else (0.0, 0.0)
        match command.upper():
            case "Z":
                at = start
            case "H":
                at = (x + values[0], at[1])
            case "V":
                at = (at[0], y + values[0])
            case "A":
                at = (x + values[5], y + values[6])
            case name:
                controls = [(x + across, y + down) for across, down in zip(values[::2], values[1::2], strict=True)]
                if name in "ST":
                    mirrors = curve in ("CS" if name == "S" else "QT")
                    controls.insert(0, (2 * at[0] - handle[0], 2 * at[1] - handle[1]) if mirrors else at)
                yield from ((False, point) for point in _curve([at, *controls]))
                handle, at = (controls[-2] if len(controls) > 1 else at), controls[-1]
                start = at if name == "M" else start
        curve = command.upper()
        yield command in "Mm", at


def _steps(path: str) -> Iterator[tuple[str, list[float]]]:
    """Yield each command with the numbers of one step.

    Raises:
        PathError: The path cannot be parsed, or is too long.
    """
    if len(path) > _MAX_LENGTH:
        raise PathError(f"The path has {len(path):,} characters; at most {_MAX_LENGTH:,} are drawn.")
    parts = _COMMANDS.split(path)
    for command, text in zip(parts[1::2], parts[2::2], strict=True):
        values, count = [float(number) for number in _NUMBER.findall(text)], _COUNTS.get(command.upper(), 0)
        if len(values) % count if count else values:
            raise PathError(f"The path cannot be parsed: {command} has invalid arguments {text[:100]!r}.")
        for first in range(0, len(values) or 1, count or 1):
            yield command, values[first : first + count]
            command = {"M": "L", "m": "l"}.get(command, command)  # further points of a move are lines


def _curve(controls: list[Point]) -> Iterator[Point]:
    """Yield points of a Bézier curve between its ends; none of a line."""
    for step in range(1, _LINES_PER_CURVE if len(controls) > 2 else 1):
        t = step / _LINES_PER_CURVE
        level: list[Point] = controls
        while len(level) > 1:  # de Casteljau's algorithm
            level = [(ax + t * (bx - ax), ay + t * (by - ay)) for (ax, ay), (bx, by) in itertools.pairwise(level)]
        yield level[0]
