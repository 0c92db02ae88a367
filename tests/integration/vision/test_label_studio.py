"""Predictions for Label Studio."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moondream_async import BoundingBox, Client, ConfigurationError, DetectResult, Point, PointResult, SegmentResult
from moondream_async._cli import main
from moondream_async.vision import to_label_studio

SIZE = (200, 100)
BOX = BoundingBox(0.1, 0.2, 0.6, 0.4, "cat", extra={"score": 0.5})


def test_regions_are_percent_of_the_image():
    results = (
        DetectResult(objects=(BOX, BoundingBox(0, 0, 1, 1)), image_size=SIZE),
        PointResult(points=(Point(0.25, 0.5),), image_size=SIZE),
        SegmentResult(path="M 0 0 L 1 0 L 1 1 Z", bbox=BoundingBox(0.5, 0.5, 1, 1), image_size=SIZE),
    )
    task = to_label_studio("s3://bucket/a.jpg", results, label="thing")
    assert task["data"] == {"image": "s3://bucket/a.jpg"}
    (prediction,) = task["predictions"]
    assert prediction["model_version"] == "moondream"
    assert prediction["score"] == 0.5
    cat, everything, point, outline = prediction["result"]
    assert cat["value"].pop("rectanglelabels") == ["cat"]
    assert cat["value"] == pytest.approx({"x": 10, "y": 20, "width": 50, "height": 20, "rotation": 0})
    assert (cat["type"], cat["from_name"], cat["to_name"], cat["score"]) == ("rectanglelabels", "label", "image", 0.5)
    assert (cat["original_width"], cat["original_height"], cat["image_rotation"]) == (200, 100, 0)
    assert everything["value"]["rectanglelabels"] == ["thing"]
    assert "score" not in everything
    assert (point["type"], point["value"]["x"], point["value"]["y"]) == ("keypointlabels", 25, 50)
    assert outline["value"]["points"] == [[50, 50], [100, 50], [100, 100]]
    assert len({region["id"] for region in prediction["result"]}) == 4
    assert json.loads(json.dumps(task)) == task


def test_names_of_controls():
    task = to_label_studio(
        "a.jpg",
        DetectResult(objects=(BOX,), image_size=SIZE),
        from_names={"rectanglelabels": "box"},
        image_name="photo",
        model_version="v2",
    )
    (region,) = task["predictions"][0]["result"]
    assert (region["from_name"], region["to_name"]) == ("box", "photo")
    assert to_label_studio("a.jpg", [])["predictions"][0]["result"] == []


def test_the_size_must_be_known():
    result = DetectResult(objects=(BOX,))
    with pytest.raises(ConfigurationError, match="image size"):
        to_label_studio("a.jpg", result)
    assert to_label_studio("a.jpg", result, size=SIZE)


def test_the_command(tmp_path: Path, scene: bytes, moondream_sandbox: Any):
    (tmp_path / "a.jpg").write_bytes(scene)
    with Client(base_url=moondream_sandbox.base_url) as client:
        client.run("detect", [("a.jpg", scene)], tmp_path / "out.jsonl", object=["red", "blue"])
    assert not main(["export", str(tmp_path / "out.jsonl"), str(tmp_path / "tasks.json"), "--to", "label-studio"])
    (task,) = json.loads((tmp_path / "tasks.json").read_text())
    labels = [region["value"]["rectanglelabels"] for region in task["predictions"][0]["result"]]
    assert labels == [["red"], ["blue"]]
