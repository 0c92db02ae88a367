"""Outlines without the extra `vision`, beside those with it."""

from __future__ import annotations

import pytest
from PIL import Image, ImageChops, ImageDraw

from moondream_async import BoundingBox, SegmentResult
from moondream_async._vision.simple_outlines import outline_loops

SIZE = (300, 200)
PATHS = {
    "lines": "M 0 0 L 1 0 1 1 0 1 Z",
    "relative": "m.1.1 .8 0 0 .8-.8 0z",
    "horizontal and vertical": "M0 0H1V1H0Z",
    "relative horizontal and vertical": "M.2.2h.6v.6h-.6z",
    "cubic": "M .5 0 C .8 0 1 .2 1 .5 S .8 1 .5 1 S 0 .8 0 .5 S .2 0 .5 0 Z",
    "quadratic": "M 0 .5 Q .25 0 .5 .5 T 1 .5 V 1 H 0 Z",
    "relative curves": "m 0 .5 q .25 -.5 .5 0 t .5 0 c 0 .2 0 .3 0 .5 s -.5 0 -1 0 z",
    "two loops": "M0 0H.4V.4H0Zm.5.5h.4v.4h-.4z",
    "exponents": "M 1e-1 1E-1 L 9e-1 .1 .9 .9 .1 9.0e-1 Z",
}


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_they_enclose_the_same_area_as_the_mask(path: str) -> None:
    segment = SegmentResult(path=path, bbox=BoundingBox(0.1, 0.1, 0.9, 0.9))
    drawn = Image.new("L", SIZE)
    for loop in outline_loops(segment, SIZE):
        ImageDraw.Draw(drawn).polygon(loop, fill=255)
    mask = segment.mask(*SIZE)
    different = sum(ImageChops.difference(drawn, mask).histogram()[128:])
    assert different < 0.04 * sum(mask.histogram()[128:])


def test_an_arc_is_a_straight_line() -> None:
    segment = SegmentResult(path="M 0 0 A .5 .5 0 1 0 1 1 a .5 .5 0 1 0 -1 0 Z", bbox=BoundingBox(0, 0, 1, 1))
    assert outline_loops(segment, (10, 10)) == [[(0, 0), (10, 10), (0, 10), (0, 0)]]


def test_an_empty_path_has_no_loops() -> None:
    assert outline_loops(SegmentResult(path=" "), SIZE) == []
