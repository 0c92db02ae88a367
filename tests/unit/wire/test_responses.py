"""Responses: every documented field, access like a dict, and invalid ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import attrs
import pytest

from moondream_async import BoundingBox, Grounding, Meta, Metrics, Point
from moondream_async._wire import responses
from moondream_async._wire.responses import InvalidResponse

META = Meta(200, 1, 0.5)
BOX = {"x_min": 0.2, "y_min": 0.3, "x_max": 0.6, "y_max": 0.8}


def test_query_with_reasoning() -> None:
    data = {
        "request_id": "2025-03-25_query_1",
        "answer": "a moon",
        "finish_reason": "stop",
        "reasoning": {"text": "I see", "grounding": [{"start_idx": 0, "end_idx": 1, "points": [[0.1, 0.2]]}]},
        "metrics": {
            "input_tokens": 735,
            "output_tokens": 45,
            "prefill_time_ms": 43.5,
            "decode_time_ms": 415.3,
            "ttft_ms": 81.9,
            "cached_tokens": 7,
        },
        "org_id": "a349",
    }
    result = responses.query(data, META)
    assert result.answer == "a moon"
    assert result.request_id == "2025-03-25_query_1"
    assert result.finish_reason == "stop"
    assert result.reasoning is not None
    assert result.reasoning.grounding == (Grounding(0, 1, ((0.1, 0.2),)),)
    assert result.metrics == Metrics(735, 45, 43.5, 415.3, 81.9, 7)
    assert result.meta is META
    assert result.extra == {"org_id": "a349"}
    assert result.to_dict() == data


def test_results_read_like_the_official_dicts() -> None:
    result = responses.query({"answer": "yes", "request_id": "r", "odd": 1}, META)
    assert result["answer"] == "yes"
    assert result["request_id"] == "r"
    assert result["odd"] == 1
    assert "answer" in result
    assert "reasoning" not in result
    assert "meta" not in result
    assert len(result) == 3
    assert isinstance(result, Mapping)
    assert result.get("reasoning") is None
    assert result.get("reasoning", "none") == "none"
    assert dict(result) == {"answer": "yes", "request_id": "r", "odd": 1}
    with pytest.raises(KeyError):
        result["nothing"]


def test_caption_as_documented() -> None:
    result = responses.caption({"caption": "A cat.", "finish_reason": "length"}, META)
    assert (result.caption, result.finish_reason, result.request_id, result.metrics) == ("A cat.", "length", None, None)


def test_detect_and_point() -> None:
    result = responses.detect({"objects": [BOX, {**BOX, "x_min": 0}]}, META)
    assert result.objects == (BoundingBox(0.2, 0.3, 0.6, 0.8), BoundingBox(0.0, 0.3, 0.6, 0.8))
    assert result["objects"][0]["x_min"] == 0.2
    assert dict(result.objects[0]) == BOX
    assert result["objects"][0] == BOX
    assert [*result["objects"], "more"][2] == "more"
    assert json.loads(json.dumps(dict(result))) == result.to_dict()
    assert responses.detect({"objects": []}, META)["objects"] == []
    points = responses.point({"points": [{"x": 0.2, "y": 1}], "count": 1}, META)
    assert points.points == (Point(0.2, 1.0),)
    assert points.count == 1
    assert responses.detect({"objects": []}, META).objects == ()


def test_segment() -> None:
    result = responses.segment({"path": "M 0 0 Z", "bbox": BOX, "request_id": "r"}, META)
    assert (result.path, result.bbox) == ("M 0 0 Z", BoundingBox(0.2, 0.3, 0.6, 0.8))
    empty = responses.segment({"path": "", "parse_error": "no path"}, META)
    assert (empty.path, empty.bbox, empty.parse_error) == ("", None, "no path")
    assert "bbox" not in empty


def test_station_stats_are_read_as_metrics() -> None:
    stats = {"tokens": 3, "duration": 0.01, "tokens_per_sec": 326.7}
    result = responses.caption({"caption": "a", "_stats": stats}, META)
    assert result.metrics == Metrics(output_tokens=3)
    assert result["_stats"] == stats


@pytest.mark.parametrize(
    "listing", [{"data": [{"id": "a", "object": "model"}]}, {"models": [{"id": "a", "object": "model"}]}]
)
def test_both_model_listings(listing: Any) -> None:
    (model,) = responses.models(listing)
    assert model.id == "a"
    assert model["object"] == "model"


@pytest.mark.parametrize(
    ("read", "data"),
    [
        (responses.query, {}),
        (responses.query, {"answer": 3}),
        (responses.query, []),
        (responses.query, None),
        (responses.query, {"answer": "a", "reasoning": 3}),
        (responses.caption, {"caption": None}),
        (responses.detect, {"objects": None}),
        (responses.detect, {"objects": [{"x_min": 0}]}),
        (responses.detect, {"objects": [{**BOX, "x_min": "0"}]}),
        (responses.point, {"points": [[0, 1]]}),
        (responses.point, {"points": [{"x": True, "y": 0}]}),
        (responses.segment, {"bbox": BOX}),
        (responses.segment, {"path": "", "bbox": "none"}),
    ],
)
def test_invalid_responses(read: Any, data: Any) -> None:
    with pytest.raises(InvalidResponse):
        read(data, META)


def test_invalid_grounding() -> None:
    with pytest.raises(InvalidResponse):
        responses.query(
            {"answer": "a", "reasoning": {"text": "t", "grounding": [{"start_idx": 0, "end_idx": 1, "points": [3]}]}},
            META,
        )


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"<html>"])
def test_invalid_json(body: bytes) -> None:
    with pytest.raises(InvalidResponse):
        responses.decode(body)


def test_results_are_frozen_and_comparable() -> None:
    one = responses.query({"answer": "a"}, META)
    assert one == responses.query({"answer": "a"}, Meta(200, 3, 9.0))
    with pytest.raises(AttributeError):
        one.answer = "b"  # type: ignore[misc]
    assert not hasattr(one, "__dict__")
    assert json.dumps(one.to_dict()) == '{"answer": "a"}'


@pytest.mark.parametrize(
    ("number", "decoded"),
    [
        ("NaN", None),
        ("-Infinity", None),
        ("1e999", None),
        ("-1e999", None),
        ("9" * 308, int("9" * 308)),
        ("9" * 309, None),
        ("9" * 100_000, None),
        ("1.5", 1.5),
        ("-0.0", -0.0),
        ("1e-999", 0.0),
    ],
)
def test_numbers_that_json_cannot_represent_are_null(number: str, decoded: Any) -> None:
    assert responses.decode(f'{{"a": [{number}]}}') == {"a": [decoded]}
    assert responses.decode(f'{{"a": [{number}]}}'.encode()) == {"a": [decoded]}
    with pytest.raises(InvalidResponse) if decoded is None else nullcontext():
        responses.position(responses.decode(f'{{"x": {number}, "y": 0}}'))


@pytest.mark.parametrize(("opened", "closed", "depth"), [("[", "]", 1), ('{"a":', "}", 1), ('[{"b":1,"a":', "}]", 2)])
def test_nesting_is_limited(opened: str, closed: str, depth: int) -> None:
    times = responses.MAX_DEPTH // depth
    body = opened * times + "0" + closed * times
    assert responses.decode(body) == json.loads(body)
    for deeper in (f"[{body}]", body.replace("0", "[]"), body.replace("0", '[0, {"a": []}]')):
        with pytest.raises(InvalidResponse, match="deep"):
            responses.decode(deeper)
    with pytest.raises(InvalidResponse, match="deep"):
        responses.decode(opened * 100_000)
    wide = "[" + ",".join(["[]"] * 1000) + "]"
    assert responses.decode(wide.encode("utf-16")) == [[]] * 1000


INVALID_COUNTS = ["7", [1], {"a": 1}, True, -5, 1.5, 10**40, 1e300, None, "", False]


@pytest.mark.parametrize("value", INVALID_COUNTS)
def test_invalid_counts_are_none(value: Any) -> None:
    names = [field.name for field in attrs.fields(Metrics) if not field.name.endswith("_ms")]
    assert responses.metrics({"metrics": dict.fromkeys(names, value)}) == Metrics()
    assert responses.metrics({"_stats": {"tokens": value}}) == Metrics()
    assert responses.point({"points": [], "count": value}, Meta(200)).count is None
    if value != 1.5:
        assert responses.metrics({"metrics": {"ttft_ms": value, "input_tokens": 7.0}}) == Metrics(input_tokens=7)
