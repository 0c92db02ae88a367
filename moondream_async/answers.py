"""Answers of a certain kind: yes or no, a number, a list, JSON of a certain shape; asked for again once if need be."""

from __future__ import annotations

import importlib
import json
import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Generic, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import attrs

from .errors import AnswerError, ConfigurationError
from .types import QueryResult

T = TypeVar("T")

_YES = frozenset(("yes", "yeah", "yep", "true", "y", "correct"))
_NO = frozenset(("no", "nope", "false", "n", "incorrect"))
_NOTHING = frozenset(("none", "nothing", "n/a", "empty", "no", "[]"))
_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_NUMBERS: dict[str, float] = {
    **{word: float(n) for n, word in enumerate(_WORDS)},
    "none": 0.0,
    "no": 0.0,
    "dozen": 12.0,
}
_NUMBER = re.compile(r"(?<![\w.])[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?(?![\w])")
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+")
_SHOWN = 300  # characters of an answer that are told of it
_JSON_NAMES: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


@attrs.frozen
class Kind(Generic[T]):
    """A kind of answer.

    Attributes:
        instruction: What is added to the question.
        read: Reads an answer; raises ValueError, with the reason, if it cannot be used.
    """

    instruction: str
    read: Callable[[str], T]


async def ask(query: Callable[[str], Awaitable[QueryResult]], question: object, kind: Kind[T], *, repair: bool) -> T:
    """Ask, and, if the answer is not of the kind, once more, saying why.

    Raises:
        AnswerError: Nor is the second; it keeps both.
    """
    if not isinstance(question, str) or not question.strip():
        raise ConfigurationError("question must be a text that is not empty.")
    asked = f"{question.strip()} {kind.instruction}"
    text, raw, problem = asked, "", ""
    answers: list[str] = []
    for _ in range(2 if repair else 1):
        raw = (await query(text)).answer
        answers.append(raw)
        try:
            return kind.read(raw)
        except ValueError as exc:
            problem = str(exc)
        text = f"{asked} An earlier answer was {raw[:_SHOWN]!r}, which cannot be used: {problem}."
    raise AnswerError(f"The answer cannot be used: {problem}: {raw[:_SHOWN]!r}", answers=answers)


def yes_or_no(raw: str) -> bool:
    """Read yes or no: the first word, or the only one of them there is."""
    words = re.findall(r"[a-z]+", raw.lower())
    for candidates in (words[:1], words):
        said = {word in _YES for word in candidates if word in _YES or word in _NO}
        if len(said) == 1:
            return said.pop()
    raise ValueError("it says neither yes nor no" if words else "it is empty")


def number(raw: str) -> float:
    """Read the only number there is, in digits or, up to twenty, in words."""
    found = {float(text.replace(",", "")) for text in _NUMBER.findall(raw)}
    if not found:
        found = {_NUMBERS[word] for word in re.findall(r"[a-z]+", raw.lower()) if word in _NUMBERS}
    if len(found) == 1:
        return found.pop()
    raise ValueError("it has several numbers" if found else "it has no number")


def items(raw: str) -> list[str]:
    """Read a list: JSON, lines, or between commas; each item once."""
    text = raw.strip()
    if text.strip(".").lower() in _NOTHING:
        return []
    try:
        parsed: Any = _json_in(text) if text.startswith(("[", "`")) else None
    except ValueError:
        parsed = None
    if isinstance(parsed, list):
        parts = [str(part) for part in cast("list[Any]", parsed)]
    else:
        lines = [line for line in text.splitlines() if line.strip()]
        bullets = [line for line in lines if _BULLET.match(line)]
        parts = bullets or (lines if len(lines) > 1 else re.split(r"[,;]|\band\b", text))
    found = [_BULLET.sub("", part).strip(" \t.\"'") for part in parts]
    found = list(dict.fromkeys(part for part in found if part))
    if not found:
        raise ValueError("it is empty")
    return found


YES_NO = Kind("Answer with yes or no only.", yes_or_no)
NUMBER = Kind("Answer with a number in digits only.", number)
LIST = Kind("Answer with a list, separated by commas, and nothing else. If there is none, answer: none.", items)


def structured(schema: Any) -> Kind[Any]:
    """JSON of a certain shape.

    Args:
        schema: An attrs class, a pydantic model class, or a JSON schema as a dict.

    Raises:
        ConfigurationError: It is something else, or the extra `structured` is missing.
    """
    if isinstance(schema, type) and hasattr(schema, "model_validate"):
        model: Any = schema
        return _json_kind(model.model_json_schema(), model.model_validate)
    if isinstance(schema, type) and attrs.has(schema):
        cattrs: Any = _needed("cattrs")
        return _json_kind(describe(schema), lambda data: _reported(lambda: cattrs.structure(data, schema)))
    if isinstance(schema, Mapping):
        wanted = dict(cast("Mapping[str, Any]", schema))
        jsonschema: Any = _needed("jsonschema")
        _check_schema(jsonschema, wanted)
        return _json_kind(wanted, lambda data: _checked(jsonschema, data, wanted))
    raise ConfigurationError(f"schema must be an attrs or pydantic class, or a JSON schema, not {schema!r}.")


def describe(kind: Any) -> dict[str, Any]:
    """A JSON schema of an attrs class, or of the type of one of its fields."""
    if isinstance(kind, type) and attrs.has(kind):
        hints = get_type_hints(kind)
        fields = {field.alias or field.name: field for field in attrs.fields(kind)}
        return {
            "type": "object",
            "properties": {name: describe(hints.get(field.name, Any)) for name, field in fields.items()},
            "required": [name for name, field in fields.items() if field.default is attrs.NOTHING],
        }
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (list, tuple, set, frozenset):
        return {"type": "array", "items": describe(next((each for each in arguments if each is not ...), Any))}
    if origin is dict:
        return {"type": "object"}
    if origin is Union or type(kind).__name__ == "UnionType":
        return {"anyOf": [describe(each) for each in arguments]}
    return {"type": _JSON_NAMES[kind]} if kind in _JSON_NAMES else {}


def _json_kind(schema: Mapping[str, Any], read: Callable[[Any], Any]) -> Kind[Any]:
    text = json.dumps(schema, separators=(",", ":"))
    return Kind(
        f"Answer with JSON only, by this JSON schema: {text}", lambda raw: _reported(lambda: read(_json_in(raw)))
    )


def _json_in(raw: str) -> Any:
    """The first JSON object or array in a text, whatever is around it."""
    for match in re.finditer(r"[{\[]", raw):
        try:
            return json.JSONDecoder().raw_decode(raw, match.start())[0]
        except (ValueError, RecursionError):
            continue
    raise ValueError("there is no JSON in it, or it is broken off")


def _reported(read: Callable[[], T]) -> T:
    """What a validator says, as a ValueError of one line."""
    try:
        return read()
    except Exception as exc:
        problem = _told_by(exc)
    raise ValueError(problem)


def _told_by(exc: BaseException) -> str:
    if isinstance(exc, BaseExceptionGroup):  # cattrs' way
        return "; ".join(_told_by(each) for each in cast("BaseExceptionGroup[Any]", exc).exceptions)
    return " ".join(str(exc).split()) or type(exc).__name__


def _checked(jsonschema: Any, data: Any, schema: dict[str, Any]) -> Any:
    jsonschema.validate(data, schema, cls=jsonschema.validators.validator_for(schema))
    return data


def _check_schema(jsonschema: Any, schema: dict[str, Any]) -> None:
    try:
        jsonschema.validators.validator_for(schema).check_schema(schema)
    except jsonschema.SchemaError as exc:
        problem = exc.message
    else:
        return
    raise ConfigurationError(f"The JSON schema is none: {problem}.")


def _needed(module: str) -> Any:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise ConfigurationError(
            f"This needs {module}, of the extra 'structured': pip install 'moondream-async[structured]'."
        ) from None
