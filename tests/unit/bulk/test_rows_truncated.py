"""Columns of what the server may send, and of what was cut off."""

from __future__ import annotations

from moondream_async._bulk.rows import columns, rows

BOX = {"x_min": 0.1, "y_min": 0.1, "x_max": 0.2, "y_max": 0.2}


def test_scores_and_truncated_answers():
    record = {
        "id": "a",
        "skill": "detect",
        "arguments": {"object": "cat"},
        "ok": True,
        "result": {"objects": [{**BOX, "score": 0.5}, BOX]},
        "truncated": ["detect"],
    }
    first, second = rows(record)
    assert (first["score"], first["truncated"]) == (0.5, True)
    assert "score" not in second
    assert columns([first, second])[-2:] == ["score", "truncated"]
    del record["truncated"]
    assert "truncated" not in next(rows(record))
