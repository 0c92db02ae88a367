"""Typed answers: parsing, asking once more, errors."""

from __future__ import annotations

import pickle
import sys
from typing import Any, Literal

import attrs
import pydantic
import pytest

from moondream_async import AnswerError, AsyncClient, Client, ConfigurationError, EncodedImage
from moondream_async._client.structured import describe, parse_list, parse_number, parse_yes_no
from tests.support.loopback import Exchange, serve


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("Yes", True),
        ("No.", False),
        ("yes, there is a cat", True),
        ("**No**, it is a dog", False),
        ("TRUE", True),
        ("The answer is no.", False),
        ("I think yes", True),
        ("Yes, there is no doubt", True),
    ],
)
def test_yes_no(raw: str, value: bool) -> None:
    assert parse_yes_no(raw) is value


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "maybe",
        "There is a cat",
        "It could be yes or no",
        "notable",
        "That is not true.",
        "Not yes, not quite",
        "yes and no",
        "There is no doubt that there is a cat",
        "It is a Y shape",
    ],
)
def test_neither_yes_nor_no(raw: str) -> None:
    with pytest.raises(ValueError, match=r"neither|empty"):
        parse_yes_no(raw)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("3", 3),
        ("There are 3 people.", 3),
        ("three", 3),
        ("Twelve eggs", 12),
        ("a dozen", 12),
        ("None", 0),
        ("1,234.5 m", 1234.5),
        ("-7", -7),
        ("3 and again 3", 3),
        ("75%", 75),
        ("about 2.50", 2.5),
        ("12.5kg", 12.5),
        ("1,234kg", 1234),
        ("1.5e3", 1500),
        (".5", 0.5),
        ("5px", 5),
        ("\u22125", -5),
        ("no cats at all", 0),
    ],
)
def test_numbers(raw: str, value: float) -> None:
    assert parse_number(raw) == value


@pytest.mark.parametrize(
    "raw",
    [
        "",
        "many",
        "3 or 4",
        "B2B",
        "someone",
        "one hundred",
        "5 million",
        "minus 5",
        "twenty-one",
        "1.234.567",
        "No, I cannot determine the number.",
        "There is no way to tell.",
        "1" * 400,
    ],
)
def test_answers_without_one_number(raw: str) -> None:
    with pytest.raises(ValueError, match="number"):
        parse_number(raw)


@pytest.mark.parametrize(
    ("raw", "value"),
    [
        ("cat, dog, bird", ["cat", "dog", "bird"]),
        ("cat; dog", ["cat", "dog"]),
        ("a cat and a dog.", ["a cat", "a dog"]),
        ("- cat\n- dog", ["cat", "dog"]),
        ("Here they are:\n1. cat\n2) dog", ["cat", "dog"]),
        ("cat\ndog", ["cat", "dog"]),
        ('["cat", "dog"]', ["cat", "dog"]),
        ('```json\n["cat"]\n```', ["cat"]),
        ("cat, cat", ["cat"]),
        ("None.", []),
        ("nothing", []),
        ("Sandra, Andy", ["Sandra", "Andy"]),
        ("```json\n[]\n```", []),
        ("[ ]", []),
        ("There are none.", []),
        ('Here: ["a", "b"]', ["a", "b"]),
        ("[a, b]", ["a", "b"]),
        ("**red**, blue", ["red", "blue"]),
    ],
)
def test_lists(raw: str, value: list[str]) -> None:
    assert parse_list(raw) == value


@attrs.frozen
class Car:
    """An attrs class with defaults."""

    color: str
    doors: int
    kind: Literal["van", "bus"] = "van"
    owners: list[str] = attrs.Factory(list)


class Pet(pydantic.BaseModel):
    """A pydantic model."""

    name: str
    age: int


@attrs.frozen
class Hidden:
    """An attrs class with a private name, an alias and a union."""

    _x: int
    y: int = attrs.field(alias="why")
    z: int | str = 0


SCHEMA = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}


class Answers:
    """A server that returns the given answers in order."""

    def __init__(self, *answers: str) -> None:
        self.remaining = list(answers)
        self.questions: list[str] = []

    async def __call__(self, exchange: Exchange) -> None:
        self.questions.append(exchange.json["question"])
        await exchange.answer({"answer": self.remaining.pop(0)})


@pytest.mark.parametrize(
    ("method", "more", "answer", "value"),
    [
        ("ask_yes_no", [], "Yes.", True),
        ("ask_number", [], "3 cats", 3),
        ("ask_list", [], "a, b", ["a", "b"]),
        ("ask_json", [SCHEMA], 'Sure: {"n": 3}', {"n": 3}),
        ("ask_json", [Car], '```json\n{"color": "red", "doors": 3, "owners": ["x"]}\n```', Car("red", 3, "van", ["x"])),
        ("ask_json", [Pet], '{"name": "Rex", "age": 4}', Pet(name="Rex", age=4)),
        ("ask_json", [SCHEMA], 'In image [1] there is {"n": 3}', {"n": 3}),
        ("ask_json", [SCHEMA], '<think>maybe {"n": 1}?</think> {"n": 2}', {"n": 2}),
        ("ask_json", [{"type": "integer"}], "5", 5),
        ("ask_json", [Hidden], '{"x": 1, "why": 2, "z": "s"}', Hidden(x=1, why=2, z="s")),
    ],
)
async def test_valid_answers(method: str, more: list[Any], answer: str, value: Any, tiny: EncodedImage) -> None:
    server_answers = Answers(answer)
    async with serve(server_answers) as server, AsyncClient("k" * 20, base_url=server.base_url) as client:
        assert await getattr(client, method)(tiny, "What is it?", *more) == value
    assert server_answers.questions[0].startswith("What is it? Answer with ")


@pytest.mark.parametrize(
    ("method", "more", "invalid", "message", "valid", "value"),
    [
        ("ask_yes_no", [], "Perhaps", "neither yes nor no", "no", False),
        ("ask_number", [], "3 or 4", "several numbers", "4", 4),
        ("ask_list", [], " ", "empty", "a", ["a"]),
        ("ask_json", [SCHEMA], '{"n": "x"}', "'x' is not of type 'integer'", '{"n": 1}', {"n": 1}),
        ("ask_json", [SCHEMA], '{"n": 1', "it has no JSON", '{"n": 1}', {"n": 1}),
        ("ask_json", [Car], '{"color": "red"}', "doors", '{"color": "red", "doors": 2}', Car("red", 2)),
        (
            "ask_json",
            [Car],
            '{"color": null, "doors": 2}',
            "not of type",
            '{"color": "red", "doors": 2}',
            Car("red", 2),
        ),
        (
            "ask_json",
            [Car],
            '{"color": "red", "doors": 2.7}',
            "not of type",
            '{"color": "red", "doors": 2}',
            Car("red", 2),
        ),
        ("ask_json", [SCHEMA], '{"n": NaN}', "it has no JSON", '{"n": 1}', {"n": 1}),
        ("ask_json", [Pet], '{"name": "Rex"}', "age", '{"name": "Rex", "age": 1}', Pet(name="Rex", age=1)),
    ],
)
async def test_invalid_answers_are_asked_for_once_more(
    method: str, more: list[Any], invalid: str, message: str, valid: str, value: Any, tiny: EncodedImage
) -> None:
    answers = Answers(invalid, valid)
    async with serve(answers) as server, AsyncClient("k" * 20, base_url=server.base_url) as client:
        assert await getattr(client, method)(tiny, "What?", *more) == value
    assert "cannot be used" in answers.questions[1]
    assert message in answers.questions[1]
    answers = Answers(invalid, invalid, valid)
    async with serve(answers) as server, AsyncClient("k" * 20, base_url=server.base_url) as client:
        with pytest.raises(AnswerError, match="cannot be used") as failed:
            await getattr(client, method)(tiny, "What?", *more)
        assert failed.value.answers == [invalid, invalid]
        assert pickle.loads(pickle.dumps(failed.value)).answers == [invalid, invalid]
        answers.remaining = [invalid, valid]
        with pytest.raises(AnswerError):
            await getattr(client, method)(tiny, "What?", *more, repair=False)
    assert len(answers.questions) == 3


@attrs.define
class Tree:
    """A class that contains itself."""

    children: list[Tree]


@attrs.define
class Unsupported:
    """A class with a field that JSON cannot hold."""

    thing: bytes


@pytest.mark.parametrize(
    "schema", [None, 5, "text", int, {"type": "no such type"}, ["n"], {"default": {1}}, Tree, Unsupported]
)
def test_invalid_schemas(schema: Any, tiny: EncodedImage) -> None:
    with Client("k" * 20) as client, pytest.raises(ConfigurationError, match="schema"):
        client.ask_json(tiny, "?", schema)


@pytest.mark.parametrize("question", ["", " ", None, 5])
def test_invalid_questions(question: Any, tiny: EncodedImage) -> None:
    with Client("k" * 20) as client, pytest.raises(ConfigurationError, match="question"):
        client.ask_yes_no(tiny, question)


def test_schemas_of_attrs_classes() -> None:
    @attrs.define
    class Garage:
        cars: list[Car]
        note: str | None = None
        sizes: dict[str, float] = attrs.Factory(dict)
        anything: Any = None

    car = {
        "type": "object",
        "properties": {
            "color": {"type": "string"},
            "doors": {"type": "integer"},
            "kind": {"enum": ["van", "bus"]},
            "owners": {"type": "array", "items": {"type": "string"}},
        },
        "required": ["color", "doors"],
    }
    Garage.__annotations__ = {"cars": list[Car], "note": str | None, "sizes": dict[str, float], "anything": Any}
    assert describe(Garage) == {
        "type": "object",
        "properties": {
            "cars": {"type": "array", "items": car},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "sizes": {"type": "object", "additionalProperties": {"type": "number"}},
            "anything": {},
        },
        "required": ["cars"],
    }


def test_without_the_extra(tiny: EncodedImage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    monkeypatch.setitem(sys.modules, "cattrs", None)
    with Client("k" * 20) as client:
        for schema in (SCHEMA, Car):
            with pytest.raises(ConfigurationError, match=r"moondream-async\[structured\]"):
                client.ask_json(tiny, "?", schema)


def test_sync(scene: bytes, moondream_sandbox: Any) -> None:
    with Client(base_url=moondream_sandbox.base_url) as client:
        assert client.ask_number(scene, "How many red shapes are there?") == 1
