"""What was found, one by one, whatever skill found it: for drawings and exports alike (pure)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from ..errors import ConfigurationError
from ..types import BoundingBox, DetectResult, Point, PointResult, Result, SegmentResult

Size = tuple[int, int]


@attrs.frozen
class Thing:
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


def things(result: Result, label: str) -> Iterator[Thing]:
    """What a result has found; nothing, where nothing was.

    Args:
        result: Of `detect`, `point` or `segment`.
        label: For what has no label of its own.

    Raises:
        ConfigurationError: It is a result of another skill.
    """
    if isinstance(result, SegmentResult):
        if result.path.strip():
            yield Thing(label, result)
        return
    if isinstance(result, DetectResult):
        places: tuple[BoundingBox | Point, ...] = result.objects
    elif isinstance(result, PointResult):
        places = result.points
    else:
        raise ConfigurationError(f"A {type(result).__name__} has no places in the image.")
    for place in places:
        yield Thing(place.label or label, place)


def size_of(result: Result, size: Size | None) -> Size:
    """The image's size in pixels: as given, else as the result remembers it.

    Raises:
        ConfigurationError: Neither is there.
    """
    found = size or result.image_size
    if found is None:
        raise ConfigurationError("Give size=(width, height), in pixels; this result does not know its image's.")
    if len(found) != 2 or not all(isinstance(side, int) and side > 0 for side in found):
        raise ConfigurationError(f"size must be (width, height), whole numbers above 0, not {found!r}.")
    return found
