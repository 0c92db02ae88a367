"""Lines of a batch: validated as documented, answered from their pixels."""

from __future__ import annotations

import json
from collections.abc import Callable

from ..._wire.responses import is_list
from .. import validation
from ..validation import Fields, RequestError

MAX_LINE_BYTES = 10 * 1024 * 1024
MAX_LINES = 100_000

_SKILLS = ("caption", "query", "detect", "point")
_IMAGE_ERRORS = ("image_decode_failed", "invalid_image", "image_too_large")

RunSkill = Callable[[str, Fields], tuple[Fields, Fields]]
"""Runs a skill: its name and fields -> the result's fields, and the token counts."""


class BatchError(Exception):
    """The whole batch fails with this error."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def check(number: int, line: bytes) -> None:
    """Raise `BatchError` for a line that fails the whole batch."""
    if number > MAX_LINES:
        raise BatchError("limit_exceeded", f"A batch has at most {MAX_LINES} lines")
    if len(line) > MAX_LINE_BYTES:
        raise BatchError("limit_exceeded", f"Line {number} is larger than 10 MB")
    if not line.strip():
        raise BatchError("validation_error", f"Line {number} is blank")
    try:
        validation.parse_object(line.decode("utf-8").encode())
    except UnicodeDecodeError:
        raise BatchError("validation_error", f"Line {number} is not valid UTF-8") from None
    except RequestError:
        raise BatchError("validation_error", f"Line {number} is not a JSON object") from None


def answer(index: int, line: bytes, run_skill: RunSkill, *, broken: bool) -> Fields:
    """Return the result of a line.

    Args:
        index: Index of the line, from 0.
        line: The line as it was uploaded.
        run_skill: Runs a skill.
        broken: Fail the line with `processing_error`.
    """
    data: Fields = json.loads(line)
    fields: Fields = {"line_index": index}
    if "id" in data:
        fields["id"] = data["id"]
    try:
        result, usage = _run_line(data, _fail if broken else run_skill)
    except RequestError as exc:
        return {**fields, "status": "error", "error": {"code": _error_code(exc), "message": exc.message}}
    return {**fields, "status": "ok", "result": result, "usage": usage}


def _fail(_: str, __: Fields) -> tuple[Fields, Fields]:
    raise RequestError("Inference failed", status=500, code="processing_error")


def _error_code(error: RequestError) -> str:
    if error.code in ("unknown_skill", "processing_error"):
        return error.code
    return "image_decode_failed" if error.code in _IMAGE_ERRORS else "invalid_request"


def _run_line(data: Fields, run_skill: RunSkill) -> tuple[Fields, Fields]:
    skill = data.get("skill")
    if not isinstance(skill, str):
        raise RequestError("Field 'skill' is required")
    if skill not in _SKILLS:
        raise RequestError(f"Unknown skill {skill!r}", code="unknown_skill")
    images = data.get("images") if skill == "query" and "image" not in data else [data.get("image")]
    if not is_list(images) or not images or not all(isinstance(image, str) and image for image in images):
        raise RequestError("Field 'image' must be a non-empty base64 string")
    if any(image.startswith("data:") for image in images):
        raise RequestError("Field 'image' must be bare base64, not a data URI")
    fields = {name: value for name, value in data.items() if name not in ("id", "skill", "image", "images")}
    if skill == "query":
        fields.setdefault("reasoning", True)
    elif skill != "caption":
        fields.pop("settings", None)
    return _join([run_skill(skill, {**fields, "image_url": image}) for image in images])


def _join(results: list[tuple[Fields, Fields]]) -> tuple[Fields, Fields]:
    """Join the results of several images: one answer per line, and the sum of the token counts."""
    result, usage = dict(results[0][0]), {name: sum(counts[name] for _, counts in results) for name in results[0][1]}
    if len(results) > 1:
        result["answer"] = "\n".join(each["answer"] for each, _ in results)
    return result, usage
