"""Outcomes, results and results files as data frames."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest

import moondream_async as md
from moondream_async import bulk

OUTCOME: Any = md.Outcome
RED = md.BoundingBox(0.1, 0.2, 0.3, 0.4, "red")
NONE = md.DetectResult(objects=())
LABELED = md.DetectResult(objects=(RED,), by_label={"red": NONE, "dog": NONE}, metrics=md.Metrics(input_tokens=7))


def rows(frame: Any) -> list[dict[str, Any]]:
    """The rows of a pandas or polars data frame, without missing values."""
    missing = importlib.import_module("pandas").isna
    table = frame.to_dict("records") if hasattr(frame, "iloc") else frame.to_dicts()
    return [{name: value for name, value in row.items() if not missing(value)} for row in table]


@pytest.fixture(params=[bulk.to_pandas, bulk.to_polars], ids=lambda function: function.__name__)
def to_frame(request: pytest.FixtureRequest) -> Any:
    pytest.importorskip(request.param.__name__.removeprefix("to_"))
    return request.param


def test_outcomes(to_frame: Any) -> None:
    outcomes = [
        OUTCOME(0, "a.jpg", LABELED, None, 1, 0.5),
        OUTCOME(1, 2, None, md.RateLimitError("slow", status=429), 4, 1.5),
        OUTCOME(2, "c\udce9", {"caption": md.CaptionResult(caption="A cat.")}, md.ImageError("no"), 1, 0.0),
    ]
    box = {"x_min": 0.1, "y_min": 0.2, "x_max": 0.3, "y_max": 0.4}
    red = {"id": "a.jpg", "skill": "detect", "ok": True, "object": "red, dog", "attempts": 1, "elapsed": 0.5}
    red |= {"input_tokens": 7}
    c = {"id": "c\\udce9", "attempts": 1, "elapsed": 0.0}
    assert rows(to_frame(outcomes)) == [
        {**red, "count": 1, "number": 1, "label": "red", **box},
        {**red, "count": 0, "label": "dog"},
        {
            "id": "2",
            "skill": "",
            "ok": False,
            "error": "RateLimitError",
            "message": "slow",
            "status": 429,
            "attempts": 4,
            "elapsed": 1.5,
        },
        {**c, "skill": "caption", "ok": True, "caption": "A cat."},
        {**c, "skill": "", "ok": False, "error": "ImageError", "message": "no"},
    ]


def test_results(to_frame: Any) -> None:
    points = md.PointResult(points=(md.Point(0.5, 0.25),))
    frame = to_frame(iter([points, md.QueryResult(answer="=1+1")]))
    first, second = rows(frame)
    assert (first["id"], first["skill"], first["x"], first["y"], first["count"]) == ("0", "point", 0.5, 0.25, 1)
    assert (second["id"], second["skill"], second["answer"]) == ("1", "query", "=1+1")
    assert rows(to_frame(points)) == [first]
    assert rows(to_frame(OUTCOME(0, "a", points, None, 1, 0.0)))[0]["x"] == 0.5
    assert rows(to_frame([])) == []


def test_a_results_file(to_frame: Any, tmp_path: Path, scene: bytes, moondream_sandbox: Any) -> None:
    out = tmp_path / "results.jsonl"
    with md.Client(base_url=moondream_sandbox.base_url) as client:
        client.run("detect", [("a", scene)], out, object=["red", "pink"])
    for results in (out, str(out), bulk.read_results(out)):
        table = rows(to_frame(results))
        assert [(row["label"], row["count"], row["object"]) for row in table] == [
            ("red", 1, "red, pink"),
            ("pink", 0, "red, pink"),
        ]


@pytest.mark.parametrize("results", [5, None, [5], b"x"])
def test_something_else(to_frame: Any, results: object) -> None:
    with pytest.raises(md.ConfigurationError, match="results must be outcomes"):
        to_frame(results)


def test_an_async_iterator(to_frame: Any) -> None:
    with pytest.raises(md.ConfigurationError, match="Collect the outcomes first"):
        to_frame(md.AsyncClient("k").map("caption", []))


@pytest.mark.parametrize("name", ["pandas", "polars"])
def test_without_the_package(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(md.ConfigurationError, match=rf"^to_{name} needs {name}: pip install {name}\.$"):
        getattr(bulk, f"to_{name}")([])


def test_number_columns_keep_missing_values() -> None:
    frame = bulk.to_pandas([LABELED])
    assert str(frame.dtypes["number"]) == "Int64"
    assert str(frame.dtypes["x_min"]) == "float64"
