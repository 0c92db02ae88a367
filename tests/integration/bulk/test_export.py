"""Export results to CSV and Parquet, and read the tables with other libraries."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from moondream_async import BoundingBox, Client, ConfigurationError, DetectResult, ResultsFileError
from moondream_async.bulk import export
from moondream_async.vision import to_csv


@pytest.fixture
def results(tmp_path: Path, scene: bytes, moondream_sandbox: Any) -> Path:
    out = tmp_path / "r.jsonl"
    with Client(base_url=moondream_sandbox.base_url) as client:
        items = [
            ('a,\n"b" é \udce9', scene, {"object": ["red", "blue"]}),
            ("none", scene, {"object": "pink"}),
            ("bad", b"x"),
        ]
        client.run("detect", items, out, object="red", concurrency=1)
    return out


def test_csv(results: Path) -> None:
    table = results.with_suffix(".csv")
    assert export(results, table) == 4
    with table.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["id"], r["ok"], r["label"], r["count"], r["number"]) for r in rows] == [
        ('a,\n"b" é \\udce9', "True", "red", "2", "1"),
        ('a,\n"b" é \\udce9', "True", "blue", "2", "2"),
        ("none", "True", "", "0", ""),
        ("bad", "False", "", "", ""),
    ]
    assert float(rows[0]["x_min"]) == pytest.approx(0.094, abs=0.01)
    assert rows[0]["object"] == "red, blue"
    assert (rows[3]["error"], rows[3]["message"]) == (
        "ImageError",
        "The file is not a supported image: it is text [item bad, bytes (1 bytes)].",
    )
    assert "caption" not in rows[0]
    assert "x" not in rows[0]


def test_parquet(results: Path) -> None:
    from pyarrow import parquet  # slow to import

    table = results.with_suffix(".parquet")
    assert export(results, table) == 4
    rows: list[dict[str, Any]] = parquet.read_table(table).to_pylist()
    assert [(r["ok"], r["label"], r["count"]) for r in rows] == [
        (True, "red", 2),
        (True, "blue", 2),
        (True, None, 0),
        (False, None, None),
    ]
    assert isinstance(rows[0]["x_min"], float)
    assert isinstance(rows[0]["input_tokens"], int)


def test_every_skill(tmp_path: Path, scene: bytes, moondream_sandbox: Any) -> None:
    out, table = tmp_path / "r.jsonl", tmp_path / "r.csv"
    skills: dict[str, Any] = {
        "caption": {},
        "query": {"question": "How many red shapes are there?", "reasoning": True},
        "point": {"object": "red"},
        "segment": {"object": "red"},
    }
    with Client(base_url=moondream_sandbox.base_url) as client:
        client.run(skills, [("a", scene)], out)
    assert export(str(out), str(table)) == 4
    with table.open(newline="") as file:
        caption, query, point, segment = csv.DictReader(file)
    assert caption["caption"].startswith("An image")
    assert query["answer"]
    assert query["question"] == "How many red shapes are there?"
    assert query["reasoning"]
    assert float(point["x"]) == pytest.approx(0.25, abs=0.01)
    assert segment["path"].startswith("M ")
    assert float(segment["x_max"]) > float(segment["x_min"])


def test_a_table_is_written_completely_or_not_at_all(tmp_path: Path, results: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("before")
    results.write_bytes(b"{}\n" * 30 + results.read_bytes())
    with pytest.raises(ResultsFileError, match="not a results file"):
        export(results, table)
    assert table.read_text() == "before"
    assert not list(tmp_path.glob("*.new"))


def test_the_results_file_is_not_overwritten(results: Path) -> None:
    content = results.read_bytes()
    same = results.with_suffix(".csv")
    same.symlink_to(results)
    with pytest.raises(ConfigurationError, match="itself"):
        export(results, same)
    assert results.read_bytes() == content


def test_a_link_stays_a_link(results: Path) -> None:
    link, target = results.parent / "link.csv", results.parent / "t.csv"
    link.symlink_to(target)
    export(results, link)
    assert link.is_symlink()
    assert target.read_text().startswith("id,")


@pytest.mark.parametrize("damage", [{"elapsed": "x"}, {"result": 5}, {"result": {"objects": [1]}}])
def test_damaged_records_are_skipped(damage: dict[str, Any], results: Path, caplog: pytest.LogCaptureFixture) -> None:
    first, *others = results.read_bytes().splitlines(keepends=True)
    results.write_bytes(b"".join([*others, json.dumps({**json.loads(first), **damage}).encode()]))
    for table in ("t.csv", "t.parquet"):
        assert export(results, results.parent / table) == 2
    assert "1 damaged lines were skipped (line 3: its " in caplog.text


def test_questions_that_are_not_strings(results: Path) -> None:
    record = json.loads(results.read_bytes().splitlines()[0])
    results.write_text(json.dumps({**record, "arguments": {"question": 7, "object": None}}) + "\n")
    assert export(results, results.with_suffix(".csv")) == 2


def test_invalid_output_paths(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"\.csv or \.parquet"):
        export(results, "x.xlsx")
    with pytest.raises(ResultsFileError, match="cannot be written"):
        export(results, results.parent / "no" / "x.csv")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigurationError, match=r"moondream-async\[parquet\]"):
        export(results, results.with_suffix(".parquet"))


def hostile(id: Any, result: dict[str, Any], skill: str = "caption", **more: Any) -> bytes:
    record = {"id": id, "skill": skill, "arguments": {}, "ok": True, "result": result, "run": "run", **more}
    return json.dumps(record).encode() + b"\n"


@pytest.mark.parametrize(
    ("text", "cell"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("+1+1", "'+1+1"),
        ("-2+3", "'-2+3"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("\n=1", "'\n=1"),
        ("\uff1d1+1", "'\uff1d1+1"),
        ("=", "'="),
        ("-", "'-"),
        ("-5", "-5"),
        ("+1.5e-3", "+1.5e-3"),
        ("-\u0661", "'-\u0661"),
        ("1=1", "1=1"),
        ("a\r=1", "a\r=1"),
        ('a",=1', 'a",=1'),
        ("", ""),
    ],
)
def test_no_cell_is_a_formula(text: str, cell: str, tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(
        hostile(text, {"caption": text, "finish_reason": text}) + hostile(-7.5, {"caption": ""})
    )
    assert export(tmp_path / "r", tmp_path / "r.csv") == 2
    with (tmp_path / "r.csv").open(newline="") as file:
        first, second = csv.DictReader(file)
    assert (first["id"], first["caption"], first["finish_reason"]) == (cell, cell, cell)
    assert second["id"] == "-7.5"
    box = BoundingBox(-0.5, 0.0, 1.0, 1.0, label=text)
    rows = list(csv.reader(to_csv(DetectResult(objects=(box, box))).splitlines(keepends=True)))
    assert "".join(to_csv(DetectResult(objects=())).splitlines()) == "label,x_min,y_min,x_max,y_max"
    if text:
        assert rows[1:] == [[cell, "-0.5", "0.0", "1.0", "1.0"]] * 2


@pytest.mark.parametrize(
    "line",
    [
        hostile("a", {"caption": "x", "metrics": {"input_tokens": 10**40, "output_tokens": "7"}}),
        hostile("a", {"caption": "x", "metrics": [1], "objects": 5, "points": [1]}),
        hostile("a", {"caption": "x", "metrics": {"input_tokens": float("inf")}}),
        hostile("a", {"caption": "x"}, attempts=10**30),
        hostile("a", {"caption": "x"}, elapsed=float("nan")),
        hostile("a", {"answer": "x", "reasoning": "why"}, "query"),
        hostile("a", {"objects": [{"x_min": float("nan"), "y_min": 0, "x_max": 1, "y_max": 1}]}, "detect"),
        hostile("a", {"path": "M", "bbox": {"x_min": 0, "y_min": 0, "x_max": 1, "y_max": 1, "id": "b"}}, "segment"),
        hostile("a", {}, ok=False, error="no"),
        hostile("a", {}, ok=False, error={"type": 5, "status": "x"}),
    ],
)
def test_any_line_becomes_one_row(line: bytes, tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(line)
    for name in ("t.csv", "t.parquet"):
        assert export(tmp_path / "r", tmp_path / name) == 1
    from pyarrow import parquet

    [row] = parquet.read_table(tmp_path / "t.parquet").to_pylist()
    assert row["id"] == "a"


@pytest.mark.parametrize("name", ["a\0b.csv", "a\0b.parquet", None, 5])
def test_invalid_names(name: Any, results: Path) -> None:
    with pytest.raises(ConfigurationError):
        export(results, name)
    with pytest.raises((ResultsFileError, ConfigurationError)):
        export(name, results.with_suffix(".csv"))
