"""Answers of a certain kind: yes or no, a number, a list, JSON of a certain shape; asked for again once if need be."""

from __future__ import annotations

import enum
import json
import re
import types
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import attrs

from .._extras import import_extra
from ..errors import AnswerError, ConfigurationError
from ..types import QueryResult

T = TypeVar("T")

_YES = frozenset(("yes", "yeah", "yep", "true", "y", "correct"))
_NO = frozenset(("no", "nope", "false", "n", "incorrect"))
_BOTH = re.compile(r"\b(?:yes|no)\s*(?:and|or|/|,)\s*(?:yes|no)\b")
_ANSWER_IS = re.compile(r"\b(?:answer|it) is:? (yes|no)\b")
_NOTHING = frozenset(("none", "nothing", "n/a", "empty", "no", "[]", "there is none", "there are none"))
_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_NUMBERS: dict[str, float] = {**{word: float(n) for n, word in enumerate(_WORDS)}, "dozen": 12.0}
_BEYOND = re.compile(
    r"\b(?:hundred|thousand|[mb]illion|trillion|minus|negative|thirty|forty|fifty|\w+ty-)\w*", re.IGNORECASE
)
_ZERO = re.compile(r"\W*(?:no|none|nothing|zero)(?:\s+[\w-]+){0,3}\W*", re.IGNORECASE)
_NUMBER = re.compile(
    r"(?<![\w.,])[-+\u2212]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?(?!\d|[.,]\d)"
)
_LONGEST_NUMBER = 40  # characters
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+")
_SHOWN = 300  # characters of an answer that are told of it
_LISTS = (list, tuple, set, frozenset, Sequence)
_DICTS = (dict, Mapping)
_JSON_NAMES: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


@attrs.frozen
class AnswerFormat(Generic[T]):
    """A kind of answer.

    Attributes:
        instruction: What is added to the question.
        read: Reads an answer; raises ValueError, with the reason, if it cannot be used.
    """

    instruction: str
    read: Callable[[str], T]


async def ask(
    query: Callable[[str], Awaitable[QueryResult]], question: object, kind: AnswerFormat[T], *, repair: bool
) -> T:
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
    """Read yes or no: the first word, the last, or what the answer is said to be."""
    text = " ".join(raw.lower().split())
    words = re.findall(r"[a-z']+", text)
    if not words:
        raise ValueError("it is empty")
    told = _ANSWER_IS.search(text)
    candidates = [words[0], words[-1] if words[-1] in ("yes", "no") else "", told[1] if told else ""]
    said = {word in _YES for word in candidates if word in _YES or word in _NO}
    if len(said) != 1 or _BOTH.search(text):
        raise ValueError("it says neither yes nor no")
    return said.pop()


def number(raw: str) -> float:
    """Read the only number there is: in digits or, up to twenty, in words."""
    if _BEYOND.search(raw):
        raise ValueError("it has a number in words")
    found = {_value(text) for text in _NUMBER.findall(raw)}
    if not found and not re.search(r"\d", raw):
        found = {_NUMBERS[word] for word in re.findall(r"[a-z]+", raw.lower()) if word in _NUMBERS}
        found |= {0.0} if _ZERO.fullmatch(raw) else set()
    if len(found) == 1:
        return found.pop()
    raise ValueError("it has several numbers" if found else "it has no number")


def _value(text: str) -> float:
    if len(text) > _LONGEST_NUMBER:
        raise ValueError("its number is too long")
    return float(text.replace(",", "").replace("\u2212", "-"))


def items(raw: str) -> list[str]:
    """Read a list: JSON, lines, or between commas; each item once."""
    text = _bare(raw)
    if text.strip(" .()\"'*").lower() in _NOTHING or re.fullmatch(r"\[\s*\]", text):
        return []
    listed: list[list[Any]] = [each for each in _json_in(text) if isinstance(each, list)]
    if listed:
        parts = [str(part) for part in listed[0]]
    else:
        lines = [line for line in text.splitlines() if line.strip()]
        bullets = [line for line in lines if _BULLET.match(line)]
        parts = bullets or (lines if len(lines) > 1 else re.split(r"[,;]|\band\b", text.strip("[]")))
    found = [_BULLET.sub("", part).strip(" \t\"'*").rstrip(".").strip() for part in parts]
    found = list(dict.fromkeys(part for part in found if part))
    if not found:
        raise ValueError("it is empty")
    return found


YES_NO = AnswerFormat("Answer with yes or no only.", yes_or_no)
NUMBER = AnswerFormat("Answer with a number in digits only.", number)
LIST = AnswerFormat("Answer with a list, separated by commas, and nothing else. If there is none, answer: none.", items)


def structured(schema: Any) -> AnswerFormat[Any]:
    """JSON of a certain shape.

    Args:
        schema: An attrs class, a pydantic model class, or a JSON schema as a dict.

    Raises:
        ConfigurationError: It is something else, or the extra `structured` is missing.
    """
    if isinstance(schema, type) and hasattr(schema, "model_validate_json"):
        model: Any = schema
        return _json_kind(model.model_json_schema(), lambda data: model.model_validate_json(json.dumps(data)))
    if isinstance(schema, type) and attrs.has(schema):
        wanted, structure = describe(schema), _structuring(schema)
        jsonschema: Any = _import("jsonschema")
        return _json_kind(wanted, lambda data: structure(_checked(jsonschema, data, wanted)))
    if isinstance(schema, Mapping):
        wanted = dict(cast("Mapping[str, Any]", schema))
        jsonschema = _import("jsonschema")
        _check_schema(jsonschema, wanted)
        return _json_kind(wanted, lambda data: _checked(jsonschema, data, wanted))
    raise ConfigurationError(f"schema must be an attrs or pydantic class, or a JSON schema, not {schema!r}.")


def describe(kind: Any, within: tuple[Any, ...] = ()) -> dict[str, Any]:
    """A JSON schema of an attrs class, or of the type of one of its fields.

    Args:
        kind: The class or type.
        within: The classes it is a field of.

    Raises:
        ConfigurationError: It is of a kind that no JSON is made into.
    """
    if isinstance(kind, type) and attrs.has(kind):
        return _describe_class(kind, within)
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return {"enum": [member.value for member in kind]}
    origin = cast("Any", get_origin(kind) or kind)
    arguments = get_args(kind)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [describe(each, within) for each in arguments]}
    if origin is tuple and arguments and ... not in arguments:
        return {
            "type": "array",
            "prefixItems": [describe(each, within) for each in arguments],
            "minItems": len(arguments),
        }
    if origin in _LISTS:
        return {"type": "array", "items": describe(arguments[0] if arguments else Any, within)}
    if origin in _DICTS:
        return {"type": "object", "additionalProperties": describe(arguments[1] if arguments else Any, within)}
    if kind in (Any, object):
        return {}
    if kind in _JSON_NAMES:
        return {"type": _JSON_NAMES[kind]}
    raise ConfigurationError(
        f"schema: {kind!r} cannot be made of JSON; give a JSON schema or a pydantic class instead."
    )


def _describe_class(kind: type[Any], within: tuple[Any, ...]) -> dict[str, Any]:
    if kind in within:
        raise ConfigurationError(f"schema: {kind.__name__} is a field of itself; give a JSON schema instead.")
    try:
        hints = get_type_hints(kind)
    except (NameError, TypeError) as exc:
        problem = str(exc)
    else:
        fields = {field.alias or field.name: field for field in attrs.fields(kind) if field.init}
        return {
            "type": "object",
            "properties": {
                name: describe(hints.get(field.name, Any), (*within, kind)) for name, field in fields.items()
            },
            "required": [name for name, field in fields.items() if field.default is attrs.NOTHING],
        }
    raise ConfigurationError(f"schema: the types of {kind.__name__} cannot be read: {problem}.")


def _structuring(schema: type[Any]) -> Callable[[Any], Any]:
    """Makes instances of an attrs class, by the names that its schema has."""
    cattrs: Any = _import("cattrs")
    converter = cattrs.Converter(use_alias=True)
    _import("cattrs.strategies").configure_union_passthrough(str | int | float | bool | None, converter)
    return lambda data: _reported(lambda: converter.structure(data, schema))


def _json_kind(schema: Mapping[str, Any], read: Callable[[Any], Any]) -> AnswerFormat[Any]:
    try:
        text = json.dumps(schema, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as exc:
        raise ConfigurationError(f"schema must be plain JSON: {exc}.") from None
    return AnswerFormat(f"Answer with JSON only, by this JSON schema: {text}", lambda raw: _first_that_fits(raw, read))


def _first_that_fits(raw: str, read: Callable[[Any], T]) -> T:
    """The first JSON in a text that can be read; the reason why not is that of the first."""
    problem = ""
    for data in _json_in(_bare(raw)):
        try:
            return _reported(lambda data=data: read(data))  # type: ignore[misc]
        except ValueError as exc:
            problem = problem or str(exc)
    raise ValueError(problem or "there is no JSON in it, or it is broken off")


def _bare(raw: str) -> str:
    """A text without what a model thought before it, and without the fence around it."""
    text = re.sub(r"<think>.*?</think>", "", raw, flags=re.DOTALL).strip()
    fenced = re.search(r"```(?:\w+)?\s*\n(.*?)```", text, re.DOTALL)
    return fenced[1].strip() if fenced else text


def _json_in(text: str) -> Iterator[Any]:
    """The whole text as JSON, if it is; else the objects and arrays in it, one after the other."""
    decoder = json.JSONDecoder(parse_constant=_no_number)
    try:
        yield decoder.decode(text)
    except (ValueError, RecursionError):
        pass
    else:
        return
    end = 0
    for match in re.finditer(r"[{\[]", text):
        if match.start() < end:  # within what was read
            continue
        try:
            data, end = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        yield data


def _no_number(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


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


def _import(module: str) -> Any:
    return import_extra(module, "structured", "ask_json with a schema")
