"""Results as tables: every value in its place, read back by others."""

from __future__ import annotations

import csv
import json
import sys
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest

from moondream_async import Client, ConfigurationError, ResultsFileError
from moondream_async.bulk import export


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
    assert (rows[3]["error"], rows[3]["message"]) == ("ImageError", "The file is not an image: it is text.")
    assert "caption" not in rows[0]
    assert "x" not in rows[0]


def test_parquet(results: Path) -> None:
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


def test_a_table_is_whole_or_not_there(tmp_path: Path, results: Path) -> None:
    table = tmp_path / "t.csv"
    table.write_text("before")
    results.write_bytes(results.read_bytes() + b"{}\n" + b"{}\n")
    with pytest.raises(ResultsFileError, match="no file of results"):
        export(results, table)
    assert table.read_text() == "before"
    assert not list(tmp_path.glob("*.new"))


def test_not_over_the_results_themselves(results: Path) -> None:
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
def test_damaged_records(damage: dict[str, Any], results: Path) -> None:
    record = {**json.loads(results.read_bytes().splitlines()[0]), **damage}
    results.write_text(json.dumps(record) + "\n")
    for table in ("t.csv", "t.parquet"):
        with pytest.raises(ResultsFileError, match="damaged in line 1"):
            export(results, results.parent / table)


def test_questions_need_not_be_text(results: Path) -> None:
    record = json.loads(results.read_bytes().splitlines()[0])
    results.write_text(json.dumps({**record, "arguments": {"question": 7, "object": None}}) + "\n")
    assert export(results, results.with_suffix(".csv")) == 2


def test_where_to(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match=r"\.csv or \.parquet"):
        export(results, "x.xlsx")
    with pytest.raises(ResultsFileError, match="cannot be written"):
        export(results, results.parent / "no" / "x.csv")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigurationError, match=r"moondream-async\[parquet\]"):
        export(results, results.with_suffix(".parquet"))
