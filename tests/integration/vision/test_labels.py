"""Exports use the label that a call searched for."""

from __future__ import annotations

import copy
import json
import pickle
from pathlib import Path
from typing import Any

import pytest

from moondream_async import AsyncClient, vision
from moondream_async.bulk import read_results
from moondream_async.types import Result


def categories(*results: Result) -> list[str]:
    return [each["name"] for each in vision.to_coco([("a.png", list(results))])["categories"]]


@pytest.fixture
def photo(tmp_path: Path, scene: bytes) -> Path:
    path = tmp_path / "photo.png"
    path.write_bytes(scene)
    return path


async def test_one_label(moondream_sandbox: Any, photo: Path) -> None:
    async with AsyncClient(base_url=moondream_sandbox.base_url) as client:
        boxes, outline = await client.detect(photo, "red"), await client.segment(photo, "blue")
        points, both = await client.point(photo, "red"), await client.detect(photo, ["red", "blue"])
    assert categories(boxes, outline) == ["red", "blue"]
    assert categories(boxes.nms(), copy.copy(boxes), pickle.loads(pickle.dumps(outline))) == ["red", "blue"]
    assert both.by_label is not None
    assert categories(both.by_label["blue"]) == ["blue"]
    assert vision.to_csv(points).splitlines()[1].startswith("red,")
    assert vision.to_yolo(boxes, ["blue", "red"]).startswith("1 ")
    assert [each["name"] for each in vision.to_coco([("a", boxes)], label="thing")["categories"]] == ["thing"]


async def test_results_files(moondream_sandbox: Any, photo: Path, tmp_path: Path) -> None:
    async with AsyncClient(base_url=moondream_sandbox.base_url) as client:
        await client.run("detect", [photo], tmp_path / "one.jsonl", object="red")
        await client.run("detect", [photo], tmp_path / "two.jsonl", object=["red", "blue"])
    (one,) = [outcome.result for outcome in read_results(tmp_path / "one.jsonl")]
    (two,) = [outcome.result for outcome in read_results(tmp_path / "two.jsonl")]
    assert categories(one) == ["red"]
    assert categories(two.by_label["blue"]) == ["blue"]


async def test_the_label_is_no_part_of_the_value(moondream_sandbox: Any, photo: Path) -> None:
    async with AsyncClient(base_url=moondream_sandbox.base_url) as client:
        result = await client.detect(photo, "red")
    unlabeled = copy.copy(result)
    object.__delattr__(unlabeled, "_label")
    assert categories(unlabeled) == ["object"]
    assert result == unlabeled
    assert repr(result) == repr(unlabeled)
    assert json.loads(result.to_json()) == json.loads(unlabeled.to_json())
