"""Merge the boxes and points of overlapping tiles into those of the whole image (pure).

A box is *cut* at a side if it reaches that edge of its tile, and the image goes on there. Cut boxes are parts of
objects: they are dropped if another tile shows the whole object, else joined with the other parts.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import attrs

from ..types import BoundingBox, Point
from .layout import Region
from .spatial_index import Edges, SpatialIndex

_EDGE = 0.01  # of a tile's side; a box this close to the tile's edge reaches it
_SAME = 0.5  # intersection over union from which two boxes of different tiles are the same object
_PART = 0.6  # share of a cut box from which another box that contains it is its object
_ALONG = 0.5  # overlap along the edge, over the shorter part, from which two cut boxes are parts of one object
_ALONG_UNION = 0.25  # the same, over both parts
_COVERED = 0.3  # share of a box of the whole image from which the objects in it are all that it is
_WHOLE_RADIUS = 8  # part of a tile's width within which a point of the whole image is one that a tile has


@attrs.define(eq=False)
class _Box:
    """A box in pixels of the whole image. `tiles` are the indexes of the tiles that it was seen in."""

    left: float
    top: float
    right: float
    bottom: float
    item: BoundingBox
    tiles: frozenset[int]
    cut_left: bool = False
    cut_top: bool = False
    cut_right: bool = False
    cut_bottom: bool = False

    @property
    def is_cut(self) -> bool:
        return self.cut_left or self.cut_top or self.cut_right or self.cut_bottom

    @property
    def area(self) -> float:
        return (self.right - self.left) * (self.bottom - self.top)

    @property
    def edges(self) -> Edges:
        return self.left, self.top, self.right, self.bottom


def merge_boxes(
    size: tuple[int, int],
    tiles: Sequence[tuple[Region, Sequence[BoundingBox]]],
    whole: Sequence[BoundingBox] = (),
) -> list[BoundingBox]:
    """Return the boxes of the image, 0..1 of it: those of the whole image that no tile has, then those of tiles.

    Args:
        size: Width and height of the image in pixels.
        tiles: Each tile, and its boxes, 0..1 of the tile. They have one label.
        whole: The boxes found in the whole image, 0..1 of it.
    """
    regions = [region for region, _ in tiles]
    found = [_place(box, index, region, size) for index, (region, boxes) in enumerate(tiles) for box in boxes]
    found = [box for box in found if not _is_sliver(box)]
    complete = _without_repeats([box for box in found if not box.is_cut], regions)
    joined = _join(_without_parts([box for box in found if box.is_cut], complete, regions), regions)
    complete = _without_repeats([*complete, *(box for box in joined if not box.is_cut)], regions)
    parts = _without_parts(_largest_parts([box for box in joined if box.is_cut], regions), complete, regions)
    known = _indexed([*complete, *parts], regions)
    large = [_from_whole(box, size) for box in whole]
    large = [box for box in large if not _is_known(box, list(known.near(box.edges)), regions)]
    parts = _without_parts(parts, large, regions)
    return [_to_item(box, size) for box in (*large, *_in_reading_order([*complete, *parts]))]


def merge_points(
    size: tuple[int, int],
    tiles: Sequence[tuple[Region, Sequence[Point]]],
    whole: Sequence[Point] = (),
) -> list[Point]:
    """Return the points of the image, 0..1 of it. Arguments as of `merge_boxes`.

    Where tiles overlap, each counts only the points in its own half. So an object that is smaller than the overlap has
    one point, also if some tiles show only a part of it.
    """
    regions = [region for region, _ in tiles]
    kept: list[Point] = []
    index: SpatialIndex[tuple[int, Point]] = SpatialIndex(max(1.0, regions[0].width / 8))
    for number, (region, points) in enumerate(tiles):
        core = _core(region, regions)
        tolerance = _EDGE * max(region.width, region.height)
        for each in points:
            x = (region.left + _clamped(each.x) * region.width) / size[0]
            y = (region.top + _clamped(each.y) * region.height) / size[1]
            point = attrs.evolve(each, x=x, y=y)
            if not _is_within(point, core, tolerance, size):
                continue
            around = _around(point, 2 * tolerance, size)
            if any(number != other and _is_inside(known, around, size) for other, known in index.near(around)):
                continue
            kept.append(point)
            index.add(_around(point, 0, size), (number, point))
    radius = max(region.width for region in regions) / _WHOLE_RADIUS
    clamped = [attrs.evolve(point, x=_clamped(point.x), y=_clamped(point.y)) for point in whole]
    large = [point for point in clamped if not _any_within(point, radius, index, size)]
    return [*large, *kept]


def _place(item: BoundingBox, index: int, region: Region, size: tuple[int, int]) -> _Box:
    """Return a tile's box in pixels of the image, with the sides at which it is cut."""
    return _Box(
        region.left + _clamped(item.x_min) * region.width,
        region.top + _clamped(item.y_min) * region.height,
        region.left + _clamped(item.x_max) * region.width,
        region.top + _clamped(item.y_max) * region.height,
        item,
        frozenset((index,)),
        cut_left=region.left > 0 and item.x_min <= _EDGE,
        cut_top=region.top > 0 and item.y_min <= _EDGE,
        cut_right=region.right < size[0] and item.x_max >= 1 - _EDGE,
        cut_bottom=region.bottom < size[1] and item.y_max >= 1 - _EDGE,
    )


def _is_sliver(box: _Box) -> bool:
    """Return whether a box is so thin a part that the neighboring tile shows all of it, too, within its accuracy."""
    is_thin = box.item.x_max - box.item.x_min <= _EDGE and (box.cut_left or box.cut_right)
    is_flat = box.item.y_max - box.item.y_min <= _EDGE and (box.cut_top or box.cut_bottom)
    return is_thin or is_flat


def _from_whole(item: BoundingBox, size: tuple[int, int]) -> _Box:
    edges = item.x_min, item.y_min, item.x_max, item.y_max
    left, top, right, bottom = (_clamped(edge) * side for edge, side in zip(edges, (*size, *size), strict=True))
    return _Box(left, top, right, bottom, item, frozenset())


def _to_item(box: _Box, size: tuple[int, int]) -> BoundingBox:
    width, height = size
    return attrs.evolve(
        box.item,
        x_min=_clamped(box.left / width),
        y_min=_clamped(box.top / height),
        x_max=_clamped(box.right / width),
        y_max=_clamped(box.bottom / height),
    )


def _clamped(value: float) -> float:
    return min(1.0, max(0.0, value))


def _without_repeats(boxes: Iterable[_Box], regions: Sequence[Region]) -> list[_Box]:
    """Return one box of each object: that of the tile in which it is farthest from the edge."""
    kept: list[_Box] = []
    index = _indexed((), regions)
    for box in sorted(boxes, key=lambda each: -_margin(each, regions)):
        if not any(_differ(box, other) and _iou(box, other) >= _SAME for other in index.near(box.edges)):
            kept.append(box)
            index.add(box.edges, box)
    return kept


def _without_parts(parts: Iterable[_Box], boxes: Iterable[_Box], regions: Sequence[Region]) -> list[_Box]:
    """Return the parts of objects that none of the boxes is."""
    index = _indexed(boxes, regions)
    return [part for part in parts if not any(_is_part_of(part, other) for other in index.near(part.edges))]


def _largest_parts(parts: Iterable[_Box], regions: Sequence[Region]) -> list[_Box]:
    """Return the parts that are in no larger part."""
    kept: list[_Box] = []
    index = _indexed((), regions)
    for part in sorted(parts, key=lambda each: -each.area):
        if not any(_is_part_of(part, other) for other in index.near(part.edges)):
            kept.append(part)
            index.add(part.edges, part)
    return kept


def _indexed(boxes: Iterable[_Box], regions: Sequence[Region]) -> SpatialIndex[_Box]:
    index: SpatialIndex[_Box] = SpatialIndex(max(1.0, regions[0].width / 4))
    for box in boxes:
        index.add(box.edges, box)
    return index


def _margin(box: _Box, regions: Sequence[Region]) -> float:
    """Return how far a box is from the edges of its tile, in pixels."""
    if len(box.tiles) != 1:
        return 0.0
    (region,) = (regions[index] for index in box.tiles)
    return min(box.left - region.left, box.top - region.top, region.right - box.right, region.bottom - box.bottom)


def _differ(a: _Box, b: _Box) -> bool:
    """Return whether two boxes are of different tiles. A model that returns two boxes of one tile means two objects."""
    return not a.tiles & b.tiles


def _intersection(a: _Box, b: _Box) -> float:
    width = min(a.right, b.right) - max(a.left, b.left)
    height = min(a.bottom, b.bottom) - max(a.top, b.top)
    return width * height if width > 0 and height > 0 else 0.0


def _iou(a: _Box, b: _Box) -> float:
    shared = _intersection(a, b)
    return shared / (a.area + b.area - shared) if shared else 0.0


def _is_part_of(part: _Box, box: _Box) -> bool:
    return _differ(part, box) and part.area > 0 and _intersection(part, box) >= _PART * part.area


def _is_known(large: _Box, boxes: Sequence[_Box], regions: Sequence[Region]) -> bool:
    """Return whether tiles have an object of the whole image, or show what it really is."""
    complete = [box for box in boxes if not box.is_cut]
    if any(_iou(large, box) >= _SAME for box in complete):
        return True
    if sum(box.area for box in complete if _is_part_of(box, large)) >= _COVERED * large.area:
        return True  # it is a group of them
    if not any(_contains(region, large) for region in regions):
        return False
    # A tile shows all of it, in more detail: several small objects, or the same one with other edges.
    return any(_intersection(large, box) >= _SAME * min(large.area, box.area) > 0 for box in boxes)


def _contains(region: Region, box: _Box) -> bool:
    return (
        region.left <= box.left and region.top <= box.top and region.right >= box.right and region.bottom >= box.bottom
    )


def _join(parts: list[_Box], regions: Sequence[Region]) -> list[_Box]:
    """Join the parts of each object."""
    index = _indexed((), regions)
    group_of: dict[int, list[_Box]] = {}
    for part in parts:
        group = [part]
        slack = _slack(part, regions)
        around = part.left - slack, part.top - slack, part.right + slack, part.bottom + slack
        for other in index.near(around):
            if group_of[id(other)] is not group and _belong_together(part, other, regions):
                group += group_of[id(other)]
                group_of |= dict.fromkeys(map(id, group), group)
        group_of[id(part)] = group
        index.add(part.edges, part)
    unique = {id(group): group for group in group_of.values()}
    return [_joined(group, regions) for group in unique.values()]


def _belong_together(a: _Box, b: _Box, regions: Sequence[Region]) -> bool:
    if not _differ(a, b):
        return False
    return (
        _iou(a, b) >= _SAME
        or _continues_right(a, b, regions)
        or _continues_right(b, a, regions)
        or _continues_below(a, b, regions)
        or _continues_below(b, a, regions)
    )


def _continues_right(a: _Box, b: _Box, regions: Sequence[Region]) -> bool:
    """Return whether the box goes on in the other, which a tile to the right has.

    Each part fills the overlap of their tiles from side to side; otherwise one of the tiles shows the whole object.
    """
    left, right, slack = _region(a, regions), _region(b, regions), _slack(b, regions)
    if not (a.cut_right and b.cut_left and left.left < right.left and right.left <= left.right + slack):
        return False
    fills = a.left <= right.left + slack and b.right >= left.right - slack
    return fills and _is_along((a.top, a.bottom), (b.top, b.bottom))


def _continues_below(a: _Box, b: _Box, regions: Sequence[Region]) -> bool:
    """Return whether the box goes on in the other, which a tile below has."""
    above, below, slack = _region(a, regions), _region(b, regions), _slack(b, regions)
    if not (a.cut_bottom and b.cut_top and above.top < below.top and below.top <= above.bottom + slack):
        return False
    fills = a.top <= below.top + slack and b.bottom >= above.bottom - slack
    return fills and _is_along((a.left, a.right), (b.left, b.right))


def _region(box: _Box, regions: Sequence[Region]) -> Region:
    return regions[next(iter(box.tiles))]


def _slack(box: _Box, regions: Sequence[Region]) -> float:
    """Return by how many pixels two parts may miss each other, if tiles do not overlap."""
    region = _region(box, regions)
    return 2 * _EDGE * max(region.width, region.height) + 1


def _is_along(a: tuple[float, float], b: tuple[float, float]) -> bool:
    shared = min(a[1], b[1]) - max(a[0], b[0])
    shorter, both = min(a[1] - a[0], b[1] - b[0]), max(a[1], b[1]) - min(a[0], b[0])
    return shared > 0 and shared >= _ALONG * shorter and shared >= _ALONG_UNION * both


def _joined(group: Sequence[_Box], regions: Sequence[Region]) -> _Box:
    """Return the box around all parts. It is cut at a side where its outermost part is."""
    left, top = min(each.left for each in group), min(each.top for each in group)
    right, bottom = max(each.right for each in group), max(each.bottom for each in group)
    slack = max(_slack(each, regions) for each in group)
    return _Box(
        left,
        top,
        right,
        bottom,
        group[0].item,
        frozenset(index for each in group for index in each.tiles),
        cut_left=all(each.cut_left for each in group if each.left <= left + slack),
        cut_top=all(each.cut_top for each in group if each.top <= top + slack),
        cut_right=all(each.cut_right for each in group if each.right >= right - slack),
        cut_bottom=all(each.cut_bottom for each in group if each.bottom >= bottom - slack),
    )


def _in_reading_order(boxes: Iterable[_Box]) -> list[_Box]:
    return sorted(boxes, key=lambda box: (box.top, box.left))


def _core(region: Region, others: Sequence[Region]) -> Edges:
    """Return the part of a tile that no other tile counts: up to the middle of each overlap."""
    before_x = [other.right for other in others if other.left < region.left and other.top == region.top]
    after_x = [other.left for other in others if other.left > region.left and other.top == region.top]
    before_y = [other.bottom for other in others if other.top < region.top and other.left == region.left]
    after_y = [other.top for other in others if other.top > region.top and other.left == region.left]
    left = (region.left + max(before_x)) / 2 if before_x else -math.inf
    right = (region.right + min(after_x)) / 2 if after_x else math.inf
    top = (region.top + max(before_y)) / 2 if before_y else -math.inf
    bottom = (region.bottom + min(after_y)) / 2 if after_y else math.inf
    return left, top, right, bottom


def _is_within(point: Point, edges: Edges, tolerance: float, size: tuple[int, int]) -> bool:
    left, top, right, bottom = edges
    return _is_inside(point, (left - tolerance, top - tolerance, right + tolerance, bottom + tolerance), size)


def _is_inside(point: Point, edges: Edges, size: tuple[int, int]) -> bool:
    left, top, right, bottom = edges
    return left <= point.x * size[0] <= right and top <= point.y * size[1] <= bottom


def _around(point: Point, distance: float, size: tuple[int, int]) -> Edges:
    x, y = point.x * size[0], point.y * size[1]
    return x - distance, y - distance, x + distance, y + distance


def _any_within(point: Point, distance: float, index: SpatialIndex[tuple[int, Point]], size: tuple[int, int]) -> bool:
    around = _around(point, distance, size)
    return any(_is_inside(known, around, size) for _, known in index.near(around))
