"""Stream events: every documented format gives the same pieces and the same result."""

from __future__ import annotations

from typing import Any

import pytest

from moondream_async import BoundingBox, Meta, SegmentUpdate
from moondream_async._wire import events, responses
from moondream_async._wire.events import SegmentReducer, TextReducer
from moondream_async._wire.responses import InvalidResponse

META = Meta(200)
BOX = {"x_min": 0.1, "y_min": 0.2, "x_max": 0.3, "y_max": 0.4}
METRICS = {"input_tokens": 735, "output_tokens": 3}

DEMO = [{"text": "A "}, {"text": "cat"}, {"completed": True}]
DOCS = [
    {"chunk": "A ", "completed": False, "request_id": "r"},
    {"chunk": "cat", "completed": False, "request_id": "r"},
    {"completed": True, "chunk": "", "org_id": "o", "request_id": "r"},
]
ENGINE = [
    {"chunk": "A ", "completed": False, "token_index": 0},
    {
        "chunk": "cat",
        "completed": True,
        "request_id": "r",
        "finish_reason": "stop",
        "caption": "A cat",
        "metrics": METRICS,
    },
]
STATION = [{"chunk": "A "}, {"chunk": "cat"}, {"stats": {"tokens": 3, "duration": 0.1}}, {"completed": True}]
RUBY = [{"caption": "A cat"}]
RUBY_TAIL = [{"chunk": "A "}, {"caption": "A cat"}]
OPENAI_END = [{"chunk": "A "}, {"chunk": "cat"}, {"completed": True}]


def reduce(stream: list[dict[str, Any]]) -> tuple[list[str], TextReducer[Any]]:
    reducer = TextReducer("caption", responses.caption)
    return [piece for event in stream if (piece := reducer.feed(event)) is not None], reducer


@pytest.mark.parametrize(
    "stream",
    [DEMO, DOCS, ENGINE, STATION, RUBY, RUBY_TAIL, OPENAI_END],
    ids=["demo", "docs", "engine", "station", "ruby", "tail", "openai"],
)
def test_every_format_gives_the_same_text(stream: list[dict[str, Any]]) -> None:
    pieces, reducer = reduce(stream)
    assert "".join(pieces) == "A cat"
    assert reducer.text == "A cat"
    assert reducer.completed
    assert reducer.result(META).caption == "A cat"


def test_the_final_event_fills_the_result() -> None:
    result = reduce(ENGINE)[1].result(META)
    assert result.metrics.output_tokens == 3
    assert (result.finish_reason, result.request_id) == ("stop", "r")
    assert reduce(DOCS)[1].result(META)["org_id"] == "o"
    assert reduce(STATION)[1].result(META).metrics.output_tokens == 3


def test_the_complete_text_of_the_final_event_wins() -> None:
    _, reducer = reduce([{"chunk": "A kat"}, {"chunk": "", "completed": True, "caption": "A cat"}])
    assert reducer.result(META).caption == "A cat"


def test_an_unfinished_stream_keeps_its_partial_text() -> None:
    _, reducer = reduce(DOCS[:2])
    assert not reducer.completed
    assert reducer.partial == "A cat"


def test_streamed_reasoning_is_in_the_result() -> None:
    reducer = TextReducer("answer", responses.query)
    reducer.feed(
        {"chunk": "yes", "completed": True, "answer": "yes", "reasoning": {"text": "because", "grounding": []}}
    )
    result = reducer.result(META)
    assert result.reasoning is not None
    assert result.reasoning.text == "because"


def test_segment_as_documented() -> None:
    reducer = SegmentReducer()
    updates = [
        reducer.feed({"type": "bbox", "bbox": BOX}),
        reducer.feed({"type": "path_delta", "chunk": "M 0 0.76", "completed": False, "token_index": 0}),
        reducer.feed({"type": "path_delta", "chunk": " L 0 0.3", "completed": False}),
        reducer.feed(
            {
                "type": "final",
                "path": "M 0 0 Z",
                "bbox": {**BOX, "x_min": 0},
                "completed": True,
                "chunk": "",
                "metrics": METRICS,
            }
        ),
    ]
    assert updates[0] == SegmentUpdate(bbox=BoundingBox(**BOX))
    assert [u["chunk"] for u in updates if u is not None and "chunk" in u] == ["M 0 0.76", " L 0 0.3"]
    last = updates[3]
    assert last is not None
    assert last.get("completed")
    assert "chunk" not in last
    assert last["path"] == "M 0 0 Z"
    assert last["bbox"]["x_min"] == 0
    result = reducer.result(META)
    assert result.path == "M 0 0 Z"
    assert result.bbox == BoundingBox(0, 0.2, 0.3, 0.4)
    assert result.metrics is not None


def test_segment_partial_is_the_coarse_path() -> None:
    reducer = SegmentReducer()
    reducer.feed({"type": "bbox", "bbox": BOX})
    reducer.feed({"type": "path_delta", "chunk": "M 0 0"})
    assert reducer.partial.path == "M 0 0"
    assert reducer.partial.bbox == BoundingBox(**BOX)


def test_segment_without_an_object() -> None:
    reducer = SegmentReducer()
    update = reducer.feed({"type": "final", "path": "", "completed": True, "parse_error": "empty"})
    assert update is not None
    assert update["bbox"] is None
    assert reducer.result(META).parse_error == "empty"


def test_parse() -> None:
    assert events.parse('{"chunk": "\u2028\x85 🦉"}') == {"chunk": "\u2028\x85 🦉"}
    assert events.parse('{"chunk": "\\ud83e\\udd89"}') == {"chunk": "🦉"}
    assert events.parse("") is None
    assert events.parse("[DONE]") == {"completed": True}
    for bad in ("{", "[1]", "null", "x", "3"):
        with pytest.raises(InvalidResponse):
            events.parse(bad)


@pytest.mark.parametrize("event", [{"chunk": 3}, {"text": ["a"]}])
def test_chunks_that_are_not_text(event: dict[str, Any]) -> None:
    with pytest.raises(InvalidResponse):
        reduce([event])
    with pytest.raises(InvalidResponse):
        SegmentReducer().feed({"chunk": 3})
