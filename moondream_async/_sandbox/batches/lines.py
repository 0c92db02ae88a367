"""One line of a batch: checked as documented, answered from its pixels."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, cast

from .. import reading
from ..reading import Fields, Refusal

LARGEST_LINE = 10 * 1024 * 1024
MOST_LINES = 100_000

_SKILLS = ("caption", "query", "detect", "point")
_UNREADABLE = ("image_decode_failed", "invalid_image", "image_too_large")

Answer = Callable[[str, Fields], tuple[Fields, Fields]]
"""Does a skill's work: its fields -> the answer's, and what it is counted as."""


class BatchRefusal(Exception):
    """The whole batch fails."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def check(number: int, line: bytes) -> None:
    """Refuse the batch for a line that is none."""
    if number > MOST_LINES:
        raise BatchRefusal("limit_exceeded", f"A batch has at most {MOST_LINES} lines")
    if len(line) > LARGEST_LINE:
        raise BatchRefusal("limit_exceeded", f"Line {number} is larger than 10 MB")
    if not line.strip():
        raise BatchRefusal("validation_error", f"Line {number} is blank")
    try:
        reading.fields(line.decode("utf-8").encode())
    except UnicodeDecodeError:
        raise BatchRefusal("validation_error", f"Line {number} is not valid UTF-8") from None
    except Refusal:
        raise BatchRefusal("validation_error", f"Line {number} is not a JSON object") from None


def answer(index: int, line: bytes, work: Answer, *, broken: bool) -> Fields:
    """The result of a line.

    Args:
        index: From 0.
        line: As it was uploaded.
        work: Does the skills.
        broken: Whether the engine is to fail here.
    """
    data = cast("Fields", json.loads(line))
    told: Fields = {"line_index": index}
    if "id" in data:
        told["id"] = data["id"]
    try:
        result, usage = _done(data, _fails if broken else work)
    except Refusal as refusal:
        return {**told, "status": "error", "error": {"code": _code(refusal), "message": refusal.message}}
    return {**told, "status": "ok", "result": result, "usage": usage}


def _fails(_: str, __: Fields) -> tuple[Fields, Fields]:
    raise Refusal(500, "Inference failed", code="processing_error")


def _code(refusal: Refusal) -> str:
    if refusal.code in ("unknown_skill", "processing_error"):
        return refusal.code
    return "image_decode_failed" if refusal.code in _UNREADABLE else "invalid_request"


def _done(data: Fields, work: Answer) -> tuple[Fields, Fields]:
    skill = data.get("skill")
    if not isinstance(skill, str):
        raise Refusal(400, "Field 'skill' is required", code="invalid_request")
    if skill not in _SKILLS:
        raise Refusal(400, f"Unknown skill {skill!r}", code="unknown_skill")
    images = data.get("images") if skill == "query" and "image" not in data else [data.get("image")]
    if not isinstance(images, list) or not images or not all(isinstance(i, str) and i for i in cast("Any", images)):
        raise Refusal(400, "Field 'image' must be a non-empty base64 string", code="invalid_request")
    if any(image.startswith("data:") for image in cast("list[str]", images)):
        raise Refusal(400, "Field 'image' must be bare base64, not a data URI", code="invalid_request")
    fields = {name: value for name, value in data.items() if name not in ("id", "skill", "image", "images")}
    if skill == "query":
        fields.setdefault("reasoning", True)
    elif skill != "caption":
        fields.pop("settings", None)
    return _joined([work(skill, {**fields, "image_url": image}) for image in cast("list[str]", images)])


def _joined(each: list[tuple[Fields, Fields]]) -> tuple[Fields, Fields]:
    """Of several images, the answers one below the other."""
    result, usage = dict(each[0][0]), {name: sum(one[1][name] for one in each) for name in each[0][1]}
    if len(each) > 1:
        result["answer"] = "\n".join(one[0]["answer"] for one in each)
    return result, usage
