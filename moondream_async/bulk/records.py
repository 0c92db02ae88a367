"""An item's outcome as a line of JSON, and back (pure).

```json
{"id": "a.jpg", "skill": "detect", "arguments": {"object": "face"}, "ok": true, "result": {"objects": []},
 "attempts": 1, "elapsed": 0.53, "run": "1f3a9c2e"}
```

`result` is the answer as it was on the wire; of several skills, each by its name, as are the `arguments`, and `skill`
is a list. A failed item has `"ok": false` and an `error` with `type`, `message`, and what the server said.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import attrs

from .. import errors
from ..config import SKILLS
from ..errors import APIError, BatchError, BatchLineError, MoondreamError
from ..types import Fields, Meta, Result
from ..wire import responses
from .items import Outcome

Record: TypeAlias = dict[str, Any]

_START = b'{"id": '  # of every line
_OURS = re.compile(rb'\{"id": (?:"(?:[^"\\]|\\.)*"|[-+.0-9eE]+), "skill": ')  # enough of a line to know it by
_READERS = {name: getattr(responses, name) for name in SKILLS}
_OF_ANSWER = ("status", "type", "code", "param", "request_id", "retry_after")


class NotARecord(ValueError):
    """The line is not one of ours; the text says why."""


class TornLine(NotARecord):
    """The line is the beginning of one of ours; or zeros, which a crash of the machine can leave."""


@attrs.frozen(eq=False)
class Finished:
    """What is written of an item.

    Attributes:
        id: A text or number.
        arguments: What each skill was given, by skill.
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
    """The line, its end included.

    Args:
        finished: The item.
        several: Whether results and arguments are told by skill.
        run: Names the run, so that another one is not mixed in.
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
    if finished.error is not None:
        record["error"] = error_fields(finished.error)
    record |= {"attempts": finished.attempts, "elapsed": round(finished.elapsed, 3), "run": run}
    return as_json(record) + b"\n"


def from_line(line: bytes, *, is_first: bool = False) -> Record:
    """Read a line.

    Args:
        line: As it is in the file.
        is_first: Whether nothing before it says that the file is one of ours.

    Raises:
        TornLine: Its end is missing.
        NotARecord: It is not one of ours.
    """
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        if _is_torn(line, is_first=is_first):
            raise TornLine("its end is missing") from None
        raise NotARecord("it is not JSON") from None
    if not isinstance(record, dict):
        raise NotARecord("it is not a JSON object")
    fields = cast("Record", record)
    missing = [name for name in ("id", "skill", "arguments", "ok", "run") if name not in fields]
    if missing:
        raise NotARecord(f"it has no {missing[0]!r}")
    return fields


def _is_torn(line: bytes, *, is_first: bool) -> bool:
    if line.endswith(b"\n"):
        return False
    looks_like_one = line.startswith(_START) or _START.startswith(line) or not line.strip(b"\0")
    return bool(_OURS.match(line)) or (looks_like_one and not is_first)


def to_outcome(index: int, record: Record) -> Outcome[Any]:
    """The outcome that a line tells of.

    Raises:
        NotARecord: Its result is not one of its skill.
    """
    skill, found = record["skill"], record.get("result")
    try:
        attempts, elapsed = int(record.get("attempts", 1)), float(record.get("elapsed", 0.0))
        meta = Meta(status=200, attempts=attempts, elapsed=elapsed)
        if found is None:
            result = None
        elif isinstance(skill, str):
            result = _read(skill, found, meta, record, record["arguments"])
        else:
            result = {name: _read(name, each, meta, record, record["arguments"][name]) for name, each in found.items()}
        error = None if record["ok"] else error_of(record["error"], attempts)
    except responses.MALFORMED as exc:
        raise NotARecord(f"its result is not one of {skill}: {exc}") from None
    return Outcome(index, record["id"], result, error, attempts, elapsed)


def _read(skill: str, found: Any, meta: Meta, record: Record, arguments: Record) -> Any:
    size = record.get("image_size")
    result = attrs.evolve(_READERS[skill](found, meta), image_size=None if size is None else (size[0], size[1]))
    labels = arguments.get("object")
    if not isinstance(labels, list):
        return result
    # Of several labels' results, the file has what was found, and the sums.
    name = "objects" if skill == "detect" else "points"
    things: Sequence[Any] = getattr(result, name)
    each = {
        label: attrs.evolve(result, metrics=None, **{name: tuple(thing for thing in things if thing.label == label)})
        for label in cast("list[str]", labels)
    }
    return attrs.evolve(result, by_label=each)


def key_of(id: str | float, arguments: Mapping[str, Any]) -> bytes:
    """What tells items apart: their id, and what was asked about them."""
    return hashlib.blake2b(as_json([id, arguments], sort=True), digest_size=16).digest()


def key_of_record(record: Record) -> bytes:
    """The same, of a line."""
    arguments = record["arguments"]
    return key_of(record["id"], {record["skill"]: arguments} if isinstance(record["skill"], str) else arguments)


def fingerprint(value: Any) -> str:
    """A short name for what a run was asked to do."""
    return hashlib.sha256(as_json(value, sort=True)).hexdigest()[:12]


def as_json(value: Any, *, sort: bool = False) -> bytes:
    """JSON in UTF-8; half characters, as file names can hold, are escaped."""
    try:
        return json.dumps(value, ensure_ascii=False, sort_keys=sort, default=_plain).encode()
    except UnicodeEncodeError:
        return json.dumps(value, sort_keys=sort, default=_plain).encode()


def _plain(value: Any) -> Any:
    if isinstance(value, Fields):
        return value.to_dict()
    if isinstance(value, Mapping):
        return dict(cast("Mapping[str, Any]", value))
    return list(cast("Sequence[Any]", value)) if isinstance(value, Sequence) else str(value)


def error_fields(error: MoondreamError) -> Record:
    """What is written of an error."""
    fields: Record = {"type": type(error).__name__, "message": error.message}
    if isinstance(error, APIError):
        answer = {name: getattr(error, name) for name in _OF_ANSWER}
        answer["error_type"] = answer.pop("type")
        fields |= {name: value for name, value in answer.items() if value is not None}
    elif isinstance(error, (BatchError, BatchLineError)):
        fields["code"] = error.code
    return fields


def error_of(fields: Record, attempts: int) -> MoondreamError:
    """The error of which that was written."""
    kind: Any = getattr(errors, str(fields.get("type")), None)
    message = str(fields.get("message", ""))
    if not (isinstance(kind, type) and issubclass(kind, MoondreamError)):
        error = MoondreamError(message)
    elif issubclass(kind, APIError):
        said = {name: fields.get(name) for name in _OF_ANSWER if name not in ("status", "type")}
        error = kind(message, status=int(fields.get("status", 0)), type=fields.get("error_type"), **said)
    elif issubclass(kind, (BatchError, BatchLineError)):
        error = kind(message, code=fields.get("code"))
    else:
        error = kind(message)
    error.attempts = attempts
    return error


def metrics_of(result: Any) -> list[Any]:
    """The metrics of a result, or of the results of several skills."""
    return [each.metrics for each in _results(result) if each.metrics is not None]


def _image_size(result: Any) -> tuple[int, int] | None:
    return next((each.image_size for each in _results(result) if each.image_size is not None), None)


def _results(result: Any) -> list[Result]:
    return [result] if isinstance(result, Result) else list(cast("dict[str, Any]", result or {}).values())
