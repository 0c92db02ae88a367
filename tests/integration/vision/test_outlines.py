"""Segment paths as SVG, polygons and masks: compared with resvg, and read by pycocotools."""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import math
import sys
import time
import tracemalloc
from typing import Any
from xml.etree import ElementTree

import numpy
import pytest
import resvg_py
from PIL import Image, ImageChops, ImageDraw
from pycocotools import mask as coco

from moondream_async import BoundingBox, Client, ConfigurationError, PathError, SegmentResult
from tests.support.effort import scaled
from tests.support.paths import HARD

BOX = BoundingBox(0.2, 0.1, 0.7, 0.85)
SIZE = (640, 480)


def result(path: str, box: BoundingBox | None = BOX) -> SegmentResult:
    return SegmentResult(path=path, bbox=box)


def painted(found: SegmentResult, size: tuple[int, int]) -> Any:
    """Return the coverage that resvg paints, 0..1, supersampled if the image is not too large."""
    finer = 1 if size[0] * size[1] > 1_000_000 else 4 if found.path == HARD["sliver"] else 2
    svg = found.to_svg(size[0] * finer, size[1] * finer, opacity=1)
    with Image.open(io.BytesIO(resvg_py.svg_to_bytes(svg_string=svg))) as image:
        alpha = numpy.asarray(image.getchannel("A"))
    rows = alpha.reshape(size[1], finer, -1).sum(axis=1, dtype=numpy.float32)
    return rows.reshape(size[1], size[0], finer).sum(axis=2) / (255 * finer**2)


def iou(first: Any, second: Any) -> float:
    union = numpy.logical_or(first, second).sum()
    return float(numpy.logical_and(first, second).sum() / union) if union else 1.0


@pytest.mark.parametrize(
    ("name", "size"),
    [
        *itertools.product(HARD, [SIZE, (400, 900)]),
        *((name, (4000, 3000)) for name in list(HARD)[:: scaled(7, 1)]),
    ],
)
def test_mask_matches_resvg(name: str, size: tuple[int, int]) -> None:
    found = result(HARD[name])
    theirs = painted(found, size)
    ours = numpy.asarray(found.mask(*size, antialias=True), numpy.float32) / 255
    # Soft intersection over union.
    union = numpy.maximum(ours, theirs).sum()
    assert numpy.minimum(ours, theirs).sum() / union >= 0.99
    # Most pixels of a sliver two pixels high are on its edge.
    assert iou(found.mask_array(*size), theirs > 0.5) >= (0.99 if name != "sliver" else 0.98)


@pytest.mark.parametrize("name", HARD)
def test_polygons_match_the_mask(name: str) -> None:
    found = result(HARD[name])
    area = Image.new("1", (SIZE[0] * 4, SIZE[1] * 4))
    for loop in found.polygons(*SIZE):
        part = Image.new("1", area.size)
        ImageDraw.Draw(part).polygon([(x * 4 - 0.5, y * 4 - 0.5) for x, y in loop], fill=1)
        area = ImageChops.logical_xor(area, part)
    theirs = numpy.asarray(found.mask(SIZE[0] * 4, SIZE[1] * 4)) > 0
    assert iou(numpy.asarray(area), theirs) >= (0.97 if name not in ("sliver", "scribble") else 0.8)


def test_curves_are_within_the_tolerance() -> None:
    circle = result("M 1 .5 A .5 .5 0 1 1 0 .5 A .5 .5 0 1 1 1 .5 Z", BoundingBox(0, 0, 1, 1))
    counts = []
    for tolerance in (4.0, 0.25, 0.01):
        [loop] = circle.polygons(1000, 1000, tolerance=tolerance)
        worst = max(abs(500 - math.hypot(x - 500, y - 500)) for x, y in loop)
        middle = max(
            500 - math.hypot((a[0] + b[0]) / 2 - 500, (a[1] + b[1]) / 2 - 500) for a, b in itertools.pairwise(loop)
        )
        assert worst < 0.2  # arcs are approximated by cubic curves
        assert middle <= tolerance + 0.2
        counts.append(len(loop))
    assert counts == sorted(counts)
    assert counts[-1] < 2000


@pytest.mark.parametrize("name", HARD)
def test_rle_as_pycocotools_reads_it(name: str) -> None:
    found = result(HARD[name])
    rle: Any = found.rle(*SIZE)
    mask = found.mask_array(*SIZE)
    assert (coco.decode(rle) == mask).all()
    theirs = coco.encode(numpy.asfortranarray(mask.astype(numpy.uint8)))
    assert rle == {"size": theirs["size"], "counts": theirs["counts"].decode()}
    assert coco.area(rle) == mask.sum()


def test_all_inside_and_all_outside() -> None:
    everything = result("M 0 0 H 1 V 1 H 0 Z", BoundingBox(-0.1, -0.1, 1.1, 1.1))
    assert everything.mask_array(7, 5).all()
    assert (coco.decode(everything.rle(7, 5)) == 1).all()  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    nothing = result("", None)
    assert not nothing.mask_array(7, 5).any()
    assert nothing.polygons(7, 5) == []
    assert coco.area(nothing.rle(7, 5)) == 0  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert "path" not in nothing.to_svg(7, 5)
    away = result("M 0 0 H 1 V 1 H 0 Z", BoundingBox(1.5, 1.5, 1.8, 1.8))
    assert not away.mask_array(7, 5).any()


def test_the_path_is_relative_to_its_box() -> None:
    mask = result("M 0 0 H 1 V 1 H 0 Z", BoundingBox(0.25, 0.5, 0.75, 1.0)).mask(100, 100)
    assert mask.mode == "L"
    assert mask.getbbox() == (25, 50, 75, 100)
    assert set(mask.tobytes()) == {0, 255}
    assert result("M 0 0 H 1 V 1 H 0 Z", BoundingBox(0.25, 0.5, 0.75, 1.0)).polygons(100, 100) == [
        [(25, 50), (75, 50), (75, 100), (25, 100), (25, 50)]
    ]


def test_antialiasing() -> None:
    soft = result("M 0 0 H 1 V 1 H 0 Z", BoundingBox(0.255, 0, 1, 1)).mask(100, 100, antialias=True)
    assert soft.getpixel((25, 50)) == pytest.approx(128, abs=2)


def test_svg_is_valid() -> None:
    found = result(HARD["ring"])
    root = ElementTree.fromstring(found.to_svg(*SIZE, fill='"><script>', opacity=0.25))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert (root.get("width"), root.get("viewBox")) == ("640", "0 0 640 480")
    [path] = root
    assert (path.get("fill"), path.get("fill-rule"), path.get("fill-opacity")) == ('"><script>', "evenodd", "0.25")
    assert path.get("d") == HARD["ring"]


@pytest.mark.parametrize(
    "path",
    [
        "M 0 0 L 1",
        "hello",
        "L 1 1 0 1 Z",
        "M 0 0 L nan nan",
        "M 0 0 L 1e300 1e300 0 1 Z",
        "M 0 0 L 99 0 0 99 Z",
        '"/><script>alert(1)</script>',
        "M 0 0 X 1 1",
        "M 0 0 A 1 1 0 5 5 1 1",
        "Z" * 10,
    ],
)
def test_invalid_paths(path: str) -> None:
    for call in ("to_svg", "polygons", "mask", "mask_array", "rle"):
        with pytest.raises(PathError):
            getattr(result(path), call)(*SIZE)


def test_missing_and_invalid_boxes() -> None:
    for box in (None, BoundingBox(float("nan"), 0, 1, 1), BoundingBox(0, 0, 1e9, 1)):
        for call in ("to_svg", "polygons", "mask"):
            with pytest.raises(PathError, match="box"):
                getattr(result(HARD["square"], box), call)(*SIZE)
    flat = result(HARD["square"], BoundingBox(0.5, 0.2, 0.5, 0.8))
    assert not flat.mask_array(*SIZE).any()


@pytest.mark.parametrize(("width", "height"), [(0, 5), (5, None), (None, None), (-1, 5), (1.5, 5), (True, 5)])
def test_sizes(width: Any, height: Any) -> None:
    with pytest.raises(ConfigurationError, match="width and height"):
        result(HARD["square"]).mask(width, height)


def test_too_many_points() -> None:
    path = "M0 0" + "".join(f"L{n / 40000:.6f} {n % 7 / 7:.3f}" for n in range(40_000)) + "Z"
    with pytest.raises(PathError, match="points"):
        result(path).mask(*SIZE)
    assert len(result(path).polygons(*SIZE)[0]) > 40_000


def test_image_size_is_stored(scene: bytes, moondream_sandbox: Any) -> None:
    with Client(base_url=moondream_sandbox.base_url) as client:
        found = client.segment(scene, "red")
    assert found.image_size == (640, 480)
    assert found.mask().size == (640, 480)
    with Image.open(io.BytesIO(scene)) as image:
        pixels = numpy.asarray(image.convert("RGB")).astype(int)
    red = (pixels[:, :, 0] > 150) & (pixels[:, :, 1] < 100) & (pixels[:, :, 2] < 100)
    assert iou(found.mask_array(), red) > 0.95


def test_without_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fontTools.svgLib.path", None)
    with pytest.raises(ConfigurationError, match=r"moondream-async\[vision\]"):
        result(HARD["square"]).polygons(*SIZE)


def test_invalid_sizes_and_styles() -> None:
    triangle = result("M.1 .1H.9V.9Z", BoundingBox(0.1, 0.1, 0.9, 0.8))
    with pytest.raises(ConfigurationError, match="too large"):
        triangle.mask(100_000, 100_000)
    for size in ((2000, 1), (8000, 2), (40_000, 2)):
        with contextlib.suppress(PathError):  # FreeType cannot fill some of them
            assert triangle.mask(*size).size == size
    for style in ({"fill": None}, {"fill": "a\x00"}, {"opacity": 2}, {"opacity": "x"}, {"opacity": math.nan}):
        with pytest.raises(ConfigurationError):
            triangle.to_svg(*SIZE, **style)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for space in ("\x0b", "\x85", "\u00a0"):
        with pytest.raises(PathError):
            result(f"M 0 0{space}L 1 1 0 1 Z").to_svg(*SIZE)


@pytest.mark.parametrize(
    ("path", "call", "says"),
    [
        ("M0 0" + "C16-16-16 16 16 16" * scaled(500, 1000), "polygons", "points"),
        ("M0 0" + "Q16-16 16 16Q-16 16 0 0" * scaled(500, 1000), "polygons", "points"),
        ("M0 0" + "A3 3 0 1 1 4 4A3 3 0 1 1 0 0" * scaled(500, 1000), "polygons", "points"),
        ("M0 0" + "L1 0L0 1" * 15_000, "mask", "edges are"),
        ("M0 0" + "L1 1" * 32_000, "mask", "more than 32,000 points"),
        ("M0 0" + "L1 1" * 1_000_000, "polygons", "4,000,004 characters"),
        ("M0 0L" + "9" * 1_000_000, "polygons", "digits"),
        ("M0 0" + "x" * 1_000_000, "to_svg", "not an SVG path command"),
        ("M0 0A" + "1" * 399 + "z", "to_svg", "arc"),
        ("L" + "1 1 " * 100_000, "to_svg", "moveto"),
    ],
)
def test_malicious_paths_are_cheap(path: str, call: str, says: str) -> None:
    tracemalloc.start()
    used = time.process_time()
    try:
        with pytest.raises(PathError, match=says) as caught:
            getattr(result(path), call)(8000, 8000)
        assert tracemalloc.get_traced_memory()[1] < 20_000_000 + 300 * len(path)
    finally:
        tracemalloc.stop()
    assert time.process_time() - used < 60  # seconds of CPU time; without limits it took minutes
    assert len(str(caught.value)) < 300


def test_point_limit_depends_on_path_length() -> None:
    for count in (10, 50):
        path = "M.5 .5" + "C1 0 0 1 .5 .5" * count
        points = sum(map(len, result(path).polygons(8000, 8000)))
        assert count < points <= 10_000 + 2 * len(path)


def test_arcs_without_separators() -> None:
    path = "M.1 .5" + "a.1.1.1 01.1.1.1.1.1 00-.1-.1" * 4_000
    used = time.process_time()
    assert len(result(path).polygons(100, 100)[0]) > 8_000
    assert time.process_time() - used < 60
    apart = "M.1 .5" + "a .1 .1 .1 0 1 .1 .1\n.1,.1 .1\n0,0 -.1 -.1 " * 4_000
    assert result(path).polygons(100, 100) == result(apart).polygons(100, 100)


def test_too_many_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moondream_async._vision.masks._MAX_RUNS", 10)
    with pytest.raises(PathError, match="runs"):
        result(HARD["ring"]).rle(*SIZE)


def test_numpy_numbers() -> None:
    found = result(HARD["ring"])
    size: Any = (numpy.int64(64), numpy.int32(48))
    assert found.polygons(*size, tolerance=numpy.float32(0.25)) == found.polygons(64, 48)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert found.to_svg(*size, opacity=numpy.float64(0.5)) == found.to_svg(64, 48)
    assert json.dumps(found.rle(*size)) == json.dumps(found.rle(64, 48))
    with pytest.raises(ConfigurationError, match="width and height"):
        found.polygons(10**400, 10)
