"""Compare finding small objects in large pictures: our tiles, the slicers of supervision and SAHI, and a single call.

Red and blue shapes of 40 to 400 pixels, and two large ones, are drawn at known places, and the red ones are searched
for. All slicers cut the same grid, with the same overlap. The sandbox answers, 0.3 s after each request: it is exact
within its grid of 384 cells a tile. So this measures cutting and merging, and says nothing about a model.

`recall` and `precision` count boxes that overlap an object by half or more (intersection over union); `repeats` are the
other boxes that overlap one at all: parts that were not joined, and objects found twice.
"""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from PIL import Image

from moondream_async import AsyncClient, Client, Tiles
from moondream_async._tiles.layout import grid, regions

from . import harness
from .harness import Budget, Column, Figure, at_least, at_most, value
from .scenes import Box, Scene, draw

try:
    import supervision
except ImportError:
    supervision = None  # type: ignore[assignment]
try:
    from sahi.models.base import DetectionModel
    from sahi.predict import get_sliced_prediction
    from sahi.prediction import ObjectPrediction
except ImportError:
    DetectionModel = object

CASES = {"12 MP": (4000, 3000, 150), "50 MP": (8160, 6120, 300)}
OURS, SINGLE = "moondream-async, tiles", "one call"
SUPERVISION, THREADS, SAHI = "supervision", "supervision, 8 threads", "SAHI"
OPTIONS = Tiles()
SAME, OVERLAPS = 0.5, 0.1  # intersection over union
COLUMNS = (
    Column("recall", 3),
    Column("precision", 3),
    Column("repeats"),
    Column("calls"),
    Column("seconds", 1, ratio=True),
)

Found = tuple[list[Box], int]  # boxes in pixels, and the number of calls


def one_call(url: str, scene: Scene) -> Found:
    with Client(base_url=url) as client:
        return _in_pixels(client.detect(scene.image, "red").objects, scene.size), 1


def ours(url: str, scene: Scene) -> Found:
    async def run() -> Any:
        async with AsyncClient(base_url=url) as client:
            return await client.detect(scene.image, "red", tiles=OPTIONS)

    result = asyncio.run(run())
    return _in_pixels(result.objects, scene.size), result.tiles.calls


def with_supervision(url: str, scene: Scene, *, threads: int = 1) -> Found:
    calls = 0

    def detect(tile: Any) -> Any:
        nonlocal calls
        calls += 1
        height, width = tile.shape[:2]
        boxes = _in_pixels(client.detect(tile, "red").objects, (width, height))
        if not boxes:
            return supervision.Detections.empty()
        return supervision.Detections(
            xyxy=np.array(boxes), confidence=np.ones(len(boxes)), class_id=np.zeros(len(boxes), int)
        )

    tile, overlap = _tile(scene)
    slicer = supervision.InferenceSlicer(detect, slice_wh=tile, overlap_wh=overlap, thread_workers=threads)
    with Client(base_url=url) as client:
        found: Any = slicer(np.asarray(Image.open(io.BytesIO(scene.image))))
    return [tuple(map(float, box)) for box in found.xyxy], calls


class _Model(DetectionModel):  # type: ignore[misc]
    """Moondream as SAHI wants a model."""

    def __init__(self, client: Client) -> None:
        super().__init__(load_at_init=False, device="cpu")
        self._client = client
        self.calls = 0

    def perform_inference(self, image: Any) -> None:
        self.calls += 1
        self._original_predictions = self._client.detect(image, "red"), image.shape[:2]

    def _create_object_prediction_list_from_original_predictions(
        self, shift_amount_list: Any = None, full_shape_list: Any = None
    ) -> None:
        result, (height, width) = self._original_predictions
        shift = (
            shift_amount_list[0] if shift_amount_list and isinstance(shift_amount_list[0], list) else shift_amount_list
        )
        full = full_shape_list[0] if full_shape_list and isinstance(full_shape_list[0], list) else full_shape_list
        boxes = _in_pixels(result.objects, (width, height))
        self._object_prediction_list_per_image = [
            [
                ObjectPrediction(
                    bbox=list(box), category_id=0, category_name="red", score=1.0, shift_amount=shift, full_shape=full
                )
                for box in boxes
            ]
        ]


def with_sahi(url: str, scene: Scene) -> Found:
    (width, height), (across, down) = _tile(scene)
    with Client(base_url=url) as client:
        model = _Model(client)
        found: Any = get_sliced_prediction(
            Image.open(io.BytesIO(scene.image)),
            model,
            slice_width=width,
            slice_height=height,
            overlap_width_ratio=across / width,
            overlap_height_ratio=down / height,
            verbose=0,
        )
    return [tuple(map(float, each.bbox.to_xyxy())) for each in found.object_prediction_list], model.calls


CONTESTANTS: dict[str, Callable[[str, Scene], Found]] = {OURS: ours, SINGLE: one_call}
if supervision is not None:
    CONTESTANTS[SUPERVISION] = with_supervision
    CONTESTANTS[THREADS] = lambda url, scene: with_supervision(url, scene, threads=8)
if DetectionModel is not object:
    CONTESTANTS[SAHI] = with_sahi


def run(*, quick: bool) -> list[Figure]:
    """Run all cases."""
    figures: list[Figure] = []
    for case, (width, height, count) in CASES.items():
        if quick and case != "12 MP":
            continue
        scenes = [draw(width, height, count=count, sides=(40, 400), seed=seed) for seed in range(1 if quick else 3)]
        for contestant, find in CONTESTANTS.items():
            with harness.sandbox("--latency", "0.3") as (url, _):
                figures.append(Figure(case, contestant, _measure(find, url, scenes)))
    return figures


def report(figures: list[Figure]) -> str:
    """Return the figures as a table."""
    return harness.table(figures, OURS, COLUMNS)


def budgets(figures: list[Figure]) -> dict[str, Budget]:
    """Return the budgets: recall no less than that of the others, and no object twice."""
    result: dict[str, Budget] = {}
    for case in CASES:
        mine = {column.name: value(figures, case, OURS, column.name) for column in COLUMNS}
        for other in (SUPERVISION, SAHI):
            theirs = value(figures, case, other, "recall")
            result[f"recall of tiles at {case}, minus {other}'s"] = at_least(mine["recall"] - theirs, 0)
        result[f"repeats at seams at {case}"] = at_most(mine["repeats"], 0)
    return result


def _measure(find: Callable[[str, Scene], Found], url: str, scenes: list[Scene]) -> dict[str, float]:
    """Return the means over all scenes; of repeats, the sum."""
    scores: list[tuple[float, float, int]] = []
    calls, started = 0, time.perf_counter()
    for scene in scenes:
        boxes, count = find(url, scene)
        calls += count
        scores.append(score(scene.boxes["red"], boxes))
    seconds = time.perf_counter() - started
    return {
        "recall": sum(each[0] for each in scores) / len(scores),
        "precision": sum(each[1] for each in scores) / len(scores),
        "repeats": sum(each[2] for each in scores),
        "calls": calls / len(scenes),
        "seconds": seconds / len(scenes),
    }


def score(truth: list[Box], found: list[Box]) -> tuple[float, float, int]:
    """Return recall, precision and repeats."""
    pairs = sorted(((_iou(a, b), i, j) for i, a in enumerate(truth) for j, b in enumerate(found)), reverse=True)
    matched: dict[int, int] = {}
    for iou, i, j in pairs:
        if iou >= SAME and i not in matched.values() and j not in matched:
            matched[j] = i
    others = [box for j, box in enumerate(found) if j not in matched]
    repeats = sum(any(_iou(box, each) > OVERLAPS for each in truth) for box in others)
    return len(matched) / len(truth), len(matched) / max(1, len(found)), repeats


def _iou(a: Box, b: Box) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)


def _tile(scene: Scene) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return the size of our tiles, and by how many pixels they overlap."""
    tiles = regions(*scene.size, *grid(*scene.size, OPTIONS), OPTIONS.overlap)
    size = tiles[0].width, tiles[0].height
    return size, (round(size[0] * OPTIONS.overlap), round(size[1] * OPTIONS.overlap))


def _in_pixels(boxes: Any, size: tuple[int, int]) -> list[Box]:
    width, height = size
    return [(b.x_min * width, b.y_min * height, b.x_max * width, b.y_max * height) for b in boxes]
