"""Parse and check one line of a batch's results (pure)."""

from __future__ import annotations

import json
import json.decoder
import json.scanner
import re
from collections.abc import Callable, Mapping
from typing import Any, cast

import attrs

from .._wire import responses
from .._wire.responses import PARSE_ERRORS, InvalidResponse, Object, finite, object_of, optional_text, reject_number
from .._wire.skills import SKILLS
from ..errors import BatchLineError, MoondreamError
from ..types import Meta, Result
from . import wire

MAX_VALUES = 50_000
"""Maximum number of values in a line; a detection of ten thousand boxes has about as many."""

_MAX_DIGITS = 308  # of an integer that fits in a double
_MAX_MESSAGE, _MAX_CODE, _MAX_ID = 10_000, 200, 500_000  # characters
_SKILLS = {skill.field: name for name, skill in SKILLS.items() if skill.batch is not None}  # by their result's field
_LINE_INDEX = re.compile(rb'"line_index"\s*:\s*(\d{1,9})\b')
_HEAD = 4096  # bytes of a damaged line that are searched for its line_index


@attrs.frozen
class OutputLine:
    """One line of a result file.

    Attributes:
        line_index: The line of the input that it answers, if given.
        id: Its id, a string or a number, if given.
        fields: The JSON object; empty if it cannot be parsed.
        problem: Why the line is unusable; None if it is usable.
    """

    line_index: int | None
    id: str | float | None = None
    fields: Object = attrs.field(factory=dict[str, Any], repr=False)
    problem: str | None = None


def read_line(text: bytes, *, is_whole: bool = True) -> OutputLine:
    """Parse a line. An invalid line is returned with its problem.

    Args:
        text: The line.
        is_whole: Whether the text is the complete line. A truncated line is unusable.
    """
    if not is_whole:
        return _unusable(text, "the line is too long")
    try:
        fields = object_of(_decode(text))
    except InvalidResponse as exc:
        return _unusable(text, str(exc))
    index, name = fields.get("line_index"), fields.get("id")
    known = isinstance(index, int) and not isinstance(index, bool) and 0 <= index < wire.MAX_LINES
    is_name = isinstance(name, (int, float)) and not isinstance(name, bool)
    is_name = is_name or (isinstance(name, str) and len(name) <= _MAX_ID)
    return OutputLine(cast("int", index) if known else None, cast("str", name) if is_name else None, fields)


def read_result(line: OutputLine, skill: str | None) -> tuple[Result | None, MoondreamError | None]:
    """Parse the result of a line, or its error.

    Args:
        line: The line.
        skill: The skill, if known.

    Returns:
        The result, or a `BatchLineError` whose code is `"unusable"` if the line has neither a result nor an error.
    """
    problem = line.problem
    if problem is None:
        fields, error = line.fields, line.fields.get("error")
        try:
            if _has_result(fields):
                return _result(object_of(fields.get("result")), fields.get("usage"), skill), None
            if fields.get("status") == "error" or error:
                return None, _line_error(error, line.line_index)
            problem = "it has neither a result nor an error"
        except PARSE_ERRORS as exc:
            problem = str(exc)
    return None, unusable(problem, line.line_index)


def unusable(problem: str, line_index: int | None) -> BatchLineError:
    """Return the error for an unusable line."""
    return BatchLineError(f"The result cannot be used: {problem[:500]}.", code="unusable", line_index=line_index)


def skill_of(result: Result | None) -> str:
    """Return the skill of a result, or `"unknown"` without a result."""
    found: Mapping[str, Any] = result or {}
    return next((skill for name, skill in _SKILLS.items() if name in found), "unknown")


def _unusable(text: bytes, problem: str) -> OutputLine:
    found = _LINE_INDEX.search(text[:_HEAD])
    index = int(found.group(1)) if found else wire.MAX_LINES
    return OutputLine(index if index < wire.MAX_LINES else None, problem=problem)


def _decode(text: bytes) -> Any:
    decoder = json.JSONDecoder(parse_constant=reject_number, parse_float=finite, parse_int=_whole)
    if text.count(b",") > MAX_VALUES:
        # The C scanner holds the GIL, and so blocks the event loop, until it is done.
        decoder = _in_python(decoder)
    try:
        value = decoder.decode(text.decode("utf-8-sig").strip())
    except UnicodeDecodeError:
        raise InvalidResponse("it is not UTF-8") from None
    except RecursionError:
        raise InvalidResponse("it is nested too deeply") from None
    except ValueError:
        raise InvalidResponse("it is not JSON") from None
    if text.count(b"[") + text.count(b"{") > responses.MAX_DEPTH or len(text) > MAX_VALUES:
        _check_shape(value)
    return value


def _in_python(decoder: json.JSONDecoder) -> json.JSONDecoder:
    """Make a decoder parse objects and arrays in Python. Strings are still parsed in C."""
    changed: Any = decoder
    parts: Any = json.decoder
    scanners: Any = json.scanner
    changed.parse_object, changed.parse_array = parts.JSONObject, parts.JSONArray
    changed.scan_once = scanners.py_make_scanner(changed)
    return decoder


def _check_shape(value: Any) -> None:
    """Reject values that are too deep to be written and read back, or too large to process quickly.

    Raises:
        InvalidResponse: The value is nested too deeply, or has too many values.
    """
    level, count = [value], 0
    for _ in range(responses.MAX_DEPTH):
        count += len(level)
        if count > MAX_VALUES:
            raise InvalidResponse(f"it has more than {MAX_VALUES:,} values")
        level = [child for parent in level for child in responses.children(parent)]
        if not level:
            return
    raise InvalidResponse("it is nested too deeply")


def _whole(digits: str) -> int:
    return int(digits) if len(digits) <= _MAX_DIGITS else reject_number("a number with that many digits")


def _has_result(fields: Object) -> bool:
    status = fields.get("status")
    return status == "ok" or (status is None and not fields.get("error") and "result" in fields)


def _result(fields: Object, usage: Any, skill: str | None) -> Result:
    found = skill or next((skill for name, skill in _SKILLS.items() if name in fields), None)
    if found is None:
        raise InvalidResponse("it has no caption, answer, objects or points")
    if SKILLS[found].field not in fields:
        raise InvalidResponse(f"it has no {SKILLS[found].field!r}, which is the result of {found}")
    read: Callable[[Any, Meta], Result] = SKILLS[found].parse
    return read({"metrics": usage, **fields}, Meta(status=200))


def _line_error(error: Any, index: int | None) -> BatchLineError:
    if responses.is_object(error):
        code, message = optional_text(error, "code"), optional_text(error, "message")
    else:
        code, message = None, None if error is None else str(error)
    code = None if code is None else code[:_MAX_CODE]
    text = (message or code or "The server gave no reason.")[:_MAX_MESSAGE]
    return BatchLineError(f"{text} ({code})" if code and code != text else text, code=code, line_index=index)
