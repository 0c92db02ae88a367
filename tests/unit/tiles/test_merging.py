"""Boxes and points of overlapping tiles."""

from __future__ import annotations

import random
from typing import Any

import pytest

from moondream_async import BoundingBox, Point
from moondream_async._tiles import merging
from moondream_async._tiles.layout import Region, regions
from moondream_async._tiles.merging import merge_boxes, merge_points

SIZE = (1800, 1800)
TILES = regions(*SIZE, 2, 2, 0.2)  # four of 1000 x 1000 pixels, which overlap by 200

Edges = tuple[float, float, float, float]


def seen(objects: list[Edges], tiles: list[Region] | None = None) -> list[tuple[Region, list[BoundingBox]]]:
    """Return what an exact model sees of objects (in pixels) in each tile."""
    found: list[tuple[Region, list[BoundingBox]]] = []
    for tile in tiles or TILES:
        boxes: list[BoundingBox] = []
        for left, top, right, bottom in objects:
            edges = max(left, tile.left), max(top, tile.top), min(right, tile.right), min(bottom, tile.bottom)
            if edges[0] < edges[2] and edges[1] < edges[3]:
                boxes.append(
                    BoundingBox(
                        (edges[0] - tile.left) / tile.width,
                        (edges[1] - tile.top) / tile.height,
                        (edges[2] - tile.left) / tile.width,
                        (edges[3] - tile.top) / tile.height,
                    )
                )
        found.append((tile, boxes))
    return found


def whole(*objects: Edges) -> list[BoundingBox]:
    return [BoundingBox(*(edge / SIZE[0] for edge in edges)) for edges in objects]


def merged(objects: list[Edges], found_in_whole: list[BoundingBox] | None = None) -> list[Edges]:
    boxes = merge_boxes(SIZE, seen(objects), found_in_whole or [])
    return sorted(
        (round(b.x_min * 1800), round(b.y_min * 1800), round(b.x_max * 1800), round(b.y_max * 1800)) for b in boxes
    )


@pytest.mark.parametrize(
    "objects",
    [
        [],
        [(100, 100, 150, 150)],  # in one tile
        [(850, 100, 950, 200)],  # in the overlap of two
        [(850, 850, 950, 950)],  # of all four
        [(780, 100, 850, 200)],  # cut in one tile, whole in another
        [(700, 100, 1100, 200)],  # cut in both
        [(100, 700, 200, 1100)],
        [(700, 700, 1100, 1100)],  # cut in all four
        [(700, 850, 1100, 950)],  # seen twice by two pairs of tiles
        [(990, 100, 1100, 200)],  # a sliver in one tile
        [(700, 100, 1100, 200), (700, 250, 1100, 350)],  # two, one above the other
        [(850, 100, 950, 200), (960, 100, 985, 200)],
        [(700, 850, 1100, 890), (820, 910, 980, 1150)],  # parts that must not be joined
        [(0, 0, 40, 40), (1760, 1760, 1800, 1800)],  # at the image's edge, which cuts nothing
        [(810, 10, 816, 16), (810, 20, 816, 26)],  # tiny
    ],
)
def test_exact_boxes(objects: list[Edges]):
    assert merged(objects) == sorted(objects)


def test_what_is_larger_than_a_tile_comes_from_the_whole_image():
    large = (200.0, 200.0, 1700.0, 1700.0)
    small = (20.0, 20.0, 90.0, 90.0)
    assert merged([large, small], whole(large)) == sorted([large, small])


def test_what_tiles_have_too_is_there_once():
    found = merged([(100, 100, 300, 300)], whole((90, 110, 310, 290)))
    assert found == [(100, 100, 300, 300)]


def test_a_blur_of_small_objects_in_the_whole_image_gives_way_to_them():
    objects: list[Edges] = [(100, 100, 150, 150), (160, 100, 210, 150), (100, 160, 150, 210), (160, 160, 210, 210)]
    assert merged(objects, whole((100, 100, 210, 210))) == sorted(objects)


def test_what_only_the_whole_image_has_is_kept():
    assert merged([], whole((100, 100, 300, 300))) == [(100, 100, 300, 300)]


def test_two_boxes_of_one_tile_are_two_objects():
    tile = regions(*SIZE, 1, 1, 0.2)[0]
    same = BoundingBox(0.1, 0.1, 0.2, 0.2)
    assert len(merge_boxes(SIZE, [(tile, [same, same])])) == 2


def test_fields_of_boxes_are_kept():
    box = BoundingBox(0.1, 0.1, 0.2, 0.2, extra={"score": 0.5})
    (found,) = merge_boxes(SIZE, [(TILES[3], [box])])
    assert found.extra == {"score": 0.5}
    assert (found.x_min, found.x_max) == pytest.approx((900 / 1800, 1000 / 1800))


def test_edges_outside_the_image_are_moved_to_it():
    wild = BoundingBox(-1e300, -5, 1e300, 5)
    (found,) = merge_boxes(SIZE, [(regions(*SIZE, 1, 1, 0)[0], [wild])])
    assert (found.x_min, found.y_min, found.x_max, found.y_max) == (0, 0, 1, 1)
    (point,) = merge_points(SIZE, [(regions(*SIZE, 1, 1, 0)[0], [Point(-1e300, 1e300)])])
    assert (point.x, point.y) == (0, 1)
    (point,) = merge_points(SIZE, [(TILES[0], [])], [Point(1e308, -1e308)])
    assert (point.x, point.y) == (1, 0)


def test_random_scenes_without_overlap_of_objects():
    """Every object once, whatever the grid, with boxes that are one percent off."""
    for seed in range(40):
        rng = random.Random(seed)
        tiles = regions(*SIZE, rng.randint(1, 5), rng.randint(1, 5), rng.choice((0.0, 0.1, 0.2, 0.4)))
        objects: list[Edges] = []
        for _ in range(60):
            w, h = rng.randint(20, 300), rng.randint(20, 300)
            left, top = rng.randint(0, 1800 - w), rng.randint(0, 1800 - h)
            box = (left, top, left + w, top + h)
            if all(left > o[2] + 25 or box[2] < o[0] - 25 or top > o[3] + 25 or box[3] < o[1] - 25 for o in objects):
                objects.append(box)
        found = merge_boxes(SIZE, seen(objects, tiles))
        assert len(found) == len(objects), seed


def test_thousands_of_boxes_are_merged_without_comparing_all(monkeypatch: pytest.MonkeyPatch):
    compared = 0
    intersection = merging._intersection

    def count(*boxes: Any) -> float:
        nonlocal compared
        compared += 1
        return intersection(*boxes)

    monkeypatch.setattr(merging, "_intersection", count)
    size = 4800, 4800
    objects: list[Edges] = [(x, y, x + 30, y + 30) for x in range(0, 4770, 50) for y in range(0, 4770, 50)]
    assert len(merge_boxes(size, seen(objects, regions(*size, 6, 6, 0.2)))) == len(objects) == 9216
    assert compared < 100 * len(objects)


@pytest.mark.parametrize("center", [(100, 100), (900, 100), (905, 895), (880, 920), (990, 500), (810, 500)])
def test_a_point_in_overlapping_tiles_is_there_once(center: tuple[int, int]):
    """The object around it has 160 pixels a side, and each tile points to the middle of what it sees."""
    x, y = center
    boxes = seen([(x - 80, y - 80, x + 80, y + 80)])
    points = [(tile, [Point((b.x_min + b.x_max) / 2, (b.y_min + b.y_max) / 2) for b in found]) for tile, found in boxes]
    (point,) = merge_points(SIZE, points)
    assert (point.x * 1800, point.y * 1800) == pytest.approx(center, abs=3)


def test_points_of_the_whole_image_are_kept_where_no_tile_has_one():
    tiles = [(TILES[0], [Point(0.1, 0.1)]), *((tile, []) for tile in TILES[1:])]
    found = merge_points(SIZE, tiles, [Point(110 / 1800, 95 / 1800), Point(0.9, 0.9)])
    assert [(round(p.x * 1800), round(p.y * 1800)) for p in found] == [(1620, 1620), (100, 100)]
