"""Results in the formats of other tools. None of them gets a confidence: Moondream gives none.

`label` is for what has no label of its own; `size`, `(width, height)` in pixels, for a result that does not know its
image's.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, cast
from xml.etree import ElementTree

from .._csv_cells import csv_row
from .._public import public
from ..errors import ConfigurationError, PathError
from ..types import BoundingBox, Point, Result, SegmentResult
from .detections import Detection, Name, Size, labels_of, name_of, size_of, things
from .svg_paths import needed

Object = dict[str, Any]

_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2
_MAX_LOOPS, _MAX_COMPARED = 1_000, 50_000_000  # of an outline with holes, and points compared with all loops

LABEL = "object"
"""What things are called if nobody says."""


@public("vision")
def to_coco(
    images: Iterable[tuple[Name, Result | Sequence[Result]]],
    *,
    categories: Sequence[str] = (),
    label: str = LABEL,
    sizes: Mapping[Any, Size] | None = None,
) -> Object:
    """COCO's instances: ready for `json.dump`, `pycocotools.coco.COCO` and whatever reads them.

    Outlines are polygons, or, with holes or several parts, run lengths; points are left out.

    Args:
        images: File names (texts, paths or numbers), each with one result or several.
        categories: Labels that get the ids 1, 2, ...; further ones get the next.
        label: See above.
        sizes: By file name, for results that do not know theirs.

    Raises:
        ConfigurationError: A size is not known, or a result has no places.
        PathError: A segment's path cannot be read.
    """
    ids = {name: number for number, name in enumerate(dict.fromkeys(labels_of(categories, "categories")), 1)}
    known = _sizes_by_name(sizes)
    listed: list[Object] = []
    annotations: list[Object] = []
    for image_id, (name, results) in enumerate(_named_results(images), 1):
        size = known.get(name) or next((r.image_size for r in results if r.image_size), None)
        if size is None:
            raise ConfigurationError(f"The size of {name!r} is not known; give it in sizes.")
        size = size_of(results[0] if results else Result(), size)
        listed.append({"id": image_id, "file_name": name, "width": size[0], "height": size[1]})
        for thing in (thing for result in results for thing in things(result, label)):
            if thing.box is not None:
                category = ids.setdefault(thing.label, len(ids) + 1)
                where = {"id": len(annotations) + 1, "image_id": image_id, "category_id": category, "iscrowd": 0}
                annotations.append(where | _coco_place(thing, thing.box, size))
    return {
        "images": listed,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
    }


@public("vision")
def to_yolo(result: Result, labels: Sequence[str], *, label: str = LABEL) -> str:
    """A YOLO label file: a line for each thing, `class x_center y_center width height`, or `class x1 y1 x2 y2 ...`.

    All 0..1 of the image. An outline has a line for each of its loops that is in no other (YOLO knows no holes).

    Args:
        result: Of `detect` or `segment`; points have no place in it.
        labels: Its classes, in order.
        label: See above.

    Raises:
        ConfigurationError: A label is not among `labels`, or the result is one of points.
    """
    lines: list[str] = []
    given = [labels] if isinstance(labels, str) else labels_of(labels, "labels")
    numbers = {name: number for number, name in reversed(list(enumerate(given)))}
    for thing in things(result, label):
        number = numbers.get(thing.label)
        if number is None:
            raise ConfigurationError(f"The label {thing.label!r} is not among labels.")
        lines += [f"{number} {' '.join(f'{value:.6f}' for value in row)}" for row in _yolo_rows(thing)]
    return "".join(f"{line}\n" for line in lines)


@public("vision")
def to_labelme(result: Result, image_path: Name, *, label: str = LABEL, size: Size | None = None) -> Object:
    """A LabelMe file: rectangles, points, and polygons (a shape for each loop, of one group), in pixels."""
    width, height = size_of(result, size)
    shapes: list[Object] = []
    for number, thing in enumerate(things(result, label)):
        for kind, points in _labelme_shapes(thing, (width, height)):
            group = number if isinstance(thing.place, SegmentResult) else None
            shapes.append({"label": thing.label, "points": points, "group_id": group, "shape_type": kind, "flags": {}})
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": name_of(image_path),
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


@public("vision")
def to_voc(result: Result, image_path: Name, *, label: str = LABEL, size: Size | None = None) -> str:
    """Write a Pascal VOC file: boxes in pixels, from 1; points are left out.

    Characters that XML has no place for, such as most control characters, become spaces.
    """
    width, height = size_of(result, size)
    path = PurePath(name_of(image_path))
    root = ElementTree.Element("annotation")
    _sub(root, "folder", path.parent.name)
    _sub(root, "filename", path.name)
    shape = ElementTree.SubElement(root, "size")
    for name, value in (("width", width), ("height", height), ("depth", 3)):
        _sub(shape, name, value)
    _sub(root, "segmented", 0)
    for thing in things(result, label):
        if thing.box is None:
            continue
        item = ElementTree.SubElement(root, "object")
        for name, text in (("name", thing.label), ("pose", "Unspecified"), ("truncated", "0"), ("difficult", "0")):
            _sub(item, name, text)
        left, top, right, bottom = thing.box.to_pixels(width, height)
        frame = ElementTree.SubElement(item, "bndbox")
        for name, value in (
            ("xmin", left + 1),
            ("ymin", top + 1),
            ("xmax", max(right, left + 1)),
            ("ymax", max(bottom, top + 1)),
        ):
            _sub(frame, name, value)
    ElementTree.indent(root)
    # A parser makes a line break of a bare carriage return.
    return ElementTree.tostring(root, encoding="unicode").replace("\r", "&#13;") + "\n"


@public("vision")
def to_supervision(result: Result, *, labels: Sequence[str] = (), label: str = LABEL, size: Size | None = None) -> Any:
    """`supervision.Detections`: boxes in pixels, masks of outlines, class ids and names, no confidence.

    Args:
        result: Of `detect` or `segment`.
        labels: Classes that get the ids 0, 1, ...; further ones get the next.
        label: See above.
        size: See above.

    Raises:
        ConfigurationError: supervision is not installed, or the size is not known.
    """
    numpy = needed("numpy")
    try:
        import supervision  # type: ignore[import-not-found, import-untyped, unused-ignore]  # pyright: ignore
    except ImportError:
        raise ConfigurationError("This needs supervision: pip install supervision.") from None
    width, height = size_of(result, size)
    found = [thing for thing in things(result, label) if thing.box is not None]
    ids = {name: number for number, name in enumerate(dict.fromkeys(labels_of(labels, "labels")))}
    numbers = [ids.setdefault(thing.label, len(ids)) for thing in found]
    boxes = [_corners(thing.box, (width, height)) for thing in found if thing.box is not None]
    outlines = [thing.place for thing in found if isinstance(thing.place, SegmentResult)]
    masks = [outline.mask_array(width, height) for outline in outlines]
    detections: Any = supervision.Detections(  # pyright: ignore
        xyxy=numpy.asarray(boxes, dtype=numpy.float32).reshape(-1, 4),
        mask=numpy.stack(masks) if masks else None,
        class_id=numpy.asarray(numbers, dtype=int),
        data={"class_name": numpy.asarray([thing.label for thing in found], dtype=str)},
    )
    return detections


@public("vision")
def to_vlm_dict(result: Result) -> Object:
    """The dict that `supervision.Detections.from_vlm(VLM.MOONDREAM, ...)` takes: `{"objects": [{"x_min": ...}]}`."""
    boxes = [thing.box for thing in things(result, LABEL) if thing.box is not None]
    return {"objects": [dict(zip(("x_min", "y_min", "x_max", "y_max"), _raw_edges(b), strict=True)) for b in boxes]}


@public("vision")
def to_fiftyone(result: Result, *, label: str = LABEL) -> list[Object]:
    """What `fiftyone.Detection` and `Keypoint` take: a label, and `bounding_box` `[x, y, w, h]` or `points`, 0..1."""
    found: list[Object] = []
    for thing in things(result, label):
        if isinstance(thing.place, Point):
            found.append({"label": thing.label, "points": [_xy(thing.place, (1, 1))]})
        elif thing.box is not None:
            x_min, y_min, x_max, y_max = _edges(thing.box)
            found.append({"label": thing.label, "bounding_box": [x_min, y_min, x_max - x_min, y_max - y_min]})
    return found


@public("vision")
def to_geojson(result: Result, *, label: str = LABEL, size: Size | None = None) -> Object:
    """A GeoJSON-like feature collection in pixels, y downwards: polygons and points, `label` a property."""
    shape = size_of(result, size)
    features = [
        {"type": "Feature", "properties": {"label": thing.label}, "geometry": _geometry(thing, shape)}
        for thing in things(result, label)
    ]
    return {"type": "FeatureCollection", "features": features}


@public("vision")
def to_csv(result: Result, *, label: str = LABEL, size: Size | None = None) -> str:
    """Return a table with a heading: label, box or point, 0..1 and, where the size is known, in pixels.

    Labels that a spreadsheet would take for formulas get a quotation mark in front.
    """
    shape = size_of(result, size) if size or getattr(result, "image_size", None) else None
    pixels = ["left", "top", "right", "bottom"] if shape else []
    rows: list[list[object]] = [["label", "x_min", "y_min", "x_max", "y_max", *pixels]]
    for thing in things(result, label):
        box = thing.box
        if isinstance(thing.place, Point):
            box = BoundingBox(thing.place.x, thing.place.y, thing.place.x, thing.place.y)
        if box is not None:
            rows.append([thing.label, *_raw_edges(box), *(box.to_pixels(*shape) if shape else [])])
    return "".join(csv_row(row) + "\n" for row in rows)


def _coco_place(thing: Detection, box: BoundingBox, size: Size) -> Object:
    left, top, right, bottom = _corners(box, size)
    place: Object = {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
    if not isinstance(thing.place, SegmentResult):
        return {**place, "segmentation": [[left, top, right, top, right, bottom, left, bottom]]}
    loops = thing.place.polygons(*size)
    area = float(thing.place.mask_array(*size).sum())
    if len(loops) == 1:
        return {**place, "segmentation": [[value for point in loops[0] for value in point]], "area": area}
    return {**place, "segmentation": thing.place.rle(*size), "area": area}


def _yolo_rows(thing: Detection) -> list[list[float]]:
    if isinstance(thing.place, Point):
        raise ConfigurationError("YOLO's files have no points.")
    if isinstance(thing.place, SegmentResult):
        scale = 10_000  # of polygons in 0..1, whose tolerance is in pixels
        parts = _parts(thing.place.polygons(scale, scale, tolerance=5.0))
        return [[_part(value / scale) for point in part[0] for value in point] for part in parts]
    x_min, y_min, x_max, y_max = _edges(thing.place)
    return [[(x_min + x_max) / 2, (y_min + y_max) / 2, x_max - x_min, y_max - y_min]]


def _labelme_shapes(thing: Detection, size: Size) -> list[tuple[str, list[list[float]]]]:
    if isinstance(thing.place, Point):
        return [("point", [_xy(thing.place, size)])]
    if isinstance(thing.place, SegmentResult):
        return [("polygon", [list(point) for point in loop]) for loop in thing.place.polygons(*size)]
    left, top, right, bottom = _corners(thing.place, size)
    return [("rectangle", [[left, top], [right, bottom]])]


def _geometry(thing: Detection, size: Size) -> Object:
    if isinstance(thing.place, Point):
        return {"type": "Point", "coordinates": _xy(thing.place, size)}
    if isinstance(thing.place, SegmentResult):
        parts = _parts(thing.place.polygons(*size))
        rings = [[[list(point) for point in _closed(loop)] for loop in part] for part in parts]
        return {"type": "MultiPolygon", "coordinates": rings}
    left, top, right, bottom = _corners(thing.place, size)
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    return {"type": "Polygon", "coordinates": [ring]}


def _corners(box: BoundingBox, size: Size) -> list[float]:
    x_min, y_min, x_max, y_max = _edges(box)
    return [x_min * size[0], y_min * size[1], x_max * size[0], y_max * size[1]]


def _edges(box: BoundingBox) -> tuple[float, float, float, float]:
    """Its edges inside the image; of an inverted box, the right way round."""
    (x_min, x_max), (y_min, y_max) = sorted((box.x_min, box.x_max)), sorted((box.y_min, box.y_max))
    return _part(x_min), _part(y_min), _part(x_max), _part(y_max)


def _raw_edges(box: BoundingBox) -> tuple[float, float, float, float]:
    """Its edges as they are, inside the image or not; those that are no numbers as `_edges` has them."""
    x_min, y_min, x_max, y_max = (
        float(edge) if math.isfinite(edge) else _part(edge) for edge in (box.x_min, box.y_min, box.x_max, box.y_max)
    )
    return x_min, y_min, x_max, y_max


def _xy(point: Point, size: Size) -> list[float]:
    """A point inside the image, in pixels."""
    return [_part(point.x) * size[0], _part(point.y) * size[1]]


def _part(value: float) -> float:
    return float(min(max(0.0, value), 1.0)) if value == value else 0.0


def _closed(loop: Sequence[Any]) -> list[Any]:
    return list(loop) if tuple(loop[0]) == tuple(loop[-1]) else [*loop, loop[0]]


def _parts(loops: Sequence[Any]) -> list[list[Any]]:
    """Each outer loop with its holes: what an odd number of others is around is a hole, of the innermost of them.

    Raises:
        PathError: There are too many loops to compare.
    """
    if len(loops) == 1:
        return [[loops[0]]]
    if len(loops) > _MAX_LOOPS or len(loops) * sum(map(len, loops)) > _MAX_COMPARED:
        raise PathError(f"The outline has {len(loops):,} loops; too many to tell which are holes.")
    around = _loops_around(loops)
    parts = {number: [loop] for number, loop in enumerate(loops) if len(around[number]) % 2 == 0}
    for number, loop in enumerate(loops):
        owners = [n for n in around[number] if n in parts and len(around[n]) == len(around[number]) - 1]
        if number not in parts and owners:
            parts[owners[0]].append(loop)
    return list(parts.values())


def _loops_around(loops: Sequence[Any]) -> list[list[int]]:
    """The numbers of the larger loops that each loop lies in: a point within it does."""
    if not loops:
        return []
    numpy = needed("numpy")
    begins = numpy.concatenate([numpy.asarray(loop, dtype=float) for loop in loops])
    ends = numpy.concatenate([numpy.roll(numpy.asarray(loop, dtype=float), -1, axis=0) for loop in loops])
    owner = numpy.repeat(numpy.arange(len(loops)), [len(loop) for loop in loops])
    areas = [abs(_area(loop)) for loop in loops]
    around: list[list[int]] = []
    for number, loop in enumerate(loops):
        x, y = _inner_point(loop)
        crossings = numpy.bincount(owner[_crosses(begins, ends, x, y)], minlength=len(loops))
        inside = numpy.flatnonzero(crossings % 2).tolist()
        around.append([n for n in inside if n != number and areas[number] < areas[n]])
    return around


def _crosses(begins: Any, ends: Any, x: float, y: float) -> Any:
    """Which edges a ray from a point to the right crosses."""
    (ax, ay), (bx, by) = begins.T, ends.T
    is_level = (ay > y) == (by > y)
    height = needed("numpy").where(is_level, 1.0, by - ay)
    return ~is_level & (x < (bx - ax) * (y - ay) / height + ax)


def _inner_point(loop: Sequence[Any]) -> tuple[float, float]:
    """A point that is in a loop, and not on its edge: half way between two corners in height, where it is widest."""
    heights = sorted({y for _, y in loop})
    if len(heights) < 2:
        return loop[0][0], loop[0][1]
    low, high = max(itertools.pairwise(heights), key=lambda pair: pair[1] - pair[0])
    y = (low + high) / 2
    sides = zip(loop, [*loop[1:], loop[0]], strict=True)
    crossed = sorted((bx - ax) * (y - ay) / (by - ay) + ax for (ax, ay), (bx, by) in sides if (ay > y) != (by > y))
    left, right = max(zip(crossed[::2], crossed[1::2], strict=True), key=lambda pair: pair[1] - pair[0])
    return (left + right) / 2, y


def _area(loop: Sequence[Any]) -> float:
    sides = zip(loop, [*loop[1:], loop[0]], strict=True)
    return float(sum(ax * by - bx * ay for (ax, ay), (bx, by) in sides)) / 2


def _sizes_by_name(sizes: object) -> dict[str, Size]:
    if sizes is None:
        return {}
    if not isinstance(sizes, Mapping):
        raise ConfigurationError(f"sizes must be a dict of (width, height) by file name, not {type(sizes).__name__}.")
    return {name_of(name): size for name, size in cast("Mapping[Any, Size]", sizes).items()}


def _named_results(images: object) -> Iterator[tuple[str, list[Result]]]:
    """The entries of `to_coco`'s images, checked.

    Raises:
        ConfigurationError: One is something else.
    """
    if isinstance(images, (str, bytes, tuple, Mapping)) or not isinstance(images, Iterable):
        raise ConfigurationError(
            f"images must be an iterable of (file name, result), not {type(cast('object', images)).__name__}; "
            "give a dict's items()."
        )
    for entry in cast("Iterable[Any]", images):
        if not isinstance(entry, (tuple, list)) or len(cast("Sequence[Any]", entry)) != 2:
            kind = type(cast("object", entry)).__name__
            raise ConfigurationError(f"Each of images must be (file name, result), not {kind}.")
        name, found = cast("Sequence[Any]", entry)
        found = cast("object", found)
        results: list[Any] = [found] if isinstance(found, Result) else cast("list[Any]", found)
        if not isinstance(results, (list, tuple)) or not all(isinstance(each, Result) for each in results):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                f"The result of {name!r} must be a result of detect or segment, or a list of them, "
                f"not {type(found).__name__}."
            )
        yield name_of(name), list(results)


def _sub(parent: ElementTree.Element, name: str, value: object) -> None:
    ElementTree.SubElement(parent, name).text = _NO_XML.sub(" ", str(value))
