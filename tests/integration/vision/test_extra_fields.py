"""Fields of boxes and points that this version does not know are kept, and exported where a format has a place."""

from __future__ import annotations

import json
import pickle

import httpx
import pytest
import respx

from moondream_async import AsyncClient, BoundingBox, DetectResult, EncodedImage, Point
from moondream_async.bulk import read_results
from moondream_async.vision import to_coco, to_csv, to_fiftyone, to_geojson, to_supervision

BASE = "https://api.moondream.ai/v1"
BOX = {"x_min": 0.1, "y_min": 0.2, "x_max": 0.5, "y_max": 0.6, "label": "car", "score": 0.9, "class_id": 3}
PLAIN = {name: BOX[name] for name in ("x_min", "y_min", "x_max", "y_max")}


@pytest.fixture
def result() -> DetectResult:
    boxes = tuple(BoundingBox(0.1, 0.2, 0.5, 0.6, "car", extra={"score": score, "class_id": 3}) for score in (0.9, 0.4))
    return DetectResult(objects=boxes, image_size=(100, 50))


@respx.mock
async def test_kept(tiny: EncodedImage, tmp_path):
    respx.post(f"{BASE}/detect").mock(return_value=httpx.Response(200, json={"objects": [BOX, PLAIN]}))
    respx.post(f"{BASE}/point").mock(
        return_value=httpx.Response(200, json={"points": [{"x": 0.1, "y": 0.2, "score": 1}]})
    )
    async with AsyncClient("k" * 20) as client:
        found = await client.detect(tiny, "car")
        point = (await client.point(tiny, "car")).points[0]
        await client.run("detect", [("a", tiny)], tmp_path / "out.jsonl", object="car")
    first, second = found.objects
    assert (first.extra, second.extra, point.extra) == ({"score": 0.9, "class_id": 3}, {}, {"score": 1})
    assert first["score"] == 0.9
    assert first.to_dict() == BOX
    assert second.to_dict() == PLAIN
    assert point == Point(0.1, 0.2, extra={"score": 1})
    assert pickle.loads(pickle.dumps(first)) == first
    assert hash(first) == hash(BoundingBox(0.1, 0.2, 0.5, 0.6, "car"))
    (outcome,) = read_results(tmp_path / "out.jsonl")
    assert outcome.result.objects[0].extra == first.extra


@respx.mock
async def test_several_labels_keep_them(tiny: EncodedImage):
    respx.post(f"{BASE}/detect").mock(return_value=httpx.Response(200, json={"objects": [BOX]}))
    async with AsyncClient("k" * 20) as client:
        found = await client.detect(tiny, ["car", "bus"])
    assert [(box.label, box.extra["score"]) for box in found.objects] == [("car", 0.9), ("bus", 0.9)]


def test_exports(result: DetectResult):
    assert [each["score"] for each in to_coco([("a.jpg", result)])["annotations"]] == [0.9, 0.4]
    assert [each["confidence"] for each in to_fiftyone(result)] == [0.9, 0.4]
    assert to_supervision(result).confidence.tolist() == pytest.approx([0.9, 0.4])
    assert to_geojson(result)["features"][0]["properties"] == {"score": 0.9, "class_id": 3, "label": "car"}
    json.dumps(to_coco([("a.jpg", result)]))


def test_none_is_made_up():
    result = DetectResult(
        objects=(BoundingBox(0.1, 0.2, 0.5, 0.6), BoundingBox(0.1, 0.2, 0.3, 0.3, extra={"score": 0.5})),
        image_size=(9, 9),
    )
    assert to_supervision(result).confidence is None
    plain = DetectResult(objects=(BoundingBox(0.1, 0.2, 0.5, 0.6),), image_size=(9, 9))
    assert "score" not in to_coco([("a", plain)])["annotations"][0]
    assert "confidence" not in to_fiftyone(plain)[0]
    assert to_csv(plain).startswith("label,x_min")


@pytest.mark.parametrize("score", ["high", True, None])
def test_a_score_that_is_no_number(score: object):
    result = DetectResult(objects=(BoundingBox(0.1, 0.2, 0.5, 0.6, extra={"score": score}),), image_size=(9, 9))
    assert "score" not in to_coco([("a", result)])["annotations"][0]
