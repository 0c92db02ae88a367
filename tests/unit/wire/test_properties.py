"""Any JSON from a server gives a result or one of the documented errors."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moondream_async import APIError, Meta
from moondream_async._wire import errors, responses
from moondream_async._wire.events import SegmentReducer, TextReducer
from moondream_async._wire.retry import parse_retry_after
from tests.support.effort import scaled

WORDS = (
    "answer", "caption", "objects", "points", "path", "bbox", "reasoning", "text", "grounding", "start_idx", "end_idx",
    "x_min", "y_min", "x_max", "y_max", "x", "y", "metrics", "error", "detail", "message", "code", "status", "chunk",
    "completed", "type", "loc", "msg", "request_id", "data", "models", "id", "_stats",
)  # fmt: skip
NAMES = st.sampled_from(WORDS) | st.text(max_size=5)
LEAVES = st.none() | st.booleans() | st.integers() | st.just(10**400) | st.floats() | st.text(max_size=20)
JSON = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=6), max_leaves=20
)
OBJECTS = st.dictionaries(NAMES, JSON, max_size=8)


@settings(max_examples=scaled(30, 300), deadline=None)
@given(data=JSON | OBJECTS)
@pytest.mark.parametrize(
    "read", [responses.query, responses.caption, responses.detect, responses.point, responses.segment]
)
def test_responses(read: Any, data: Any) -> None:
    with contextlib.suppress(*responses.PARSE_ERRORS):
        result = read(data, Meta(200))
        assert dict(result) == result.to_dict()
        repr(result)


@settings(max_examples=scaled(25, 500), deadline=None)
@given(data=JSON | OBJECTS, status=st.integers(300, 599), text=st.binary(max_size=40))
def test_errors(data: Any, status: int, text: bytes) -> None:
    for body in (json.dumps(data).encode(), text):
        error = errors.from_response(status, {}, body, now=0)
        assert isinstance(error, APIError)
        assert error.message
        assert errors.effective_status(error) == status
    inside = errors.from_success(200, {}, data, now=0)
    assert inside is None or errors.effective_status(inside) >= 400


@settings(max_examples=scaled(30, 300), deadline=None)
@given(events=st.lists(OBJECTS, max_size=5))
def test_streams(events: list[dict[str, Any]]) -> None:
    for reducer in (TextReducer("answer", responses.query), SegmentReducer()):
        with contextlib.suppress(*responses.PARSE_ERRORS):
            for event in events:
                reducer.feed(event)
            reducer.result(Meta(200))
        assert isinstance(reducer.text, str)
        assert reducer.partial is not None  # it is available after any interruption


@given(value=st.text(max_size=40))
def test_retry_after(value: str) -> None:
    seconds = parse_retry_after({"retry-after": value, "retry-after-ms": value}, now=0)
    assert seconds is None or seconds >= 0
