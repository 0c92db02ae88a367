"""Iterate over the detections of any result, for drawing and exporting (pure)."""

from __future__ import annotations

import numbers
import os
import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeAlias, cast

import attrs

from .._scalars import is_side, to_python
from ..errors import ConfigurationError
from ..types import BoundingBox, DetectResult, Point, PointResult, Result, SegmentResult

LABEL = "object"
"""The default label of detections without one of their own, if the label of the call is not known."""

Size = tuple[int, int]

Name: TypeAlias = str | os.PathLike[Any] | bytes | float | uuid.UUID
"""The name of an image: its file name, or the id of an outcome."""


@attrs.frozen
class Detection:
    """One detected object.

    Attributes:
        label: The label.
        geometry: A box, a point, or an outline (the result of `segment`).
    """

    label: str
    geometry: BoundingBox | Point | SegmentResult

    @property
    def extra(self) -> Mapping[str, Any]:
        """The fields of the box or point that this version does not know."""
        return {} if isinstance(self.geometry, SegmentResult) else self.geometry.extra

    @property
    def score(self) -> float | None:
        """The server's score for it, which some models send; None for others."""
        score: Any = self.extra.get("score")
        is_number = isinstance(score, (int, float)) and not isinstance(score, bool)
        return float(score) if is_number else None

    @property
    def box(self) -> BoundingBox | None:
        """The box; None for a point, and for an outline for which the server sent no box."""
        if isinstance(self.geometry, SegmentResult):
            return self.geometry.bbox
        return self.geometry if isinstance(self.geometry, BoundingBox) else None


def iter_detections(result: Result, label: str) -> Iterator[Detection]:
    """Yield the detections of a result; none if nothing was found.

    Args:
        result: The result of `detect`, `point` or `segment`.
        label: Label for boxes, points and outlines without one of their own. If it is `LABEL`, the label of the call is
            used, if the result knows it.

    Raises:
        ConfigurationError: The result is of another skill, or `label` is not a string.
    """
    if not isinstance(label, str):
        raise ConfigurationError(f"label must be a string, not {label!r}.")
    if label == LABEL:
        label = getattr(result, "_label", LABEL)
    if isinstance(result, SegmentResult):
        if result.path.strip():
            yield Detection(label, result)
        return
    if isinstance(result, DetectResult):
        geometries: tuple[BoundingBox | Point, ...] = result.objects
    elif isinstance(result, PointResult):
        geometries = result.points
    else:
        raise ConfigurationError(f"A {type(result).__name__} has no boxes, points or outline.")
    for geometry in geometries:
        yield Detection(label if geometry.label in (None, "") else to_name(geometry.label), geometry)


def to_name(name: object) -> str:
    """Convert a name or label to a string: also paths, UUIDs and numbers, NumPy's included.

    Raises:
        ConfigurationError: It is of another type.
    """
    name = to_python(name)
    if isinstance(name, (os.PathLike, bytes, str)):
        return str(os.fsdecode(cast("os.PathLike[str]", name)))
    if isinstance(name, (numbers.Real, uuid.UUID)) and not isinstance(name, bool):
        return str(name)
    raise ConfigurationError(f"A name must be a string, a path, a UUID or a number, not {type(name).__name__}.")


def parse_labels(labels: object, argument: str) -> list[str]:
    """Convert a list of labels to strings.

    Args:
        labels: The labels.
        argument: The name of the argument, for the error.

    Raises:
        ConfigurationError: `labels` is not a list of labels.
    """
    if isinstance(labels, (str, bytes)) or not isinstance(labels, Iterable):
        raise ConfigurationError(f"{argument} must be a list of labels, not {type(labels).__name__}.")
    return [to_name(label) for label in cast("Iterable[Any]", labels)]


def image_size_of(result: Result, size: Size | None) -> Size:
    """Return the image size in pixels: `size` if it is set, else the size stored in the result.

    Raises:
        ConfigurationError: Neither is set, or `size` is invalid.
    """
    if not isinstance(result, Result):
        kind = type(cast("object", result)).__name__
        raise ConfigurationError(f"Expected a result of detect, point or segment, not {kind}.")
    image_size: object = size or result.image_size
    if image_size is None:
        raise ConfigurationError("Pass size=(width, height) in pixels; the result does not contain the image size.")
    is_pair = isinstance(image_size, (tuple, list))
    sides = [to_python(side) for side in cast("list[Any]", image_size)] if is_pair else []
    if len(sides) != 2 or not all(is_side(side) for side in sides):
        raise ConfigurationError(f"size must be (width, height), whole numbers above 0, not {image_size!r:.100}.")
    return int(sides[0]), int(sides[1])
