"""The sandbox's answers to `ask_json`."""

from __future__ import annotations

import json
from typing import Any, Literal

import attrs
import jsonschema
import pydantic
import pytest

from moondream_async._client.structured import json_format
from moondream_async._sandbox.pixels import analyze
from moondream_async._sandbox.skills import answer


@attrs.frozen
class Part:
    color: str
    shape: str


@attrs.frozen
class Product:
    title: str
    background: str
    parts: list[Part]
    count: int
    in_stock: bool
    color: Literal["blue", "red", "green"]
    price: float | None = None


class Item(pydantic.BaseModel):
    class Inner(pydantic.BaseModel):
        color: str

    first: Inner
    rating: int = pydantic.Field(ge=1, le=2)


def ask(scene: bytes, question: str, schema: Any) -> Any:
    asked = json_format(schema)
    return asked.parse(answer(analyze(scene), f"{question} {asked.instruction}")[0])


def test_values_are_computed_from_the_pixels(scene: bytes) -> None:
    product = ask(scene, "What is it?", Product)
    assert product == Product(
        title="red square",
        background="white",
        parts=[Part("red", "square"), Part("blue", "circle"), Part("green", "triangle")],
        count=3,
        in_stock=True,
        color="red",
        price=3.0,
    )


def test_only_the_regions_that_the_question_names_count(scene: bytes) -> None:
    assert ask(scene, "Which blue parts are there?", Product).parts == [Part("blue", "circle")]


def test_references_and_limits(scene: bytes) -> None:
    item = ask(scene, "What is it?", Item)
    assert (item.first.color, item.rating) == ("red", 2)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "array", "items": {"type": "string"}, "minItems": 4},
        {"type": "array", "prefixItems": [{"type": "integer"}, {"const": 5}]},
        {"oneOf": [{"type": "null"}, {"type": "string"}]},
        {"enum": ["none", "all"]},
        {"$defs": {"node": {"properties": {"next": {"$ref": "#/$defs/node"}}}}, "$ref": "#/$defs/node"},
    ],
)
def test_answers_fit_their_schema(scene: bytes, schema: dict[str, Any]) -> None:
    text, _ = answer(analyze(scene), f"What? Answer with JSON only, by this JSON schema: {json.dumps(schema)} Please.")
    jsonschema.validate(json.loads(text), schema)


@pytest.mark.parametrize("end", ["", " {", " [1]"])
def test_other_texts_are_questions(scene: bytes, end: str) -> None:
    assert answer(analyze(scene), f"How many are there? By this JSON schema:{end}")[0] == "Three regions."
