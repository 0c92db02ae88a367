"""Results say whether they were cut off."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx

from moondream_async import (
    AsyncClient,
    BoundingBox,
    CaptionResult,
    DetectResult,
    EncodedImage,
    Point,
    PointResult,
    QueryResult,
)
from moondream_async.bulk import read_results

BASE = "https://api.moondream.ai/v1"
BOX = {"x_min": 0.1, "y_min": 0.2, "x_max": 0.5, "y_max": 0.6}


def boxes(count: int) -> DetectResult:
    return DetectResult(objects=(BoundingBox(0.1, 0.2, 0.5, 0.6),) * count)


@pytest.mark.parametrize(
    ("count", "expected"), [(0, False), (1, False), (49, False), (50, True), (51, False), (150, True), (200, False)]
)
def test_defaults_of_servers(count: int, expected: bool):
    assert boxes(count).truncated is expected
    assert PointResult(points=(Point(0.1, 0.2),) * count).truncated is expected


@pytest.mark.parametrize(
    "kind",
    [
        lambda **k: QueryResult(answer="x", **k),
        lambda **k: CaptionResult(caption="x", **k),
        lambda **k: DetectResult(objects=(), **k),
    ],
)
def test_token_limit(kind: Any):
    assert kind(finish_reason="length").truncated is True
    assert kind(finish_reason="stop").truncated is False
    assert kind().truncated is False


@respx.mock
async def test_max_objects(tiny: EncodedImage, tmp_path: Path):
    def answer(request: httpx.Request) -> httpx.Response:
        objects = [BOX] * (3 if b'"object":"car"' in request.content.replace(b" ", b"") else 1)
        return httpx.Response(200, json={"objects": objects, "points": [{"x": 0.1, "y": 0.2}] * 3})

    respx.post(url__startswith=BASE).mock(side_effect=answer)
    async with AsyncClient("k" * 20) as client:
        for limit, expected in ((3, True), (4, False), (2, True)):
            settings: Any = {"max_objects": limit}
            found = await client.detect(tiny, "car", settings=settings)
            assert found.truncated is expected
            assert ("may be more" in str(found)) is expected
            assert pickle.loads(pickle.dumps(found)).truncated is expected
            assert (await client.point(tiny, "car", settings=settings)).truncated is expected
            assert (await client.detect(tiny, ["car", "bus"], settings=settings)).truncated is expected
        assert not (await client.detect(tiny, ["bus", "cat"], settings={"max_objects": 2})).truncated
        await client.run("detect", [("a", tiny)], tmp_path / "out.jsonl", object="car", settings={"max_objects": 3})
    (outcome,) = read_results(tmp_path / "out.jsonl")
    assert outcome.result.truncated
