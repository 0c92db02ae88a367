"""Typed answers: yes or no, a number, a list, JSON of a schema. Unusable answers are asked for once more."""

from __future__ import annotations

import enum
import json
import re
import types
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import attrs

from .._extras import import_extra
from .._wire.responses import reject_number
from ..errors import AnswerError, ConfigurationError
from ..types import QueryResult

T = TypeVar("T")

_YES = frozenset(("yes", "yeah", "yep", "true", "y", "correct"))
_NO = frozenset(("no", "nope", "false", "n", "incorrect"))
_BOTH = re.compile(r"\b(?:yes|no)\s*(?:and|or|/|,)\s*(?:yes|no)\b")
_ANSWER_IS = re.compile(r"\b(?:answer|it) is:? (yes|no)\b")
_EMPTY_LIST = frozenset(("none", "nothing", "n/a", "empty", "no", "[]", "there is none", "there are none"))
_WORDS = (
    *("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve"),
    *("thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen", "twenty"),
)
_NUMBERS: dict[str, float] = {**{word: float(n) for n, word in enumerate(_WORDS)}, "dozen": 12.0}
_UNKNOWN_NUMBER = re.compile(
    r"\b(?:hundred|thousand|[mb]illion|trillion|minus|negative|thirty|forty|fifty|\w+ty-)\w*", re.IGNORECASE
)
_ZERO = re.compile(r"\W*(?:no|none|nothing|zero)(?:\s+[\w-]+){0,3}\W*", re.IGNORECASE)
_NUMBER = re.compile(
    r"(?<![\w.,])[-+\u2212]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?(?!\d|[.,]\d)"
)
_MAX_NUMBER_LENGTH = 40  # characters
_BULLET = re.compile(r"^\s*(?:[-*•]|\d+[.)])\s+")
_MAX_SHOWN = 300  # characters of an answer in errors and repeated questions
_LISTS = (list, tuple, set, frozenset, Sequence)
_DICTS = (dict, Mapping)
_JSON_NAMES: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null"}


@attrs.frozen
class AnswerFormat(Generic[T]):
    """The format of an answer, and how to parse it.

    Attributes:
        instruction: Text that is added to the question.
        parse: Parses an answer; raises ValueError with the reason if it is invalid.
    """

    instruction: str
    parse: Callable[[str], T]


async def ask(
    query: Callable[[str], Awaitable[QueryResult]], question: object, answer_format: AnswerFormat[T], *, repair: bool
) -> T:
    """Ask a question and parse the answer; if it is invalid, ask once more with the reason.

    Args:
        query: Sends a question to the model.
        question: The question, without the instruction.
        answer_format: The format of the answer.
        repair: Whether to ask once more if the answer is invalid.

    Raises:
        AnswerError: The last answer is invalid; `.answers` has all of them.
        ConfigurationError: The question is not a string, or is empty.
    """
    if not isinstance(question, str) or not question.strip():
        raise ConfigurationError("question must be a non-empty string.")
    full_question = f"{question.strip()} {answer_format.instruction}"
    text, raw, problem = full_question, "", ""
    answers: list[str] = []
    for _ in range(2 if repair else 1):
        raw = (await query(text)).answer
        answers.append(raw)
        try:
            return answer_format.parse(raw)
        except ValueError as exc:
            problem = str(exc)
        text = f"{full_question} An earlier answer was {raw[:_MAX_SHOWN]!r}, which cannot be used: {problem}."
    raise AnswerError(f"The answer cannot be used: {problem}: {raw[:_MAX_SHOWN]!r}", answers=answers)


def parse_yes_no(raw: str) -> bool:
    """Parse yes or no from the first word, the last word, or a phrase such as "the answer is no"."""
    text = " ".join(raw.lower().split())
    words = re.findall(r"[a-z']+", text)
    if not words:
        raise ValueError("it is empty")
    phrase = _ANSWER_IS.search(text)
    candidates = [words[0], words[-1] if words[-1] in ("yes", "no") else "", phrase[1] if phrase else ""]
    answers = {word in _YES for word in candidates if word in _YES or word in _NO}
    if len(answers) != 1 or _BOTH.search(text):
        raise ValueError("it says neither yes nor no")
    return answers.pop()


def parse_number(raw: str) -> float:
    """Parse the only number of an answer, in digits or, up to twenty, in words."""
    if _UNKNOWN_NUMBER.search(raw):
        raise ValueError("it has a number in words")
    numbers = {_parse_digits(text) for text in _NUMBER.findall(raw)}
    if not numbers and not re.search(r"\d", raw):
        numbers = {_NUMBERS[word] for word in re.findall(r"[a-z]+", raw.lower()) if word in _NUMBERS}
        numbers |= {0.0} if _ZERO.fullmatch(raw) else set()
    if len(numbers) == 1:
        return numbers.pop()
    raise ValueError("it has several numbers" if numbers else "it has no number")


def _parse_digits(text: str) -> float:
    if len(text) > _MAX_NUMBER_LENGTH:
        raise ValueError("its number is too long")
    return float(text.replace(",", "").replace("\u2212", "-"))


def parse_list(raw: str) -> list[str]:
    """Parse a list from JSON, lines, or text with commas; repeated items are dropped."""
    text = _strip_wrapping(raw)
    if text.strip(" .()\"'*").lower() in _EMPTY_LIST or re.fullmatch(r"\[\s*\]", text):
        return []
    json_lists: list[list[Any]] = [value for value in _find_json(text) if isinstance(value, list)]
    if json_lists:
        parts = [str(part) for part in json_lists[0]]
    else:
        lines = [line for line in text.splitlines() if line.strip()]
        bullets = [line for line in lines if _BULLET.match(line)]
        parts = bullets or (lines if len(lines) > 1 else re.split(r"[,;]|\band\b", text.strip("[]")))
    items = [_BULLET.sub("", part).strip(" \t\"'*").rstrip(".").strip() for part in parts]
    items = list(dict.fromkeys(item for item in items if item))
    if not items:
        raise ValueError("it is empty")
    return items


YES_NO = AnswerFormat("Answer with yes or no only.", parse_yes_no)
NUMBER = AnswerFormat("Answer with a number in digits only.", parse_number)
LIST = AnswerFormat(
    "Answer with a list, separated by commas, and nothing else. If there is none, answer: none.", parse_list
)


def json_format(schema: Any) -> AnswerFormat[Any]:
    """Return the format of JSON that matches a schema.

    Args:
        schema: An attrs class, a pydantic model class, or a JSON schema as a dict.

    Raises:
        ConfigurationError: The schema is invalid, or the extra `structured` is missing.
    """
    if isinstance(schema, type) and hasattr(schema, "model_validate_json"):
        model: Any = schema
        return _json_format(model.model_json_schema(), lambda data: model.model_validate_json(json.dumps(data)))
    if isinstance(schema, type) and attrs.has(schema):
        json_schema, structure = describe(schema), _structurer(schema)
        jsonschema: Any = _import("jsonschema")
        return _json_format(json_schema, lambda data: structure(_validate(jsonschema, data, json_schema)))
    if isinstance(schema, Mapping):
        json_schema = dict(cast("Mapping[str, Any]", schema))
        jsonschema = _import("jsonschema")
        _check_schema(jsonschema, json_schema)
        return _json_format(json_schema, lambda data: _validate(jsonschema, data, json_schema))
    raise ConfigurationError(f"schema must be an attrs or pydantic class, or a JSON schema, not {schema!r}.")


def describe(cls: Any, parents: tuple[Any, ...] = ()) -> dict[str, Any]:
    """Return the JSON schema of an attrs class, or of the type of one of its fields.

    Args:
        cls: The class or type.
        parents: The classes that contain it, from the outermost.

    Raises:
        ConfigurationError: JSON cannot be converted to the type.
    """
    if isinstance(cls, type) and attrs.has(cls):
        return _describe_class(cls, parents)
    if isinstance(cls, type) and issubclass(cls, enum.Enum):
        return {"enum": [member.value for member in cls]}
    origin = cast("Any", get_origin(cls) or cls)
    arguments = get_args(cls)
    if origin is Literal:
        return {"enum": list(arguments)}
    if origin in (Union, types.UnionType):
        return {"anyOf": [describe(each, parents) for each in arguments]}
    if origin is tuple and arguments and ... not in arguments:
        items = [describe(each, parents) for each in arguments]
        return {"type": "array", "prefixItems": items, "minItems": len(items)}
    if origin in _LISTS:
        return {"type": "array", "items": describe(arguments[0] if arguments else Any, parents)}
    if origin in _DICTS:
        return {"type": "object", "additionalProperties": describe(arguments[1] if arguments else Any, parents)}
    if cls in (Any, object):
        return {}
    if cls in _JSON_NAMES:
        return {"type": _JSON_NAMES[cls]}
    raise ConfigurationError(
        f"schema: JSON cannot be converted to {cls!r}; pass a JSON schema or a pydantic class instead."
    )


def _describe_class(cls: type[Any], parents: tuple[Any, ...]) -> dict[str, Any]:
    if cls in parents:
        raise ConfigurationError(f"schema: {cls.__name__} contains itself; pass a JSON schema instead.")
    try:
        hints = get_type_hints(cls)
    except (NameError, TypeError) as exc:
        raise ConfigurationError(f"schema: the types of {cls.__name__} cannot be read: {exc}.") from None
    fields = {field.alias or field.name: field for field in attrs.fields(cls) if field.init}
    return {
        "type": "object",
        "properties": {name: describe(hints.get(field.name, Any), (*parents, cls)) for name, field in fields.items()},
        "required": [name for name, field in fields.items() if field.default is attrs.NOTHING],
    }


def _structurer(schema: type[Any]) -> Callable[[Any], Any]:
    """Return a function that creates instances of an attrs class from data with the names of its JSON schema."""
    cattrs: Any = _import("cattrs")
    converter = cattrs.Converter(use_alias=True)
    _import("cattrs.strategies").configure_union_passthrough(str | int | float | bool | None, converter)
    return lambda data: _as_value_error(lambda: converter.structure(data, schema))


def _json_format(schema: Mapping[str, Any], parse: Callable[[Any], Any]) -> AnswerFormat[Any]:
    try:
        text = json.dumps(schema, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as exc:
        raise ConfigurationError(f"schema cannot be written as JSON: {exc}.") from None
    return AnswerFormat(f"Answer with JSON only, by this JSON schema: {text}", lambda raw: _first_valid(raw, parse))


def _first_valid(raw: str, parse: Callable[[Any], T]) -> T:
    """Parse the first JSON value of a text that is valid; if none is, raise the error of the first."""
    problem = ""
    for data in _find_json(_strip_wrapping(raw)):
        try:
            return _as_value_error(lambda data=data: parse(data))  # type: ignore[misc]
        except ValueError as exc:
            problem = problem or str(exc)
    raise ValueError(problem or "it has no JSON, or only part of it")


def _strip_wrapping(raw: str) -> str:
    """Remove a model's <think> section and the code fence around its answer."""
    text = re.sub(r"<think>.*?</think>", "", raw, flags=re.DOTALL).strip()
    fenced = re.search(r"```(?:\w+)?\s*\n(.*?)```", text, re.DOTALL)
    return fenced[1].strip() if fenced else text


def _find_json(text: str) -> Iterator[Any]:
    """Yield the text as JSON, or else each JSON object and array within it."""
    decoder = json.JSONDecoder(parse_constant=reject_number)
    try:
        yield decoder.decode(text)
    except (ValueError, RecursionError):
        pass
    else:
        return
    end = 0
    for match in re.finditer(r"[{\[]", text):
        if match.start() < end:  # within the last value
            continue
        try:
            data, end = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        yield data


def _as_value_error(parse: Callable[[], T]) -> T:
    """Convert any error of a validator to a ValueError with a message of one line."""
    try:
        return parse()
    except Exception as exc:
        raise ValueError(_message_of(exc)) from None


def _message_of(exc: BaseException) -> str:
    if isinstance(exc, BaseExceptionGroup):  # as cattrs raises
        return "; ".join(_message_of(each) for each in cast("BaseExceptionGroup[Any]", exc).exceptions)
    return " ".join(str(exc).split()) or type(exc).__name__


def _validate(jsonschema: Any, data: Any, schema: dict[str, Any]) -> Any:
    jsonschema.validate(data, schema, cls=jsonschema.validators.validator_for(schema))
    return data


def _check_schema(jsonschema: Any, schema: dict[str, Any]) -> None:
    try:
        jsonschema.validators.validator_for(schema).check_schema(schema)
    except jsonschema.SchemaError as exc:
        raise ConfigurationError(f"Invalid JSON schema: {exc.message}.") from None


def _import(module: str) -> Any:
    return import_extra(module, "structured", "ask_json with a schema")
