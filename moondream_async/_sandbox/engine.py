"""The five skills on a request's fields: checked, worked out, counted."""

from __future__ import annotations

from typing import Any, Protocol

import attrs

from . import events, reading, skills
from .events import Event
from .reading import Fields

_IMAGE_TOKENS = 729


@attrs.frozen
class Done:
    """A skill's work on one request.

    Attributes:
        field: The wire field of the answer.
        value: The answer.
        tokens: How many tokens it is counted as.
        finish_reason: `stop`, or `length` when the token budget cut it.
        more: Further fields of the answer.
        found: The outline, of a segmentation.
    """

    field: str
    value: Any
    tokens: int
    finish_reason: str = "stop"
    more: Event = attrs.field(factory=dict[str, Any])
    found: skills.Segmentation | None = None


class Skill(Protocol):
    """Does the work of a route, in a worker thread."""

    def __call__(self, data: Fields) -> Done:
        """Check the fields and work out the answer."""
        ...


def _query(data: Fields) -> Done:
    question, settings = reading.text(data, "question"), reading.settings(data)
    refs = reading.spatial_refs(data)
    scene = reading.scene(data, required=False)
    if scene is None:
        return _text("answer", skills.answer_text_only(question), settings)
    answer, regions = skills.answer(scene, question, refs)
    more = {"reasoning": skills.reasoning(scene, regions)} if reading.flag(data, "reasoning") else {}
    return _text("answer", answer, settings, more)


def _caption(data: Fields) -> Done:
    length, settings = reading.length(data), reading.settings(data)
    scene = reading.scene(data)
    assert scene is not None
    return _text("caption", skills.caption(scene, length), settings)


def _detect(data: Fields) -> Done:
    regions = _found(data)
    return Done("objects", [r.box for r in regions], tokens=3 * len(regions) + 1)


def _point(data: Fields) -> Done:
    regions = _found(data)
    points = [{"x": x, "y": y} for x, y in (r.center for r in regions)]
    return Done("points", points, tokens=2 * len(regions) + 1)


def _segment(data: Fields) -> Done:
    found = skills.segment(_found(data))
    more = {} if found.box is None else {"bbox": found.box}
    return Done("path", found.refined, tokens=len(events.tokens(found.refined)), more=more, found=found)


def _found(data: Fields) -> list[Any]:
    words, settings = reading.text(data, "object"), reading.settings(data)
    refs = reading.spatial_refs(data)
    scene = reading.scene(data)
    assert scene is not None
    return skills.find(scene, words, refs)[: settings.get("max_objects", 150)]


def _text(field: str, text: str, settings: Fields, more: Event | None = None) -> Done:
    pieces = events.tokens(text)
    budget = settings.get("max_tokens", 768)
    cut = len(pieces) > budget
    pieces = pieces[:budget]
    return Done(field, "".join(pieces), len(pieces), "length" if cut else "stop", more or {})


SKILLS: dict[str, Skill] = {
    "query": _query,
    "caption": _caption,
    "detect": _detect,
    "point": _point,
    "segment": _segment,
}


def answered(name: str, data: Fields) -> tuple[Fields, Fields]:
    """The work of a skill alone: its answer, and what it is counted as."""
    done = SKILLS[name](data)
    counted = metrics(data, done, 0.0)
    return {done.field: done.value, **done.more}, {kind: counted[kind] for kind in ("input_tokens", "output_tokens")}


def metrics(data: Fields, done: Done, seconds: float) -> Event:
    """What an answer is counted as, and how long it took."""
    words = len(str(data.get("question") or data.get("object") or "").split())
    image = _IMAGE_TOKENS if data.get("image_url") else 0
    return {
        "input_tokens": image + words,
        "output_tokens": done.tokens,
        "prefill_time_ms": round(seconds * 1000, 3),
        "decode_time_ms": round(seconds * 100, 3),
        "ttft_ms": round(seconds * 1000, 3),
    }
