"""How well boxes and points meet a ground truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from .reading import Fields, Refusal

_POINT, _BOX = ("x", "y"), ("x_min", "y_min", "x_max", "y_max")


def check_truth(truth: object, allowed: tuple[str, ...]) -> None:
    """Refuse a ground truth, or target, that is not exactly one list of points or boxes."""
    given = cast("Fields", truth) if isinstance(truth, dict) else {}
    name = next((name for name in given if name in allowed), None)
    things = given.get(name) if name is not None else None
    if len(given) != 1 or not isinstance(things, list):
        raise Refusal(400, f"There must be exactly one list: {' or '.join(allowed)}", code="invalid_request")
    sides = _BOX if name == "boxes" else _POINT
    for thing in cast("list[Any]", things):
        values = [cast("Fields", thing).get(side) for side in sides] if isinstance(thing, dict) else [None]
        if not all(isinstance(value, (int, float)) and 0 <= value <= 1 for value in values):
            raise Refusal(400, f"Each of {name} must have {', '.join(sides)}, 0 to 1", code="invalid_request")


def reward(output: Fields, truth: object) -> float:
    """How well an attempt meets the truth, 0..1."""
    given = cast("Fields", truth) if isinstance(truth, dict) else {}
    boxes, points = given.get("boxes"), given.get("points")
    if "objects" in output and isinstance(boxes, list):
        return _matched(output["objects"], cast("list[Any]", boxes), _iou)
    if "points" in output and isinstance(boxes, list):
        return _matched(output["points"], cast("list[Any]", boxes), _inside)
    if "points" in output and isinstance(points, list):
        return _matched(output["points"], cast("list[Any]", points), _near)
    raise Refusal(400, "ground_truth is not one of the skill", code="invalid_request", param="ground_truth")


def _matched(found: list[Fields], wanted: list[Fields], likeness: Callable[[Fields, Fields], float]) -> float:
    if not found or not wanted:
        return float(not found and not wanted)
    best = [max(likeness(one, other) for one in found) for other in wanted]
    return sum(best) / max(len(found), len(wanted))


def _iou(a: Fields, b: Fields) -> float:
    across = min(a["x_max"], b["x_max"]) - max(a["x_min"], b["x_min"])
    down = min(a["y_max"], b["y_max"]) - max(a["y_min"], b["y_min"])
    both = max(0.0, across) * max(0.0, down)
    areas = [(box["x_max"] - box["x_min"]) * (box["y_max"] - box["y_min"]) for box in (a, b)]
    return both / (sum(areas) - both) if sum(areas) > both else 0.0


def _inside(point: Fields, box: Fields) -> float:
    return float(box["x_min"] <= point["x"] <= box["x_max"] and box["y_min"] <= point["y"] <= box["y_max"])


def _near(a: Fields, b: Fields) -> float:
    apart = ((a["x"] - b["x"]) ** 2 + (a["y"] - b["y"]) ** 2) ** 0.5
    return max(0.0, 1.0 - 4 * float(apart))
