"""Request bodies: every field, and every argument that must be refused."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest

from moondream_async import BoundingBox, ConfigurationError, Point
from moondream_async._wire import checks
from moondream_async._wire.skills import CAPTION, DETECT, POINT, QUERY, SEGMENT, Skill, with_image

IMAGE = b"data:image/png;base64,AAAA"


def body(skill: Skill[Any], *, model: str | None = None, image: bytes | None = IMAGE, **arguments: Any) -> Any:
    encoded = skill.body(arguments, model=model, has_image=image is not None)
    return json.loads(encoded if image is None else with_image(encoded, image))


def query(**changes: Any) -> Any:
    arguments: dict[str, Any] = {"question": "what?", "stream": False, "settings": None}
    return body(QUERY, **{**arguments, **changes})


def test_query_sends_only_given_fields() -> None:
    assert query() == {"image_url": IMAGE.decode(), "question": "what?", "stream": False}


@pytest.mark.parametrize(
    ("change", "field", "sent"),
    [
        ({"stream": True}, "stream", True),
        ({"reasoning": True}, "reasoning", True),
        ({"reasoning": False}, "reasoning", False),
        ({"model": " moondream3-preview "}, "model", "moondream3-preview"),
        (
            {"settings": {"temperature": 0, "top_p": 1, "max_tokens": 5}},
            "settings",
            {"temperature": 0, "top_p": 1, "max_tokens": 5},
        ),
        ({"settings": {}}, "settings", {}),
        ({"settings": {"variant": "a/b"}}, "settings", {"variant": "a/b"}),
        ({"spatial_refs": [(0.5, 0.25)]}, "spatial_refs", [[0.5, 0.25]]),
        ({"spatial_refs": [[0, 0, 1, 1]]}, "spatial_refs", [[0, 0, 1, 1]]),
        (
            {"spatial_refs": [Point(0.1, 0.2), BoundingBox(0, 0.1, 0.2, 0.3)]},
            "spatial_refs",
            [[0.1, 0.2], [0, 0.1, 0.2, 0.3]],
        ),
        ({"question": 'où? \u2028 🦉 "quoted"\n'}, "question", 'où? \u2028 🦉 "quoted"\n'),
    ],
)
def test_query_fields(change: dict[str, Any], field: str, sent: Any) -> None:
    assert query(**change)[field] == sent


def test_query_without_image_is_text_only() -> None:
    assert query(image=None) == {"question": "what?", "stream": False}


@pytest.mark.parametrize(
    "change",
    [
        {"question": None},
        {"question": ""},
        {"question": " \n"},
        {"question": 7},
        {"stream": 1},
        {"stream": "true"},
        {"reasoning": "yes"},
        {"model": ""},
        {"model": 3},
        {"image": None, "spatial_refs": [[0, 0]]},
        {"spatial_refs": "ab"},
        {"spatial_refs": [0.1, 0.2]},
        {"spatial_refs": [[0.1]]},
        {"spatial_refs": [[0.1, 0.2, 0.3]]},
        {"spatial_refs": [[math.nan, 0.1]]},
        {"spatial_refs": [[0.1, 1.01]]},
        {"spatial_refs": [[-0.1, 0.1]]},
        {"spatial_refs": [[math.inf, 0.1]]},
        {"spatial_refs": [[0.5, 0.5, 0.4, 0.6]]},
        {"spatial_refs": [["0.1", 0.2]]},
        {"spatial_refs": [[True, 0.2]]},
        {"spatial_refs": [[10**400, 0.2]]},
        pytest.param({"spatial_refs": (1 // 0 for _ in "a")}, id="a generator that fails"),
        {"settings": {"temperature": 10**400}},
        {"settings": []},
        {"settings": {"temperature": -1}},
        {"settings": {"temperature": math.nan}},
        {"settings": {"top_p": 0}},
        {"settings": {"top_p": 1.5}},
        {"settings": {"max_tokens": 0}},
        {"settings": {"max_tokens": 1.5}},
        {"settings": {"max_tokens": True}},
        {"settings": {1: 2}},
        pytest.param({"settings": {"other": object()}}, id="no JSON"),
        {"settings": {"other": math.inf}},
    ],
    ids=str,
)
def test_invalid_arguments_are_rejected(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        query(**change)


@pytest.mark.parametrize("length", ["short", "normal", "long"])
def test_caption(length: Any) -> None:
    assert body(CAPTION, length=length, stream=True, settings=None) == {
        "image_url": IMAGE.decode(),
        "length": length,
        "stream": True,
    }


@pytest.mark.parametrize("length", ["epic", "", None, 3])
def test_unknown_length(length: Any) -> None:
    with pytest.raises(ConfigurationError, match="length must be 'short', 'normal' or 'long'"):
        body(CAPTION, length=length)


def test_detect_and_point_do_not_stream() -> None:
    sent = body(DETECT, object="cat", settings={"max_objects": 3}, model="m")
    assert sent == {"image_url": IMAGE.decode(), "object": "cat", "settings": {"max_objects": 3}, "model": "m"}
    sent = body(POINT, object="cat", settings=None, spatial_refs=[[0, 0]])
    assert sent == {"image_url": IMAGE.decode(), "object": "cat", "spatial_refs": [[0, 0]]}


def test_segment() -> None:
    sent = body(SEGMENT, object="cat", spatial_refs=None, stream=True)
    assert sent == {"image_url": IMAGE.decode(), "object": "cat", "stream": True}


@pytest.mark.parametrize("what", ["", "  ", None, 5, ["cat"]])
def test_empty_object(what: Any) -> None:
    with pytest.raises(ConfigurationError, match="object must"):
        body(DETECT, object=what)


def test_numpy_numbers_are_numbers() -> None:
    numpy = pytest.importorskip("numpy")
    sent = query(spatial_refs=[numpy.array([0.25, 0.5])], settings={"temperature": numpy.float32(0.5)})
    assert sent["spatial_refs"] == [[0.25, 0.5]]
    assert sent["settings"] == {"temperature": 0.5}


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("max_token", "max_tokens"),
        ("maxTokens", "max_tokens"),
        ("max-objects", "max_objects"),
        ("max_object", "max_objects"),
        ("temprature", "temperature"),
        ("Temperature", "temperature"),
        ("topp", "top_p"),
        (" top_p", "top_p"),
        ("adaptor", "adapter"),
    ],
)
def test_a_misspelled_setting_is_rejected(name: str, meant: str) -> None:
    with pytest.raises(ConfigurationError, match=f"Did you mean '{meant}'"):
        checks.settings({name: 1})


@pytest.mark.parametrize("name", ["top_k", "min_p", "seed", "min_tokens", "adapter", "repetition_penalty", "variant"])
def test_other_unknown_settings_pass(name: str) -> None:
    assert checks.settings({name: 1}) == {name: 1}
