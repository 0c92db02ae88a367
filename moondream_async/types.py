"""Result types: frozen, slotted values that can also be read like the official client's dicts."""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import attrs

from ._log import log
from ._official_names import advise
from ._scalars import MAX_SIDE, is_side, to_python
from .errors import ConfigurationError, MoondreamError

Headers: TypeAlias = Mapping[str, str]


class Fields(Mapping[str, Any]):
    """A mapping view of an attrs value, with the wire's field names: `r["answer"]`, `"bbox" in r`, `dict(r)`.

    Values are plain dicts, lists, strings and numbers, and each access returns a new copy. Fields that are None
    are absent, as they are on the wire. Fields in `.extra` are included.
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
        """Return the value in its wire form: plain dicts, lists, strings and numbers, ready for `json.dumps`."""
        return dict(self)

    def to_json(self, *, indent: int | None = None) -> str:
        """Return the value in its wire form as JSON.

        Args:
            indent: Spaces per level. Default None: all in one line.
        """
        return json.dumps(self.to_dict(), indent=indent)

    @classmethod
    def _names(cls) -> tuple[str, ...]:
        # Cached per class, because every lookup needs these names.
        names = _FIELD_NAMES.get(cls)
        if names is None:
            fields: tuple[attrs.Attribute[Any], ...] = attrs.fields(cls)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportUnknownVariableType]
            names = tuple(f.name for f in fields if f.name not in _NOT_ON_THE_WIRE)
            _FIELD_NAMES[cls] = names
        return names

    def _extra(self) -> Mapping[str, Any]:
        return getattr(self, "extra", None) or {}


_NOT_ON_THE_WIRE = ("extra", "meta", "by_label", "image_size", "results", "tiles")
_FIELD_NAMES: dict[type, tuple[str, ...]] = {}


def _plain(value: Any) -> Any:
    if isinstance(value, Fields):
        return value.to_dict()
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]  # pyright: ignore[reportUnknownVariableType]
    return value


@attrs.frozen
class Point(Fields):
    """A point. `x` and `y` are 0..1 of the upright image's width and height, from its top left corner.

    `label` is the label that was searched for, if the call had a list of labels; else it is None, and absent from
    the dict. `extra` has the fields that this version does not know, such as `score`; they are in the dict, too.
    """

    x: float
    y: float
    label: str | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False, repr=False, kw_only=True)

    def to_pixels(self, width: int, height: int) -> tuple[int, int]:
        """Return the pixel that contains the point, as `(x, y)`, clamped to an image of this size.

        ```python
        x, y = point.to_pixels(640, 480)
        ```
        """
        return _pixel(self.x, width), _pixel(self.y, height)


@attrs.frozen
class BoundingBox(Fields):
    """A bounding box. Edges are 0..1 of the upright image's width (`x_`) or height (`y_`), from its top left corner.

    `label` is the label that was searched for, if the call had a list of labels; else it is None, and absent from
    the dict. `extra` has the fields that this version does not know, such as `score` and `class_id`; they are in the
    dict, too.
    """

    x_min: float
    y_min: float
    x_max: float
    y_max: float
    label: str | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False, repr=False, kw_only=True)

    @property
    def width(self) -> float:
        """The width, 0..1 of the image's width."""
        return self.x_max - self.x_min

    @property
    def height(self) -> float:
        """The height, 0..1 of the image's height."""
        return self.y_max - self.y_min

    @property
    def area(self) -> float:
        """The area, 0..1 of the image's area; 0 if an edge lies beyond its opposite."""
        return max(0.0, self.width) * max(0.0, self.height)

    @property
    def center(self) -> Point:
        """The center point, with the same label."""
        return Point((self.x_min + self.x_max) / 2, (self.y_min + self.y_max) / 2, self.label)

    def intersection(self, other: BoundingBox) -> float:
        """Return the area shared by both boxes, 0..1 of the image's area.

        ```python
        shared = box.intersection(other)
        ```
        """
        across = min(self.x_max, other.x_max) - max(self.x_min, other.x_min)
        down = min(self.y_max, other.y_max) - max(self.y_min, other.y_min)
        return max(0.0, across) * max(0.0, down)

    def iou(self, other: BoundingBox) -> float:
        """Return the intersection over union, 0..1; 0 for two boxes without area.

        ```python
        is_same = box.iou(other) > 0.5
        ```
        """
        shared = self.intersection(other)
        union = self.area + other.area - shared
        return shared / union if union else 0.0

    def contains(self, other: Point | BoundingBox) -> bool:
        """Return whether a point or an entire box lies inside this box, edges included.

        ```python
        is_inside = box.contains(point)
        ```
        """
        if isinstance(other, Point):
            return self.x_min <= other.x <= self.x_max and self.y_min <= other.y <= self.y_max
        return self.contains(Point(other.x_min, other.y_min)) and self.contains(Point(other.x_max, other.y_max))

    def to_pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return `(left, top, right, bottom)` as Pillow's `crop` takes it, clamped to an image of this size.

        ```python
        left, top, right, bottom = box.to_pixels(640, 480)
        ```
        """
        return (
            _edge(self.x_min, width),
            _edge(self.y_min, height),
            _edge(self.x_max, width),
            _edge(self.y_max, height),
        )

    def crop(self, image: Any, *, margin: float = 0.0) -> Any:
        """Crop the image to the box and return a Pillow image.

        ```python
        box.crop("photo.jpg", margin=0.1).save("crop.png")
        ```

        Args:
            image: Anything the skills accept except a URL. EXIF orientation is applied first, because boxes refer to
                the upright image.
            margin: Margin to add on each side, as a fraction of the box's size. Default 0.

        Raises:
            ImageError: The image cannot be used, or the box is empty.
        """
        return _vision("crops").crop(image, self, margin=margin)


def _pixel(fraction: float, pixels: int) -> int:
    return min(max(0, int(_clamp(fraction) * pixels)), max(0, pixels - 1))


def _edge(fraction: float, pixels: int) -> int:
    return round(_clamp(fraction) * pixels)


def _clamp(fraction: float) -> float:
    """Clamp to 0..1; NaN becomes 0."""
    return min(max(0.0, fraction), 1.0) if fraction == fraction else 0.0


def _vision(module: str) -> Any:
    # Imported on first use: `_vision` is a layer above this module.
    return importlib.import_module(f"._vision.{module}", __package__)


@attrs.frozen
class Grounding(Fields):
    """A span of a reasoning, `text[start_idx:end_idx]`, and the image points it refers to, each `(x, y)` in 0..1."""

    start_idx: int
    end_idx: int
    points: tuple[tuple[float, float], ...]


@attrs.frozen
class Reasoning(Fields):
    """The model's reasoning behind an answer (wire field `reasoning`)."""

    text: str
    grounding: tuple[Grounding, ...] = ()


@attrs.frozen
class Metrics(Fields):
    """Token counts and model timings (wire field `metrics`). Fields that the server does not send are None.

    Attributes:
        input_tokens: Input tokens, image included.
        output_tokens: Output tokens. Also read from Station's `_stats.tokens`.
        prefill_time_ms: Milliseconds to process the input.
        decode_time_ms: Milliseconds to generate the output.
        ttft_ms: Milliseconds to the first token.
        cached_tokens: Input tokens served from the server's cache.
    """

    input_tokens: int | None = None
    output_tokens: int | None = None
    prefill_time_ms: float | None = None
    decode_time_ms: float | None = None
    ttft_ms: float | None = None
    cached_tokens: int | None = None


@attrs.frozen
class Meta:
    """Client-side information about a call.

    Attributes:
        status: The HTTP status.
        attempts: The number of requests sent, the final one included; for a list of labels or tiles, the most of one
            call. 0 if the answer was in the cache.
        elapsed: Seconds from the call to the end of the response, including waits and retries.
        cached: Whether the answer was in the client's cache, so that nothing was sent.
    """

    status: int
    attempts: int = 1
    elapsed: float = 0.0
    cached: bool = attrs.field(default=False, kw_only=True)
    _headers: Headers | Callable[[], Headers] = attrs.field(
        factory=dict[str, str], eq=False, repr=False, kw_only=True, alias="headers"
    )

    @property
    def headers(self) -> Headers:
        """The headers of the response, by name in lower case, without credentials and cookies.

        Empty if the result is merged from several responses, or was in the cache.
        """
        headers = self._headers
        if callable(headers):  # they are rarely read
            headers = headers()
            object.__setattr__(self, "_headers", headers)
        return headers

    def __reduce__(self) -> tuple[Any, ...]:
        return _make_meta, (self.status, self.attempts, self.elapsed, self.cached, dict(self.headers))


def _make_meta(status: int, attempts: int, elapsed: float, cached: bool, headers: Headers) -> Meta:
    return Meta(status, attempts, elapsed, cached=cached, headers=headers)


@attrs.frozen
class TileReport:
    """What a tiled call did (`result.tiles`).

    Attributes:
        columns: The number of columns; 1 if the image was not cut.
        rows: The number of rows.
        calls: The number of answers: of tiles, parts of split tiles and the whole image, for all labels.
        failed: The tiles that failed, as boxes 0..1 of the whole image, each with its error. Empty unless
            `Tiles(strict=False)`.
    """

    columns: int
    rows: int
    calls: int
    failed: tuple[tuple[BoundingBox, MoondreamError], ...] = ()


class _Sourced(Fields):
    """A value that can refer to its image and call: in slots that are no fields, so they are not compared or shown."""

    __slots__ = ("_is_truncated", "_label", "_max_objects", "_source")

    _is_truncated: bool  # as merged from tiles; unset if the number of objects tells
    _label: str  # the label that was searched for; unset for several, and if it is not known
    _max_objects: int  # as set for the call; unset if it was the server's default
    _source: Any  # an `ImageSource`; unset if the image cannot be referred to

    def __reduce__(self) -> tuple[Any, ...]:
        return _restore, (type(self), self.__getstate__(), _origin_of(self))


def _origin_of(value: _Sourced) -> dict[str, Any]:
    return {name: getattr(value, name) for name in _Sourced.__slots__ if hasattr(value, name)}


def _set_origin(value: Any, origin: Mapping[str, Any]) -> Any:
    for name, each in origin.items():
        object.__setattr__(value, name, each)
    return value


def _restore(kind: Any, state: Any, origin: Mapping[str, Any]) -> Any:
    value = kind.__new__(kind)
    value.__setstate__(state)
    return _set_origin(value, origin)


@attrs.frozen(kw_only=True)
class Result(_Sourced):
    """The base class of all results.

    Attributes:
        request_id: The server's ID for the request; None if not sent (Station sends none).
        finish_reason: `"stop"`, `"length"` (cut off at the token limit) or `"error"`; None if not sent.
        metrics: Token counts and timings; None if not sent.
        meta: Status, attempts and elapsed time. Ignored in comparisons.
        image_size: `(width, height)` of the upright original image in pixels; None if there was no image. Ignored in
            comparisons.
        extra: All response fields that have no attribute here, unchanged.
    """

    request_id: str | None = None
    finish_reason: str | None = None
    metrics: Metrics | None = None
    meta: Meta = attrs.field(default=Meta(status=200), eq=False)
    image_size: tuple[int, int] | None = attrs.field(default=None, eq=False, repr=False)
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False)

    @property
    def truncated(self) -> bool:
        """Whether the answer was cut off: at the token limit or, of `detect` and `point`, at `max_objects`.

        Servers do not say that there were more objects: it is True if as many came as were allowed, and without
        `max_objects`, if as many came as servers allow by default (50 or 150).
        """
        return self.finish_reason == "length"

    def _size(self, width: int | None, height: int | None) -> tuple[int, int]:
        if width is not None and height is not None:
            size = width, height
        elif width is None and height is None and self.image_size is not None:
            size = self.image_size
        else:
            raise ConfigurationError("Pass both width and height, in pixels: this result does not know its image size.")
        size = to_python(size[0]), to_python(size[1])
        if not all(is_side(side) for side in size):
            raise ConfigurationError(f"width and height must be whole numbers from 1 to {MAX_SIDE:,}.")
        return int(size[0]), int(size[1])


class _TextResult:
    """A result that is a text: `str(result)`, and what a notebook shows, is the text alone."""

    __slots__ = ()

    def __str__(self) -> str:
        return self._text()

    def _repr_markdown_(self) -> str:
        return self._text()

    def _text(self) -> str:
        raise NotImplementedError


@attrs.frozen(kw_only=True)
class QueryResult(_TextResult, Result):
    """The answer to a question (wire field `answer`), with the reasoning if it was requested."""

    answer: str
    reasoning: Reasoning | None = None

    def _text(self) -> str:
        return self.answer


@attrs.frozen(kw_only=True)
class CaptionResult(_TextResult, Result):
    """A caption of the image (wire field `caption`)."""

    caption: str

    def _text(self) -> str:
        return self.caption


def _is_truncated(result: Any, count: int) -> bool:
    """Return whether an answer with this many objects was cut off."""
    known: bool | None = getattr(result, "_is_truncated", None)
    if known is not None:
        return known
    parts: Mapping[str, Result] | None = result.by_label
    if result.finish_reason == "length" or (not parts and _is_full(result, count)):
        return True
    return any(each.truncated for each in (parts or {}).values())


def _is_full(result: Any, count: int) -> bool:
    """Return whether as many objects came as were allowed."""
    limit: int | None = getattr(result, "_max_objects", None)
    return count in _DEFAULT_MAX_OBJECTS if limit is None else count >= limit


_DEFAULT_MAX_OBJECTS = (50, 150)  # of the servers that are known (moondream-api.md 1.2)
_MAYBE_MORE = "; there may be more: it stops at max_objects"


def _count_labels(noun: str, items: Sequence[BoundingBox | Point], labels: Iterable[str] | None) -> str:
    """Return how many items there are, in all and of each label, such as `3 objects: 2 car, 1 person, no dog`."""
    counts = dict.fromkeys(labels or (), 0)
    for item in items:
        if item.label:
            counts[item.label] = counts.get(item.label, 0) + 1
    total = f"{len(items) or 'no'} {noun}{'' if len(items) == 1 else 's'}"
    each = ", ".join(f"{count or 'no'} {label}" for label, count in counts.items())
    return f"{total}: {each}" if each else total


class Drawable:
    """A result that can be drawn on its image."""

    __slots__ = ()

    def annotate(self, image: Any, *, label: str | None = None, font: str | None = None) -> Any:
        """Draw the result on a copy of the image, a Pillow image of mode RGB. `vision.annotate` draws several results.

        ```python
        boxes.annotate("photo.jpg").save("annotated.png")
        ```

        Args:
            image: The image the result is for: anything the skills accept except a URL.
            label: Label for items without one of their own.
            font: Path of a TrueType font, for labels in non-Latin scripts.

        Raises:
            ImageError: The image cannot be used.
            PathError, ConfigurationError: As in `SegmentResult.mask`.
        """
        return _vision("annotate").annotate(image, self, label=label, font=font)

    def show(self, image: Any, *, label: str | None = None, font: str | None = None) -> None:
        """Draw the result on the image and open it in the system's viewer. Arguments as in `annotate`.

        ```python
        boxes.show("photo.jpg")  # opens the system's viewer
        ```
        """
        self.annotate(image, label=label, font=font).show()

    def _repr_png_(self) -> bytes | None:
        """Draw the result for a notebook: on its image, at most 1024 pixels a side.

        The image is read from its path or URL, or from memory if it is still there; else the canvas is empty.
        """
        try:
            png: bytes | None = _vision("display").to_png(self)
        except Exception as exc:  # the notebook then shows the repr
            log.debug("The result cannot be drawn: %s", exc)
            return None
        return png


@attrs.frozen(kw_only=True)
class DetectResult(Drawable, Result):
    """The detected boxes (wire field `objects`), empty if there are none. Moondream sends no confidences.

    For a list of labels, `.objects` has the boxes of all labels, each with its `.label`, and `.by_label` maps each
    label to its own result. Tokens and model timings are sums, and `.request_id` is None. The same holds for a call in
    tiles, whose `.tiles` says how many there were.
    """

    objects: tuple[BoundingBox, ...]
    by_label: Mapping[str, DetectResult] | None = attrs.field(default=None, eq=False, repr=False)
    tiles: TileReport | None = attrs.field(default=None, eq=False, repr=False)

    def to_pixels(self, width: int | None = None, height: int | None = None) -> list[tuple[int, int, int, int]]:
        """Return each box as `(left, top, right, bottom)` in pixels.

        ```python
        for left, top, right, bottom in boxes.to_pixels():
            print(right - left, bottom - top)
        ```

        Args:
            width: Image width in pixels. Default: that of the image passed to the call, before it was resized.
            height: Image height in pixels. Same default.

        Raises:
            ConfigurationError: The image size is not known.
        """
        size = self._size(width, height)
        return [box.to_pixels(*size) for box in self.objects]

    @property
    def truncated(self) -> bool:
        """Whether the answer was cut off, so that there may be more objects; see `Result.truncated`."""
        return _is_truncated(self, len(self.objects))

    def __str__(self) -> str:
        return _count_labels("object", self.objects, self.by_label) + (_MAYBE_MORE if self.truncated else "")

    def crops(self, image: Any, *, margin: float = 0.0) -> list[Any]:
        """Crop the image to each box and return Pillow images of mode RGB, in the order of `objects`.

        ```python
        for number, crop in enumerate(boxes.crops("photo.jpg")):
            crop.save(f"{number}.png")
        ```

        Args:
            image: The image the result is for: anything the skills accept except a URL. It is decoded once.
            margin: Margin to add on each side, as a fraction of the box's size. Default 0.

        Raises:
            ImageError: The image cannot be used, or a box is empty.
            ConfigurationError: `margin` is not a finite number, or the image has another shape than the result's.
        """
        crops: list[Any] = _vision("crops").crop_all(image, self, margin=margin)
        return crops

    def nms(self, iou: float = 0.5) -> DetectResult:
        """Return the result without boxes that overlap an earlier box of the same label (non-maximum suppression).

        Moondream sends no confidences, so earlier boxes take precedence.

        ```python
        unique = boxes.nms(0.7).objects
        ```

        Args:
            iou: Intersection over union at which a box counts as a duplicate. Default 0.5.
        """
        by_label = self.by_label and {label: result.nms(iou) for label, result in self.by_label.items()}
        kept = attrs.evolve(self, objects=tuple(_vision("nms").nms(self.objects, iou)), by_label=by_label)
        _set_origin(kept, _origin_of(self))
        return kept


@attrs.frozen(kw_only=True)
class PointResult(Drawable, Result):
    """The detected points (wire field `points`), empty if there are none. Only Station sends `count`.

    Results for a list of labels are merged as in `DetectResult`.
    """

    points: tuple[Point, ...]
    count: int | None = None
    by_label: Mapping[str, PointResult] | None = attrs.field(default=None, eq=False, repr=False)
    tiles: TileReport | None = attrs.field(default=None, eq=False, repr=False)

    def to_pixels(self, width: int | None = None, height: int | None = None) -> list[tuple[int, int]]:
        """Return each point as `(x, y)` in pixels. Arguments as in `DetectResult.to_pixels`.

        ```python
        print(points.to_pixels())
        ```
        """
        size = self._size(width, height)
        return [point.to_pixels(*size) for point in self.points]

    @property
    def truncated(self) -> bool:
        """Whether the answer was cut off, so that there may be more points; see `Result.truncated`."""
        return _is_truncated(self, len(self.points))

    def __str__(self) -> str:
        return _count_labels("point", self.points, self.by_label) + (_MAYBE_MORE if self.truncated else "")


@attrs.frozen(kw_only=True)
class SegmentResult(Drawable, Result):
    """The outline of one object.

    Attributes:
        path: SVG path data in coordinates 0..1 **of the box**, not of the image:
            `x_image = bbox.x_min + x * (bbox.x_max - bbox.x_min)`. Empty if the object was not found.
        bbox: The box, 0..1 of the upright image; None if not sent.
        parse_error: The server's message if it could not parse the path that the model generated.
    """

    path: str
    bbox: BoundingBox | None = None
    parse_error: str | None = None

    def __str__(self) -> str:
        if not self.path.strip():
            return "no outline"
        box = self.bbox
        edges = "" if box is None else f" in {box.x_min:.3f}, {box.y_min:.3f}, {box.x_max:.3f}, {box.y_max:.3f}"
        return f"1 outline{edges}"

    def to_svg(
        self, width: int | None = None, height: int | None = None, *, fill: str = "#ff00ff", opacity: float = 0.5
    ) -> str:
        """Return an SVG document of the outline in image pixels, to overlay on the image or open in a browser.

        ```python
        Path("outline.svg").write_text(segment.to_svg(fill="#00ff00"))
        ```

        Args:
            width: Image width in pixels. Default: that of the image passed to the call.
            height: Image height in pixels. Same default.
            fill: An SVG color.
            opacity: Fill opacity, 0..1.

        Raises:
            PathError: The path cannot be parsed, or there is no box.
            ConfigurationError: The image size is not known, or the extra `vision` is not installed.
        """
        return str(_vision("svg_paths").to_svg(self, self._size(width, height), fill=fill, opacity=opacity))

    def polygons(
        self, width: int | None = None, height: int | None = None, *, tolerance: float = 0.25
    ) -> list[list[tuple[float, float]]]:
        """Return the outline's closed loops as `(x, y)` in image pixels, with curves and arcs flattened to lines.

        Loops combine by the even-odd rule: a loop inside another is a hole.

        ```python
        for loop in segment.polygons():
            print(len(loop), "corners")
        ```

        Args:
            width: As in `to_svg`.
            height: As in `to_svg`.
            tolerance: Maximum distance in pixels between a line and its curve. Default 0.25.

        Raises:
            PathError, ConfigurationError: As in `to_svg`.
        """
        loops: list[list[tuple[float, float]]] = _vision("svg_paths").polygons(
            self, self._size(width, height), tolerance=tolerance
        )
        return loops

    def mask(self, width: int | None = None, height: int | None = None, *, antialias: bool = False) -> Any:
        """Return the mask as a Pillow image of mode `L`: 255 inside, 0 outside.

        ```python
        segment.mask().save("mask.png")
        ```

        Args:
            width: As in `to_svg`.
            height: As in `to_svg`.
            antialias: Whether edge pixels get gray values by how much of them is inside. Default False: a pixel is
                inside if at least half of it is.

        Raises:
            PathError, ConfigurationError: As in `to_svg`.
        """
        return _vision("masks").mask(self, self._size(width, height), antialias=antialias)

    def mask_array(self, width: int | None = None, height: int | None = None) -> Any:
        """Return the mask as a NumPy array of bool, shape `(height, width)`.

        ```python
        share = segment.mask_array().mean()
        ```

        Raises:
            PathError, ConfigurationError: As in `to_svg`.
        """
        return _vision("masks").mask_array(self, self._size(width, height))

    def rle(self, width: int | None = None, height: int | None = None) -> dict[str, Any]:
        """Return the mask as compressed COCO run-length encoding: `{"size": [height, width], "counts": text}`.

        ```python
        print(segment.rle()["size"])
        ```

        Raises:
            PathError, ConfigurationError: As in `to_svg`.
        """
        runs: dict[str, Any] = _vision("masks").rle(self, self._size(width, height))
        return runs


@attrs.frozen(kw_only=True)
class ChatResult(_TextResult, Result):
    """The reply in a conversation. Also readable like the official client's dict: `r["message"]["content"]`.

    Unless it was streamed, it is also readable like OpenAI's: `r["choices"][0]["message"]["content"]`.

    Attributes:
        content: The text of the reply (wire field `choices[0].message.content`).
        role: The author's role: `assistant`.
        reasoning: The reasoning behind the reply; None if not sent.
    """

    content: str
    role: str = "assistant"
    reasoning: Reasoning | None = None

    def __getitem__(self, name: str) -> Any:
        return self._message() if name == "message" else super().__getitem__(name)

    def __contains__(self, name: object) -> bool:
        return name == "message" or super().__contains__(name)

    def _text(self) -> str:
        return self.content

    def _message(self) -> dict[str, Any]:
        message: dict[str, Any] = {"role": self.role, "content": self.content}
        if self.reasoning is not None:
            message["reasoning"] = self.reasoning.text
            message["reasoning_details"] = {"grounding": [span.to_dict() for span in self.reasoning.grounding]}
        return message


@attrs.frozen(kw_only=True)
class ChatDelta(Fields):
    """One chunk of a chat stream: a piece of the reasoning or, after it, of the content; the other is None."""

    content: str | None = None
    reasoning: str | None = None


@attrs.frozen(kw_only=True)
class SegmentUpdate(Fields):
    """One update of a segment stream. Fields that an update does not carry are None.

    Attributes:
        bbox: The box: sent first, and refined in the last update.
        chunk: The next piece of the coarse path.
        path: The refined path, in the last update. It replaces the chunks.
        completed: True in the last update.
    """

    bbox: BoundingBox | None = None
    chunk: str | None = None
    path: str | None = None
    completed: bool | None = None

    def __getitem__(self, name: str) -> Any:
        if name == "bbox" and self.bbox is None and self.completed:
            return None  # as in the official client's last update when nothing was found
        return super().__getitem__(name)


@attrs.frozen(kw_only=True)
class Model(Fields):
    """A model that the server offers. Pass `id` as `model=`."""

    id: str
    name: str | None = None
    description: str | None = None
    extra: Mapping[str, Any] = attrs.field(factory=dict[str, Any], hash=False)


if not TYPE_CHECKING:  # type checkers report unknown names themselves

    def __getattr__(name: str) -> object:
        raise advise("types", name)
