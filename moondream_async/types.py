"""Results: frozen, slotted values that can also be read like the official client's dicts."""

from __future__ import annotations

import importlib
import io
import numbers
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from ._scalars import to_python
from .errors import ConfigurationError, MoondreamError


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
            names = tuple(f.name for f in fields if f.name not in _NOT_ON_THE_WIRE)
            _FIELD_NAMES[cls] = names
        return names

    def _extra(self) -> Mapping[str, Any]:
        return getattr(self, "extra", None) or {}


_LARGEST_SIDE = 2**31 - 1  # pixels of an image
_NOT_ON_THE_WIRE = ("extra", "meta", "by_label", "image_size", "results")
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

    def to_pixels(self, width: int, height: int) -> tuple[int, int]:
        """The pixel it lies in, as `(x, y)`, in an image of this size; inside the image."""
        return _pixel(self.x, width), _pixel(self.y, height)


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

    @property
    def width(self) -> float:
        """0..1 of the image's width."""
        return self.x_max - self.x_min

    @property
    def height(self) -> float:
        """0..1 of the image's height."""
        return self.y_max - self.y_min

    @property
    def area(self) -> float:
        """0..1 of the image's area."""
        return max(0.0, self.width) * max(0.0, self.height)

    @property
    def center(self) -> Point:
        """The middle, with the same label."""
        return Point((self.x_min + self.x_max) / 2, (self.y_min + self.y_max) / 2, self.label)

    def intersection(self, other: BoundingBox) -> float:
        """The area that both cover, 0..1 of the image's."""
        across = min(self.x_max, other.x_max) - max(self.x_min, other.x_min)
        down = min(self.y_max, other.y_max) - max(self.y_min, other.y_min)
        return max(0.0, across) * max(0.0, down)

    def iou(self, other: BoundingBox) -> float:
        """Intersection over union, 0..1; 0 for two boxes with no area."""
        both = self.intersection(other)
        union = self.area + other.area - both
        return both / union if union else 0.0

    def contains(self, other: Point | BoundingBox) -> bool:
        """Whether a point, or a whole box, lies in it, its edges included."""
        if isinstance(other, Point):
            return self.x_min <= other.x <= self.x_max and self.y_min <= other.y <= self.y_max
        return self.contains(Point(other.x_min, other.y_min)) and self.contains(Point(other.x_max, other.y_max))

    def to_pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """`(left, top, right, bottom)` in an image of this size, as Pillow's `crop` takes it; inside the image."""
        return (
            _edge(self.x_min, width),
            _edge(self.y_min, height),
            _edge(self.x_max, width),
            _edge(self.y_max, height),
        )

    def crop(self, image: Any, *, margin: float = 0.0) -> Any:
        """The part of the image that is in the box, as a Pillow image.

        Args:
            image: Anything that the skills take but a URL; turned upright first, as the box is of the upright image.
            margin: Of the box's size, to add on each side. Default 0.

        Raises:
            ImageError: The image cannot be used, or the box is empty.
        """
        return _vision("crops").crop(image, self, margin=margin)


def _pixel(part: float, pixels: int) -> int:
    return min(max(0, int(_inside(part) * pixels)), max(0, pixels - 1))


def _edge(part: float, pixels: int) -> int:
    return round(_inside(part) * pixels)


def _inside(part: float) -> float:
    """0..1; a number that is none is an edge, too."""
    return min(max(0.0, part), 1.0) if part == part else 0.0


def _is_side(side: object) -> bool:
    return isinstance(side, numbers.Integral) and not isinstance(side, bool) and 0 < int(side) <= _LARGEST_SIDE


def _vision(room: str) -> Any:
    # What makes pictures of results is a room above this one, which loads when it is used.
    return importlib.import_module(f"._vision.{room}", __package__)


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
        image_size: `(width, height)` of the upright original, in pixels; None if there was no image. Takes no part in
            comparison.
        extra: Every field of the answer that has no attribute here, as it came.
    """

    request_id: str | None = None
    finish_reason: str | None = None
    metrics: Metrics | None = None
    meta: Meta = attrs.field(default=Meta(status=200), eq=False)
    image_size: tuple[int, int] | None = attrs.field(default=None, eq=False, repr=False)
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False)

    def _size(self, width: int | None, height: int | None) -> tuple[int, int]:
        if width is not None and height is not None:
            size = width, height
        elif width is None and height is None and self.image_size is not None:
            size = self.image_size
        else:
            raise ConfigurationError("Give both width and height, in pixels; this result does not know its image's.")
        size = to_python(size[0]), to_python(size[1])
        if not all(_is_side(side) for side in size):
            raise ConfigurationError(f"width and height must be whole numbers from 1 to {_LARGEST_SIDE:,}.")
        return int(size[0]), int(size[1])


@attrs.frozen(kw_only=True)
class QueryResult(Result):
    """The answer to a question (wire field `answer`), and the reasoning if it was asked for."""

    answer: str
    reasoning: Reasoning | None = None


@attrs.frozen(kw_only=True)
class CaptionResult(Result):
    """A description of the image (wire field `caption`)."""

    caption: str


class Drawable:
    """What can be drawn on its image."""

    __slots__ = ()

    def annotate(self, image: Any, *, label: str | None = None, font: str | None = None) -> Any:
        """Draw it on a copy of the image, as a Pillow image of mode RGB; `vision.annotate` draws several.

        Args:
            image: The image that was asked about: anything that the skills take but a URL.
            label: For what has no label of its own.
            font: The path of a TrueType font, for labels beyond Latin letters.

        Raises:
            ImageError: The image cannot be used.
            PathError, ConfigurationError: As in `SegmentResult.mask`.
        """
        return _vision("annotate").annotate(image, self, label=label, font=font)

    def show(self, image: Any, *, label: str | None = None, font: str | None = None) -> None:
        """Draw it on the image, and open that in the system's viewer; arguments as in `annotate`."""
        self.annotate(image, label=label, font=font).show()

    def _repr_png_(self) -> bytes | None:
        """In a notebook: where things are, on an empty canvas; `annotate(image)` shows them on the image."""
        file = io.BytesIO()
        try:
            picture = _vision("annotate").on_blank(self)
        except MoondreamError:  # the notebook shows its text instead
            return None
        if picture is None:
            return None
        picture.save(file, "PNG")
        return file.getvalue()


@attrs.frozen(kw_only=True)
class DetectResult(Drawable, Result):
    """The boxes found (wire field `objects`); empty when there are none. No confidences.

    Of a list of labels: `.objects` has the boxes of all, each with its `.label`; `.by_label` the result of each; tokens
    and times are sums, and `.request_id` is None.
    """

    objects: tuple[BoundingBox, ...]
    by_label: Mapping[str, DetectResult] | None = attrs.field(default=None, eq=False, repr=False)

    def to_pixels(self, width: int | None = None, height: int | None = None) -> list[tuple[int, int, int, int]]:
        """Each box as `(left, top, right, bottom)` in pixels.

        Args:
            width: Of the image; None takes that of the one sent, as it was before it was prepared.
            height: Likewise.

        Raises:
            ConfigurationError: The size is not known.
        """
        size = self._size(width, height)
        return [box.to_pixels(*size) for box in self.objects]

    def nms(self, iou: float = 0.5) -> DetectResult:
        """Without the boxes that cover much the same as an earlier one of the same label (non-maximum suppression).

        Moondream gives no confidences, so the order of the answer decides.

        Args:
            iou: Intersection over union, from which two boxes are the same. Default 0.5.
        """
        kept: list[BoundingBox] = []
        for box in self.objects:
            if not any(box.label == other.label and box.iou(other) >= iou for other in kept):
                kept.append(box)
        each = self.by_label and {label: result.nms(iou) for label, result in self.by_label.items()}
        return attrs.evolve(self, objects=tuple(kept), by_label=each)


@attrs.frozen(kw_only=True)
class PointResult(Drawable, Result):
    """The points found (wire field `points`); empty when there are none. `count` is Station's own.

    A list of labels is merged as in `DetectResult`.
    """

    points: tuple[Point, ...]
    count: int | None = None
    by_label: Mapping[str, PointResult] | None = attrs.field(default=None, eq=False, repr=False)

    def to_pixels(self, width: int | None = None, height: int | None = None) -> list[tuple[int, int]]:
        """Each point as `(x, y)` in pixels, as `DetectResult.to_pixels` does."""
        size = self._size(width, height)
        return [point.to_pixels(*size) for point in self.points]


@attrs.frozen(kw_only=True)
class SegmentResult(Drawable, Result):
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

    def to_svg(
        self, width: int | None = None, height: int | None = None, *, fill: str = "#ff00ff", opacity: float = 0.5
    ) -> str:
        """A whole SVG of the outline, in the image's pixels: to lay over the image, or to open in a browser.

        Args:
            width: Of the image, in pixels; None takes that of the one sent.
            height: Likewise.
            fill: A colour, as SVG has it.
            opacity: 0..1 of the fill.

        Raises:
            PathError: The path cannot be read, or there is no box.
            ConfigurationError: The size is not known, or the extra `vision` is missing.
        """
        return str(_vision("svg_paths").to_svg(self, self._size(width, height), fill=fill, opacity=opacity))

    def polygons(
        self, width: int | None = None, height: int | None = None, *, tolerance: float = 0.25
    ) -> list[list[tuple[float, float]]]:
        """The outline's loops as `(x, y)` in the image's pixels; curves and arcs as straight pieces.

        What an even number of loops cover is outside: holes are loops in loops.

        Args:
            width: As in `to_svg`.
            height: As in `to_svg`.
            tolerance: Pixels by which a piece may miss its curve. Default 0.25.

        Raises:
            PathError, ConfigurationError: As in `to_svg`.
        """
        loops: list[list[tuple[float, float]]] = _vision("svg_paths").polygons(
            self, self._size(width, height), tolerance=tolerance
        )
        return loops

    def mask(self, width: int | None = None, height: int | None = None, *, antialias: bool = False) -> Any:
        """The inside as a Pillow image of mode `L`: 255 inside, 0 outside.

        Args:
            width: As in `to_svg`.
            height: As in `to_svg`.
            antialias: Whether pixels on the edge get what of them is inside. Default False: those half inside are.

        Raises:
            PathError, ConfigurationError: As in `to_svg`.
        """
        return _vision("masks").mask(self, self._size(width, height), antialias=antialias)

    def mask_array(self, width: int | None = None, height: int | None = None) -> Any:
        """The same as a NumPy array of bool, `(height, width)`.

        Raises:
            PathError, ConfigurationError: As in `to_svg`.
        """
        return _vision("masks").mask_array(self, self._size(width, height))

    def rle(self, width: int | None = None, height: int | None = None) -> dict[str, Any]:
        """The same as COCO's compressed run lengths: `{"size": [height, width], "counts": text}`.

        Raises:
            PathError, ConfigurationError: As in `to_svg`.
        """
        runs: dict[str, Any] = _vision("masks").rle(self, self._size(width, height))
        return runs


@attrs.frozen(kw_only=True)
class ChatResult(Result):
    """The answer to a conversation; it also reads like the official client's: `r["message"]["content"]`.

    Unless it was streamed, like OpenAI's, too: `r["choices"][0]["message"]["content"]`.

    Attributes:
        content: What it says (wire field `choices[0].message.content`).
        role: Who says it: `assistant`.
        reasoning: How it came to that, if the model tells.
    """

    content: str
    role: str = "assistant"
    reasoning: Reasoning | None = None

    def __getitem__(self, name: str) -> Any:
        return self._message() if name == "message" else super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        return name == "message" or super().__contains__(name)

    def _message(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.reasoning is not None:
            message["reasoning"] = self.reasoning.text
            message["reasoning_details"] = {"grounding": [span.to_dict() for span in self.reasoning.grounding]}
        return message


@attrs.frozen(kw_only=True)
class ChatDelta(Fields):
    """What one chunk of a chat stream adds: content, or reasoning before it; the other is None."""

    content: str | None = None
    reasoning: str | None = None


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
