"""What results, outcomes and run summaries look like in a few words and in notebooks."""

from __future__ import annotations

import json
from typing import Any

import pytest

import moondream_async as md
from moondream_async.types import Meta

OUTCOME: Any = md.Outcome
CAR, PERSON = md.BoundingBox(0, 0, 0.1, 0.1, "car"), md.BoundingBox(0, 0, 0.1, 0.1, "person")
NONE = md.DetectResult(objects=())
LABELED = md.DetectResult(
    objects=(CAR, PERSON, CAR),
    by_label={"car": NONE, "dog": NONE, "person": NONE},
)


@pytest.mark.parametrize(
    ("result", "text"),
    [
        (md.CaptionResult(caption="A *cat*."), "A *cat*."),
        (md.QueryResult(answer="Two."), "Two."),
        (md.ChatResult(content="Hello"), "Hello"),
        (NONE, "no objects"),
        (md.DetectResult(objects=(md.BoundingBox(0, 0, 1, 1),)), "1 object"),
        (LABELED, "3 objects: 2 car, no dog, 1 person"),
        (md.DetectResult(objects=(), by_label={"dog": NONE}), "no objects: no dog"),
        (md.PointResult(points=(md.Point(0, 0), md.Point(1, 1))), "2 points"),
        (md.SegmentResult(path=" "), "no outline"),
        (md.SegmentResult(path="M 0 0", bbox=md.BoundingBox(0, 0.25, 1, 1)), "1 outline in 0.000, 0.250, 1.000, 1.000"),
        (md.SegmentResult(path="M 0 0"), "1 outline"),
    ],
)
def test_str_of_a_result_is_short(result: Any, text: str) -> None:
    assert str(result) == text
    assert repr(result).startswith(f"{type(result).__name__}(request_id=None, finish_reason=None")


def test_results_as_json() -> None:
    result = md.DetectResult(objects=(md.BoundingBox(0, 0, 1, 1, "ä"),), request_id="r", image_size=(3, 4))
    assert json.loads(result.to_json()) == result.to_dict() == json.loads(json.dumps(dict(result)))
    assert result.to_json().startswith('{"request_id": "r", "objects": [{"x_min": 0,')
    assert result.to_json(indent=2).startswith('{\n  "request_id"')
    assert md.Point(0.5, 0.25).to_json() == '{"x": 0.5, "y": 0.25}'


def test_texts_are_shown_as_markdown() -> None:
    assert md.CaptionResult(caption="A *cat*.")._repr_markdown_() == "A *cat*."
    assert md.QueryResult(answer="Two.", meta=Meta(status=200))._repr_markdown_() == "Two."


def test_an_outcome_is_a_line_and_a_table() -> None:
    done = OUTCOME(0, "<a>.jpg", md.QueryResult(answer="<script>alert(1)</script>"), None, 1, 0.5)
    assert str(done) == "<a>.jpg: <script>alert(1)</script>"
    assert done._repr_html_() == (
        "<table><tr><th>id</th><th>result</th><th>attempts</th><th>seconds</th></tr><tr><td>&lt;a&gt;.jpg</td>"
        "<td>&lt;script&gt;alert(1)&lt;/script&gt;</td><td>1</td><td>0.50</td></tr></table>"
    )


def test_an_id_that_cannot_be_shown_is_no_error() -> None:
    class Unprintable:
        def __str__(self) -> str:
            raise RuntimeError("x")

    assert OUTCOME(0, Unprintable(), LABELED, None, 1, 0.0)._repr_html_() is None


def test_an_outcome_of_several_skills_shows_each_and_the_error() -> None:
    error = md.ImageError("no")
    both = OUTCOME(0, 7, {"caption": md.CaptionResult(caption="A cat."), "detect": LABELED}, None, 2, 0)
    assert str(both) == "7: caption: A cat.; detect: 3 objects: 2 car, no dog, 1 person"
    assert both._repr_html_().count("<tr>") == 3
    assert str(OUTCOME(0, "a.jpg", None, error, 2, 0)) == "a.jpg: ImageError: no"
    partial = OUTCOME(0, "a.jpg", {"caption": md.CaptionResult(caption="A cat.")}, error, 2, 0)
    assert str(partial) == "a.jpg: caption: A cat.; ImageError: no"


def test_a_run_summary_is_a_line_and_a_table() -> None:
    summary = md.RunSummary(total=5000, succeeded=1200, failed=3, skipped=7, cost=0.25, elapsed=2.04)
    assert str(summary) == "1,200 done, 3 failed, 7 skipped, 3,790 left, 2.0 s, about $0.2500"
    assert "<th>failed</th>" in summary._repr_html_()
    assert str(md.RunSummary(cost_limit_reached=True)) == "0 done, 0 failed, 0.0 s, stopped at max_cost"
