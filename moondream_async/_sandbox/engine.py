"""The five skills: validate a request's fields, compute the result, count its tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from . import events, skills, validation
from .events import Event
from .validation import Fields

_IMAGE_TOKENS = 729


@attrs.frozen
class SkillResult:
    """The result of a skill.

    Attributes:
        field: Name of the response field that holds the result.
        value: Value of that field.
        tokens: Number of output tokens reported.
        finish_reason: `stop`, or `length` if `max_tokens` truncated the text.
        extra: Other response fields.
        segmentation: The outline; of `segment` only.
    """

    field: str
    value: Any
    tokens: int
    finish_reason: str = "stop"
    extra: Event = attrs.field(factory=dict[str, Any])
    segmentation: skills.Segmentation | None = None


SkillFunction = Callable[[Fields], SkillResult]
"""A skill of the sandbox: validates the fields and computes the result; called in a worker thread."""


def _query(data: Fields) -> SkillResult:
    question, settings = validation.require_text(data, "question"), validation.parse_settings(data)
    refs = validation.parse_spatial_refs(data)
    if data.get("image_url") is None:
        return _text_result("answer", skills.answer_text_only(question), settings)
    scene = validation.load_scene(data)
    answer, regions = skills.answer(scene, question, refs)
    extra = {"reasoning": skills.reasoning(scene, regions)} if validation.parse_flag(data, "reasoning") else {}
    return _text_result("answer", answer, settings, extra)


def _caption(data: Fields) -> SkillResult:
    length, settings = validation.parse_length(data), validation.parse_settings(data)
    scene = validation.load_scene(data)
    return _text_result("caption", skills.caption(scene, length), settings)


def _detect(data: Fields) -> SkillResult:
    regions = _find_regions(data)
    return SkillResult("objects", [r.box for r in regions], tokens=3 * len(regions) + 1)


def _point(data: Fields) -> SkillResult:
    regions = _find_regions(data)
    points = [{"x": x, "y": y} for x, y in (r.center for r in regions)]
    return SkillResult("points", points, tokens=2 * len(regions) + 1)


def _segment(data: Fields) -> SkillResult:
    segmentation = skills.segment(_find_regions(data))
    path = segmentation.refined
    extra = {} if segmentation.box is None else {"bbox": segmentation.box}
    tokens = len(events.split_tokens(path))
    return SkillResult("path", path, tokens=tokens, extra=extra, segmentation=segmentation)


def _find_regions(data: Fields) -> list[Any]:
    words, settings = validation.require_text(data, "object"), validation.parse_settings(data)
    refs = validation.parse_spatial_refs(data)
    scene = validation.load_scene(data)
    return skills.find_regions(scene, words, refs)[: settings.get("max_objects", 150)]


def _text_result(field: str, text: str, settings: Fields, extra: Event | None = None) -> SkillResult:
    pieces = events.split_tokens(text)
    budget = settings.get("max_tokens", 768)
    cut = len(pieces) > budget
    pieces = pieces[:budget]
    return SkillResult(field, "".join(pieces), len(pieces), "length" if cut else "stop", extra or {})


SKILLS: dict[str, SkillFunction] = {
    "query": _query,
    "caption": _caption,
    "detect": _detect,
    "point": _point,
    "segment": _segment,
}


def run_skill(name: str, data: Fields) -> tuple[Fields, Fields]:
    """Run a skill; return the result's fields and its token counts."""
    result = SKILLS[name](data)
    counts = metrics(data, result, 0.0)
    usage = {name: counts[name] for name in ("input_tokens", "output_tokens")}
    return {result.field: result.value, **result.extra}, usage


def metrics(data: Fields, result: SkillResult, seconds: float) -> Event:
    """Return the `metrics` of a response: token counts and times in milliseconds."""
    words = len(str(data.get("question") or data.get("object") or "").split())
    image = _IMAGE_TOKENS if data.get("image_url") else 0
    return {
        "input_tokens": image + words,
        "output_tokens": result.tokens,
        "prefill_time_ms": round(seconds * 1000, 3),
        "decode_time_ms": round(seconds * 100, 3),
        "ttft_ms": round(seconds * 1000, 3),
    }
