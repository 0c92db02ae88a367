"""The crop grid: the table of the reference page, and an exhaustive search over sizes."""

from __future__ import annotations

import math

import pytest

from moondream_async._images.crop_grid import best_size, crop_grid, detail, seen_size


@pytest.mark.parametrize(
    ("size", "grid", "seen"),
    [
        ((4000, 3000), (2, 4), (1176, 644)),
        ((1536, 1152), (2, 4), (1176, 644)),
        ((1176, 882), (3, 4), (1176, 910)),
        ((1975, 1481), (3, 4), (1176, 910)),
        ((2048, 1536), (3, 4), (1176, 910)),
        ((2480, 3508), (4, 2), (644, 1176)),
        ((832, 1176), (4, 3), (910, 1176)),
        ((1920, 1080), (2, 4), (1176, 644)),
        ((1176, 662), (3, 4), (1176, 910)),
        ((4000, 4000), (3, 3), (910, 910)),
        ((910, 910), (3, 3), (910, 910)),
        ((1024, 768), (3, 4), (1176, 910)),
        ((378, 378), (1, 1), (378, 378)),
        ((1, 1), (1, 1), (378, 378)),
        ((5000, 300), (1, 1), (378, 378)),
    ],
)
def test_table_of_the_reference_page(size: tuple[int, int], grid: tuple[int, int], seen: tuple[int, int]) -> None:
    assert crop_grid(*size) == grid
    assert seen_size(*size) == seen


@pytest.mark.parametrize(
    "size",
    [
        (4000, 3000),
        (3000, 4000),
        (2480, 3508),
        (1920, 1080),
        (4000, 4000),
        (1024, 768),
        (640, 480),
        (6000, 900),
        (50, 2000),
        (3, 5),
    ],
)
def test_no_size_of_the_same_aspect_has_more_detail(size: tuple[int, int]) -> None:
    width, height = size
    best = best_size(width, height)
    assert best[0] <= width
    assert best[1] <= height
    for sent_width in range(1, width + 1):
        exact = height * sent_width / width
        for sent_height in {max(1, math.floor(exact)), math.ceil(exact)}:
            assert detail(sent_width, sent_height) <= detail(*best)
    assert abs(best[0] / width - best[1] / height) <= 1 / min(width, height)


@pytest.mark.parametrize(
    ("size", "gain"),
    [((4000, 3000), 1.4), ((2480, 3508), 1.25), ((1920, 1080), 1.02), ((4000, 4000), 1.0), ((1024, 768), 1.0)],
)
def test_gain_over_the_original_size(size: tuple[int, int], gain: float) -> None:
    assert detail(*best_size(*size)) >= gain * detail(*size)


@pytest.mark.parametrize(
    "size", [(178_956_970, 1), (1, 178_956_970), (10_000_000, 17), (3, 3_000_000), (65_000, 2_700)]
)
def test_very_narrow_images_are_fast(size: tuple[int, int]) -> None:
    best = best_size(*size)
    assert detail(*best) >= detail(*size)
    assert best[0] <= size[0]
    assert best[1] <= size[1]


def test_small_images_keep_their_size() -> None:
    for size in ((640, 480), (1, 1), (300, 700), (1024, 768)):
        assert best_size(*size) == size
