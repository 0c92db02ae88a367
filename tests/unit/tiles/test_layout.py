"""Grids of tiles."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moondream_async import ConfigurationError, Tiles
from moondream_async._images.crop_grid import detail
from moondream_async._tiles.layout import grid, regions

SIDES = st.integers(1, 20_000)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((1, 1), (1, 1)),
        ((1024, 768), (1, 1)),  # the model sees all of it
        ((1280, 960), (1, 1)),  # and nearly all of this
        ((1920, 1080), (3, 1)),
        ((3000, 4000), (3, 6)),
        ((4000, 3000), (6, 3)),
        ((12_000, 900), (13, 1)),  # a panorama
    ],
)
def test_auto(size: tuple[int, int], expected: tuple[int, int]):
    assert grid(*size, Tiles()) == expected


def test_auto_is_bounded():
    columns, rows = grid(20_000, 20_000, Tiles(max_tiles=30))
    assert 20 <= columns * rows <= 30


def test_an_explicit_grid_is_kept_up_to_the_number_of_pixels():
    assert grid(4000, 3000, Tiles(2, 5)) == (2, 5)
    assert grid(3, 2, Tiles(10, 10)) == (3, 2)


@settings(deadline=None)
@given(SIDES, SIDES, st.floats(0, 0.5))
def test_tiles_cover_the_image_and_overlap(width: int, height: int, overlap: float):
    tiles = Tiles(overlap=overlap)
    columns, rows = grid(width, height, tiles)
    found = regions(width, height, columns, rows, overlap)
    assert len(found) == columns * rows <= tiles.max_tiles
    assert len({(each.width, each.height) for each in found}) == 1
    first, last = found[0], found[-1]
    assert (first.left, first.top, last.right, last.bottom) == (0, 0, width, height)
    for left, right in itertools.pairwise(found[:columns]):
        assert left.right - right.left >= overlap * left.width - 2
    for above, below in itertools.pairwise(found[::columns]):
        assert above.bottom - below.top >= overlap * above.height - 2


@settings(deadline=None)
@given(st.integers(1500, 8000), st.integers(1500, 8000))
def test_the_model_sees_nearly_every_pixel_of_a_tile(width: int, height: int):
    tiles = Tiles(max_tiles=200)
    tile = regions(width, height, *grid(width, height, tiles), tiles.overlap)[0]
    assert detail(tile.width, tile.height) >= 0.85 * tile.width * tile.height


@pytest.mark.parametrize("value", ["auto", (4, 3), [4, 3], "4x3", " 4 X 3 ", "4,3", Tiles(4, 3), Tiles(4, 3).to_dict()])
def test_options_that_are_read(value: object):
    assert Tiles.of(value).columns in (None, 4)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "4",
        "big",
        "4x",
        "0x3",
        4,
        (4,),
        (4, 3, 2),
        (0, 3),
        (4, -1),
        (1.5, 2),
        (True, 2),
        {"column": 1},
        None,
        object(),
    ],
)
def test_options_that_are_refused(value: object):
    with pytest.raises(ConfigurationError, match=r"[Tt]iles"):
        Tiles.of(value)


@pytest.mark.parametrize(
    "options",
    [
        {"columns": 2},
        {"rows": 2},
        {"columns": 11, "rows": 10},  # more than max_tiles
        {"overlap": 0.6},
        {"overlap": -0.1},
        {"overlap": float("nan")},
        {"whole": "yes"},
        {"splits": -1},
        {"max_tiles": 0},
        {"strict": 1},
    ],
)
def test_values_that_are_refused(options: dict[str, object]):
    with pytest.raises(ConfigurationError):
        Tiles(**options)  # type: ignore[arg-type]
