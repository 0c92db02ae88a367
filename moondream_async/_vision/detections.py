"""What was found, one by one, whatever skill found it: for drawings and exports alike (pure)."""

from __future__ import annotations

import numbers
import os
import uuid
from collections.abc import Iterable, Iterator
from typing import Any, TypeAlias, cast

import attrs

from .._scalars import to_python
from ..errors import ConfigurationError
from ..types import BoundingBox, DetectResult, Point, PointResult, Result, SegmentResult

Size = tuple[int, int]

Name: TypeAlias = str | os.PathLike[Any] | bytes | float | uuid.UUID
"""What an image may be called: its file name, or the id of an outcome."""

_LARGEST_SIDE = 2**31 - 1  # pixels


@attrs.frozen
class Detection:
    """One thing.

    Attributes:
        label: What it is.
        place: Where it is: a box, a point, or an outline (the result of a segmentation).
    """

    label: str
    place: BoundingBox | Point | SegmentResult

    @property
    def box(self) -> BoundingBox | None:
        """Its box; None for a point, and for an outline whose server sent none."""
        if isinstance(self.place, SegmentResult):
            return self.place.bbox
        return self.place if isinstance(self.place, BoundingBox) else None


def things(result: Result, label: str) -> Iterator[Detection]:
    """What a result has found; nothing, where nothing was.

    Args:
        result: Of `detect`, `point` or `segment`.
        label: For what has no label of its own.

    Raises:
        ConfigurationError: It is a result of another skill.
    """
    if not isinstance(label, str):
        raise ConfigurationError(f"label must be a text, not {label!r}.")
    if isinstance(result, SegmentResult):
        if result.path.strip():
            yield Detection(label, result)
        return
    if isinstance(result, DetectResult):
        places: tuple[BoundingBox | Point, ...] = result.objects
    elif isinstance(result, PointResult):
        places = result.points
    else:
        raise ConfigurationError(f"A {type(result).__name__} has no places in the image.")
    for place in places:
        yield Detection(label if place.label in (None, "") else name_of(place.label), place)


def name_of(name: object) -> str:
    """Write what something is called as text: paths and numbers (NumPy's, too) as well.

    Raises:
        ConfigurationError: It is no name.
    """
    name = to_python(name)
    if isinstance(name, (os.PathLike, bytes, str)):
        return str(os.fsdecode(cast("os.PathLike[str]", name)))
    if isinstance(name, (numbers.Real, uuid.UUID)) and not isinstance(name, bool):
        return str(name)
    raise ConfigurationError(f"A name must be a text, a path or a number, not {type(name).__name__}.")


def labels_of(labels: object, argument: str) -> list[str]:
    """Return the labels of a list.

    Raises:
        ConfigurationError: It is no list of labels.
    """
    if isinstance(labels, (str, bytes)) or not isinstance(labels, Iterable):
        raise ConfigurationError(f"{argument} must be a list of labels, not {type(labels).__name__}.")
    return [name_of(label) for label in cast("Iterable[Any]", labels)]


def size_of(result: Result, size: Size | None) -> Size:
    """The image's size in pixels: as given, else as the result remembers it.

    Raises:
        ConfigurationError: Neither is there.
    """
    if not isinstance(result, Result):
        raise ConfigurationError(f"A {type(cast('object', result)).__name__} is no result of detect, point or segment.")
    found: object = size or result.image_size
    if found is None:
        raise ConfigurationError("Give size=(width, height), in pixels; this result does not know its image's.")
    sides = [to_python(side) for side in cast("list[Any]", found)] if isinstance(found, (tuple, list)) else []
    if len(sides) != 2 or not all(_is_side(side) for side in sides):
        raise ConfigurationError(f"size must be (width, height), whole numbers above 0, not {found!r:.100}.")
    return int(sides[0]), int(sides[1])


def _is_side(side: object) -> bool:
    return isinstance(side, numbers.Integral) and not isinstance(side, bool) and 0 < int(side) <= _LARGEST_SIDE
