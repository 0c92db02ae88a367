"""Rewards: how well boxes and points match a ground truth."""

from __future__ import annotations

from collections.abc import Callable

from .._wire.responses import is_list, is_object
from .validation import Fields, RequestError

_POINT, _BOX = ("x", "y"), ("x_min", "y_min", "x_max", "y_max")


def check_ground_truth(truth: object, allowed: tuple[str, ...]) -> None:
    """Raise `RequestError` for a ground truth or target that is not exactly one list of points or boxes."""
    fields = truth if is_object(truth) else {}
    name = next((name for name in fields if name in allowed), None)
    entries = fields.get(name) if name is not None else None
    if len(fields) != 1 or not is_list(entries):
        raise RequestError(f"There must be exactly one list: {' or '.join(allowed)}")
    coordinates = _BOX if name == "boxes" else _POINT
    for entry in entries:
        values = [entry.get(key) for key in coordinates] if is_object(entry) else [None]
        if not all(isinstance(value, (int, float)) and 0 <= value <= 1 for value in values):
            raise RequestError(f"Each of {name} must have {', '.join(coordinates)}, 0 to 1")


def reward(output: Fields, truth: object) -> float:
    """Return how well a rollout's output matches the ground truth, 0..1."""
    fields = truth if is_object(truth) else {}
    boxes, points = fields.get("boxes"), fields.get("points")
    if "objects" in output and is_list(boxes):
        return _score(output["objects"], boxes, _iou)
    if "points" in output and is_list(boxes):
        return _score(output["points"], boxes, _inside)
    if "points" in output and is_list(points):
        return _score(output["points"], points, _proximity)
    raise RequestError("ground_truth is not one of the skill", "ground_truth")


def _score(outputs: list[Fields], targets: list[Fields], similarity: Callable[[Fields, Fields], float]) -> float:
    if not outputs or not targets:
        return float(not outputs and not targets)
    best = [max(similarity(output, target) for output in outputs) for target in targets]
    return sum(best) / max(len(outputs), len(targets))


def _iou(a: Fields, b: Fields) -> float:
    width = min(a["x_max"], b["x_max"]) - max(a["x_min"], b["x_min"])
    height = min(a["y_max"], b["y_max"]) - max(a["y_min"], b["y_min"])
    intersection = max(0.0, width) * max(0.0, height)
    areas = [(box["x_max"] - box["x_min"]) * (box["y_max"] - box["y_min"]) for box in (a, b)]
    return intersection / (sum(areas) - intersection) if sum(areas) > intersection else 0.0


def _inside(point: Fields, box: Fields) -> float:
    return float(box["x_min"] <= point["x"] <= box["x_max"] and box["y_min"] <= point["y"] <= box["y_max"])


def _proximity(a: Fields, b: Fields) -> float:
    distance = ((a["x"] - b["x"]) ** 2 + (a["y"] - b["y"]) ** 2) ** 0.5
    return max(0.0, 1.0 - 4 * float(distance))
