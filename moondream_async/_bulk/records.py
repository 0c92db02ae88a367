"""Convert an item's outcome to a line of JSON, and back (pure).

```json
{"id": "a.jpg", "skill": "detect", "arguments": {"object": "face"}, "ok": true, "result": {"objects": []},
 "attempts": 1, "elapsed": 0.53, "run": "1f3a9c2e"}
```

`result` is the response as it was on the wire. With several skills, `skill` is a list, and `result` and `arguments` are
objects by skill. `truncated` names the skills whose answers were cut off. A failed item has `"ok": false` and an
`error` with `type`, `message`, and what the server reported.

A retried item gets a new line with `"retried": true`, which replaces the old one. Both are in the file until that run
ends. Lines are strict JSON: numbers that are not finite are written as null.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import attrs

from .. import errors
from .._images.image_source import ImageSource, remember
from .._wire import responses
from .._wire.checks import is_mapping
from .._wire.skills import SKILLS
from ..errors import APIError, BatchError, BatchLineError, MoondreamError
from ..tiles import Tiles
from ..types import Fields, Meta, Result
from .outcomes import Outcome, make_outcome

Record: TypeAlias = dict[str, Any]

RETRIED = "retried"  # marks a line that replaces an earlier one
_MARK = b', "retried": true}\n'
_FIELDS: dict[str, tuple[tuple[type, ...], str]] = {
    "id": ((str, int, float), "a string or a number"),
    "skill": ((str, list), "a string or a list"),
    "arguments": ((dict,), "an object"),
    "ok": ((bool,), "true or false"),
    "run": ((str,), "a string"),
}
_MAX_ARGUMENTS = 4 * 1024 * 1024
UNWRITABLE = (ValueError, TypeError, RecursionError)
"""The errors of encoding a value that JSON cannot hold."""
_RESPONSE_FIELDS = ("status", "type", "code", "param", "request_id", "retry_after")


class NotARecord(ValueError):
    """The line is not a record; the message says why."""


@attrs.frozen(eq=False)
class Entry:
    """A line of a results file.

    Attributes:
        record: The JSON object.
        outcome: The outcome that it holds; `index` is 0.
    """

    record: Record
    outcome: Outcome[Any]

    @property
    def retries(self) -> bool:
        """Whether it replaces an earlier line of the same item, which failed."""
        return self.record.get(RETRIED) is True


@attrs.frozen(eq=False)
class Finished:
    """A completed item, as it is written.

    Attributes:
        id: A string or a number.
        arguments: The arguments of each skill, by skill.
        result: As in `Outcome`.
        error: As in `Outcome`.
        attempts: As in `Outcome`.
        elapsed: Seconds.
    """

    id: str | float
    arguments: Mapping[str, Mapping[str, Any]]
    result: Any
    error: MoondreamError | None
    attempts: int
    elapsed: float


def to_line(finished: Finished, *, several: bool, run: str) -> bytes:
    """Return an item's line, including its newline.

    Args:
        finished: The item.
        several: Whether results and arguments are objects by skill.
        run: Name of the run; lines of another run are rejected.
    """
    skills = list(finished.arguments)
    record: Record = {
        "id": finished.id,
        "skill": skills if several else skills[0],
        "arguments": finished.arguments if several else finished.arguments[skills[0]],
        "ok": finished.error is None,
    }
    if finished.result is not None:
        record["result"] = finished.result
        size = _image_size(finished.result)
        if size is not None:
            record["image_size"] = size
        if truncated := [name for name, each in _by_skill(finished).items() if each.truncated]:
            record["truncated"] = truncated
    if finished.error is not None:
        record["error"] = error_fields(finished.error)
    record |= {"attempts": finished.attempts, "elapsed": round(finished.elapsed, 3), "run": run}
    return as_json(record) + b"\n"


def read(value: object) -> Entry:
    """Read the JSON value of a line.

    Raises:
        NotARecord: It is not a record, or its result cannot be parsed.
    """
    if not responses.is_object(value):
        raise NotARecord("it is not a JSON object")
    for name, (kinds, what) in _FIELDS.items():
        if name not in value:
            raise NotARecord(f"it has no {name!r}")
        if not isinstance(value[name], kinds):
            raise NotARecord(f"its {name!r} is not {what}")
    if isinstance(value["id"], bool):
        raise NotARecord("its 'id' is not a string or a number")
    _check_skills(value)
    return Entry(value, to_outcome(0, value))


def _check_skills(record: Record) -> None:
    """Check that all skills have arguments, and results if the item succeeded."""
    skill, arguments, result = record["skill"], record["arguments"], record.get("result")
    if result is not None and not isinstance(result, dict):
        raise NotARecord("its 'result' is not an object")
    if record["ok"] and result is None:
        raise NotARecord("it has no 'result'")
    if isinstance(skill, str):
        return
    if not skill or not all(isinstance(name, str) and isinstance(arguments.get(name), dict) for name in skill):
        raise NotARecord("it lacks the arguments of a 'skill'")
    if record["ok"] and not all(name in cast("Record", result) for name in skill):
        raise NotARecord("it lacks the result of a 'skill'")


def to_outcome(index: int, record: Record) -> Outcome[Any]:
    """Return the outcome that a line holds.

    Raises:
        NotARecord: Its result does not fit its skill.
    """
    skill, found = record["skill"], record.get("result")
    try:
        attempts, elapsed = int(record.get("attempts", 1)), float(record.get("elapsed", 0.0))
        meta = Meta(status=200, attempts=attempts, elapsed=elapsed)
        if found is None or (not found and not record["ok"]):
            result = None
        elif isinstance(skill, str):
            result = _read(skill, found, meta, record, record["arguments"])
        else:
            result = {name: _read(name, each, meta, record, record["arguments"][name]) for name, each in found.items()}
        error = None if record["ok"] else error_of(record.get("error"), attempts)
    except responses.PARSE_ERRORS as exc:
        raise NotARecord(f"its result does not fit {skill}: {exc}") from None
    return make_outcome(index, record["id"], result, error, attempts, elapsed)


def _read(skill: str, found: Any, meta: Meta, record: Record, arguments: Record) -> Any:
    size = record.get("image_size")
    result = attrs.evolve(SKILLS[skill].parse(found, meta), image_size=None if size is None else (size[0], size[1]))
    if arguments.get("tiles") is not None:
        object.__setattr__(result, "_is_truncated", skill in record.get("truncated", ()))
    labels, settings = arguments.get("object"), arguments.get("settings")
    if isinstance(settings, dict) and isinstance(limit := cast("Record", settings).get("max_objects"), int):
        object.__setattr__(result, "_max_objects", limit)
    source = ImageSource.of_id(record["id"])
    if not isinstance(labels, list):
        return remember(result, source, labels)
    # Of several labels' results, the file holds the merged objects and the sums.
    name = SKILLS[skill].field
    things: Sequence[Any] = getattr(result, name)
    each = {
        label: remember(
            attrs.evolve(result, metrics=None, **{name: tuple(thing for thing in things if thing.label == label)}),
            None,
            label,
        )
        for label in cast("list[str]", labels)
    }
    return remember(attrs.evolve(result, by_label=each), source)


def key_of(id: str | float, arguments: Mapping[str, Any]) -> bytes:
    """Return the key of an item: a digest of its id and arguments.

    Raises:
        UNWRITABLE: JSON cannot hold them, or they are too long for a line.
    """
    text = as_json([id, arguments], sort=True)
    if len(text) > _MAX_ARGUMENTS:
        raise ValueError(f"they have {len(text):,} bytes; the limit is {_MAX_ARGUMENTS:,}")
    return hashlib.blake2b(text, digest_size=16).digest()


def key_of_record(record: Record) -> bytes:
    """Return the key of the item of a line."""
    arguments = record["arguments"]
    return key_of(record["id"], {record["skill"]: arguments} if isinstance(record["skill"], str) else arguments)


def fingerprint(value: Any) -> str:
    """Return a short name for the task of a run."""
    return hashlib.sha256(as_json(value, sort=True)).hexdigest()[:12]


def as_json(value: Any, *, sort: bool = False) -> bytes:
    """Encode as strict JSON in UTF-8; lone surrogates are escaped, numbers that are not finite become null.

    Raises:
        ValueError, TypeError, RecursionError: JSON cannot hold the value.
    """
    try:
        return _dumps(value, sort=sort)
    except ValueError:
        return _dumps(_finite(value), sort=sort)


def _dumps(value: Any, *, sort: bool) -> bytes:
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=sort, allow_nan=False, default=_plain).encode()
    except UnicodeEncodeError:
        return json.dumps(value, sort_keys=sort, allow_nan=False, default=_plain).encode()


def _finite(value: Any) -> Any:
    """Replace numbers that are not finite by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if is_mapping(value):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, (str, bytes, bytearray)):
        return [_finite(each) for each in cast("Sequence[Any]", value)]
    return value


def marked(line: bytes) -> bytes:
    """Return the line, marked as one that replaces an earlier line."""
    return line.removesuffix(b"}\n") + _MARK


def _plain(value: Any) -> Any:
    if isinstance(value, (Fields, Tiles)):
        return value.to_dict()
    if is_mapping(value):
        return dict(value)
    return list(cast("Sequence[Any]", value)) if isinstance(value, Sequence) else str(value)


def error_fields(error: MoondreamError) -> Record:
    """Return the fields of an error, as they are written."""
    fields: Record = {"type": type(error).__name__, "message": error.message}
    if isinstance(error, APIError):
        answer = {name: getattr(error, name) for name in _RESPONSE_FIELDS}
        answer["error_type"] = answer.pop("type")
        fields |= {name: value for name, value in answer.items() if value is not None}
    elif isinstance(error, (BatchError, BatchLineError)):
        fields["code"] = error.code
    return fields


def error_of(fields: Any, attempts: int) -> MoondreamError:
    """Rebuild an error from its fields; return a `MoondreamError` if they are incomplete or name an unknown class."""
    try:
        error = _error_of(cast("Record", fields))
    except responses.PARSE_ERRORS:
        error = MoondreamError(f"The line does not say why the item failed: {fields!r:.200}")
    error.attempts = attempts
    return error


def _error_of(fields: Record) -> MoondreamError:
    kind: Any = getattr(errors, str(fields.get("type")), None)
    message = str(fields.get("message", ""))
    if not (isinstance(kind, type) and issubclass(kind, MoondreamError)):
        return MoondreamError(message)
    if issubclass(kind, APIError):
        said = {name: fields.get(name) for name in _RESPONSE_FIELDS if name not in ("status", "type")}
        return kind(message, status=int(fields.get("status", 0)), type=fields.get("error_type"), **said)
    if issubclass(kind, (BatchError, BatchLineError)):
        return kind(message, code=fields.get("code"))
    return kind(message)


def metrics_of(result: Any) -> list[Any]:
    """Return the metrics of a result, or of the results of several skills, without those from the cache."""
    return [each.metrics for each in _results(result) if each.metrics is not None and not each.meta.cached]


def _by_skill(finished: Finished) -> dict[str, Result]:
    result: Any = finished.result
    return {next(iter(finished.arguments)): result} if isinstance(result, Result) else dict(result)


def _image_size(result: Any) -> tuple[int, int] | None:
    return next((each.image_size for each in _results(result) if each.image_size is not None), None)


def _results(result: Any) -> list[Result]:
    return [result] if isinstance(result, Result) else list(cast("dict[str, Any]", result or {}).values())
