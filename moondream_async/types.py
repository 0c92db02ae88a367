"""Results: frozen, slotted values that can also be read like the official client's dicts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs


class Fields(Mapping[str, Any]):
    """Read an attrs value like the dict it was on the wire: `r["answer"]`, `"bbox" in r`, `dict(r)`.

    What is read so is plain: dicts, lists, strings and numbers, made anew at each reading. A field that
    is None, and so was not on the wire, is absent. Fields of `.extra` are present.
    """

    __slots__ = ()

    def __getitem__(self, name: str) -> Any:
        extra = self._extra()
        if name in extra:
            return extra[name]
        value = getattr(self, name) if name in self._names() else None
        if value is None:
            raise KeyError(name)
        return _plain(value)

    def __iter__(self) -> Iterator[str]:
        extra = self._extra()
        for name in self._names():
            if getattr(self, name) is not None and name not in extra:
                yield name
        yield from extra

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def to_dict(self) -> dict[str, Any]:
        """The value as it was on the wire, in plain dicts, lists, strings and numbers: ready for `json.dumps`."""
        return dict(self)

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        # Read off the class once: these names are asked for on every look-up.
        names = _FIELD_NAMES.get(cls)
        if names is None:
            fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(cls)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportUnknownVariableType]
            names = tuple(f.name for f in fields if f.name not in ("extra", "meta", "by_label"))
            _FIELD_NAMES[cls] = names
        return names

    def _extra(self) -> Mapping[str, Any]:
        return getattr(self, "extra", None) or {}


_FIELD_NAMES: dict[type, tuple[str, ...]] = {}


def _plain(value: Any) -> Any:
    if isinstance(value, Fields):
        return value.to_dict()
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


@attrs.frozen
class Point(Fields):
    """A point; `x` and `y` are 0..1 of the upright image's width and height, from its top left.

    `label` is what was looked for, where several things were; else None, and absent from the dict.
    """

    x: float
    y: float
    label: str | None = None


@attrs.frozen
class BoundingBox(Fields):
    """A box; every edge is 0..1 of the upright image's width (`x_`) or height (`y_`), from its top left.

    `label` is what was looked for, where several things were; else None, and absent from the dict.
    """

    x_min: float
    y_min: float
    x_max: float
    y_max: float
    label: str | None = None


@attrs.frozen
class Grounding(Fields):
    """The part `text[start_idx:end_idx]` of a reasoning, and the points of the image it speaks of."""

    start_idx: int
    end_idx: int
    points: tuple[tuple[float, float], ...]


@attrs.frozen
class Reasoning(Fields):
    """How the model came to its answer (wire field `reasoning`)."""

    text: str
    grounding: tuple[Grounding, ...] = ()


@attrs.frozen
class Metrics(Fields):
    """What the call cost and how long the model took (wire field `metrics`); None where not sent.

    Attributes:
        input_tokens: Tokens read, image included.
        output_tokens: Tokens written. Station's `_stats.tokens` is read into this too.
        prefill_time_ms: Milliseconds to read the input.
        decode_time_ms: Milliseconds to write the output.
        ttft_ms: Milliseconds to the first token.
        cached_tokens: Input tokens that came from the server's cache.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    prefill_time_ms: float | None = None
    decode_time_ms: float | None = None
    ttft_ms: float | None = None
    cached_tokens: int | None = None


@attrs.frozen
class Meta:
    """How the call went on our side.

    Attributes:
        status: The HTTP status.
        attempts: How many requests were sent, the last included.
        elapsed: Seconds from the call to the end of its answer, waits included.
    """

    status: int
    attempts: int = 1
    elapsed: float = 0.0


@attrs.frozen(kw_only=True)
class Result(Fields):
    """What every result has.

    Attributes:
        request_id: The server's name for the request; None if it sent none (Station does not).
        finish_reason: `"stop"`, `"length"` (cut off at the token budget) or `"error"`; None if not sent.
        metrics: Token counts and timings; None if not sent.
        meta: Status, attempts and elapsed time; takes no part in comparison.
        extra: Every field of the answer that has no attribute here, as it came.
    """

    request_id: str | None = None
    finish_reason: str | None = None
    metrics: Metrics | None = None
    meta: Meta = attrs.field(default=Meta(status=200), eq=False)
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False)


@attrs.frozen(kw_only=True)
class QueryResult(Result):
    """The answer to a question (wire field `answer`), and the reasoning if it was asked for."""

    answer: str
    reasoning: Reasoning | None = None


@attrs.frozen(kw_only=True)
class CaptionResult(Result):
    """A description of the image (wire field `caption`)."""

    caption: str


@attrs.frozen(kw_only=True)
class DetectResult(Result):
    """The boxes found (wire field `objects`); empty when there are none. No confidences.

    Of a list of labels: `.objects` has the boxes of all, each with its `.label`; `.by_label` the result of each; tokens
    and times are sums, and `.request_id` is None.
    """

    objects: tuple[BoundingBox, ...]
    by_label: Mapping[str, DetectResult] | None = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen(kw_only=True)
class PointResult(Result):
    """The points found (wire field `points`); empty when there are none. `count` is Station's own.

    A list of labels is merged as in `DetectResult`.
    """

    points: tuple[Point, ...]
    count: int | None = None
    by_label: Mapping[str, PointResult] | None = attrs.field(default=None, eq=False, repr=False)


@attrs.frozen(kw_only=True)
class SegmentResult(Result):
    """The outline of one object.

    Attributes:
        path: SVG path data whose coordinates are 0..1 **of the box**, not of the image:
            `x_image = bbox.x_min + x * (bbox.x_max - bbox.x_min)`. Empty when nothing was found.
        bbox: The box, 0..1 of the upright image; None if the server sent none.
        parse_error: The server's note that the path it made could not be read.
    """

    path: str
    bbox: BoundingBox | None = None
    parse_error: str | None = None


@attrs.frozen(kw_only=True)
class SegmentUpdate(Fields):
    """One step of a segment stream; fields that the step does not carry are absent (None).

    Attributes:
        bbox: The box: in the first update, and refined in the last.
        chunk: The next piece of the coarse path.
        path: The refined path, in the last update; it replaces the chunks.
        completed: True in the last update.
    """

    bbox: BoundingBox | None = None
    chunk: str | None = None
    path: str | None = None
    completed: bool | None = None

    def __getitem__(self, name: str) -> Any:
        if name == "bbox" and self.bbox is None and self.completed:
            return None  # as the official client's last update has it when nothing was found
        return super().__getitem__(name)


@attrs.frozen(kw_only=True)
class Model(Fields):
    """A model the server offers: `id` is what `model=` takes."""

    id: str
    name: str | None = None
    description: str | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False)
