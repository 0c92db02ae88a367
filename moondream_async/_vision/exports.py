"""Export results to the formats of other tools.

There are confidences only for models whose server sends a `score`; Moondream's own send none, and none are made up.
"""

from __future__ import annotations

import itertools
import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePath
from typing import Any, cast
from xml.etree import ElementTree

from .._csv_cells import csv_row
from .._extras import import_extra, import_package
from .._public import public
from ..errors import ConfigurationError, PathError
from ..types import BoundingBox, Point, Result, SegmentResult
from .detections import LABEL, Detection, Name, Size, image_size_of, iter_detections, parse_labels, to_name

Object = dict[str, Any]

_INVALID_IN_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0, 2.2
_MAX_LOOPS, _MAX_COMPARISONS = 1_000, 50_000_000  # loops of an outline with holes, and loops times points


@public("vision")
def to_coco(
    images: Iterable[tuple[Name, Result | Sequence[Result]]],
    *,
    categories: Sequence[str] = (),
    label: str = LABEL,
    sizes: Mapping[Any, Size] | None = None,
    images_root: str | os.PathLike[str] | None = None,
) -> Object:
    """Convert results to COCO instances, for `json.dump`, `pycocotools.coco.COCO` and other readers of the format.

    Outlines become polygons or, with holes or several parts, run-length encoded masks. Points are omitted.

    ```python
    Path("coco.json").write_text(json.dumps(to_coco([("photo.jpg", boxes)])))
    ```

    Args:
        images: Pairs of a file name (a string, path or number) and one result or several.
        categories: Labels that get the ids 1, 2, ...; other labels get the next ids. Default: none.
        label: Label for detections without one of their own. Default: the call's, else `"object"`.
        sizes: Image sizes `(width, height)` in pixels by file name, for results without an image size.
        images_root: The folder of the images; each `file_name` is relative to it, as most readers expect. Default
            None: names stay as they are.

    Returns:
        A dict with `images`, `annotations` and `categories`; `bbox` is `[left, top, width, height]` in pixels, and
        `score` is there if the server sent one. Labels of a list that were not found are among the categories.

    Raises:
        ConfigurationError: An image size is not known, an image is not in `images_root`, or a result has no boxes or
            outlines.
        PathError: A segment's path cannot be parsed.
    """
    ids = {name: number for number, name in enumerate(dict.fromkeys(parse_labels(categories, "categories")), 1)}
    size_by_name = _sizes_by_name(sizes)
    entries: list[Object] = []
    annotations: list[Object] = []
    for image_id, (name, results) in enumerate(_named_results(images), 1):
        size = size_by_name.get(name) or next((r.image_size for r in results if r.image_size), None)
        if size is None:
            raise ConfigurationError(f"The size of {name!r} is not known; pass it in sizes.")
        size = image_size_of(results[0] if results else Result(), size)
        file_name = name if images_root is None else _relative_name(name, images_root)
        entries.append({"id": image_id, "file_name": file_name, "width": size[0], "height": size[1]})
        for searched in (label for result in results for label in getattr(result, "by_label", None) or ()):
            ids.setdefault(to_name(searched), len(ids) + 1)
        for detection in (detection for result in results for detection in iter_detections(result, label)):
            if detection.box is not None:
                category = ids.setdefault(detection.label, len(ids) + 1)
                head = {"id": len(annotations) + 1, "image_id": image_id, "category_id": category, "iscrowd": 0}
                score = {} if detection.score is None else {"score": detection.score}
                annotations.append(head | _coco_geometry(detection, detection.box, size) | score)
    return {
        "images": entries,
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for name, number in ids.items()],
    }


@public("vision")
def to_yolo(result: Result, labels: Sequence[str], *, label: str = LABEL) -> str:
    """Convert a result to a YOLO label file.

    A box is a line `class x_center y_center width height`. An outline has a line `class x1 y1 x2 y2 ...` for each
    outer loop; YOLO has no holes. All coordinates are 0..1 of the image.

    ```python
    Path("photo.txt").write_text(to_yolo(boxes, ["red", "blue"]))
    ```

    Args:
        result: A result of `detect` or `segment`; YOLO has no points.
        labels: The classes, in order: the first is class 0.
        label: Label for detections without one of their own. Default: the call's, else `"object"`.

    Raises:
        ConfigurationError: A label is not among `labels`, or the result has points.
        PathError: A segment's path cannot be parsed.
    """
    lines: list[str] = []
    classes = [labels] if isinstance(labels, str) else parse_labels(labels, "labels")
    numbers = {name: number for number, name in reversed(list(enumerate(classes)))}
    for detection in iter_detections(result, label):
        number = numbers.get(detection.label)
        if number is None:
            raise ConfigurationError(f"The label {detection.label!r} is not among labels.")
        lines += [f"{number} {' '.join(f'{value:.6f}' for value in row)}" for row in _yolo_rows(detection)]
    return "".join(f"{line}\n" for line in lines)


@public("vision")
def to_labelme(result: Result, image_path: Name, *, label: str = LABEL, size: Size | None = None) -> Object:
    """Convert a result to a LabelMe file, as a dict for `json.dump`.

    It contains rectangles, points, and a polygon for each loop of an outline, of one group, all in pixels.

    ```python
    Path("photo.json").write_text(json.dumps(to_labelme(boxes, "photo.jpg")))
    ```

    Args:
        result: A result of `detect`, `point` or `segment`.
        image_path: The image's path, for `imagePath`.
        label: Label for detections without one of their own. Default: the call's, else `"object"`.
        size: Image size `(width, height)` in pixels. Default: that of the image passed to the call.

    Raises:
        ConfigurationError: The image size is not known.
        PathError: A segment's path cannot be parsed.
    """
    width, height = image_size_of(result, size)
    shapes: list[Object] = []
    for number, detection in enumerate(iter_detections(result, label)):
        group = number if isinstance(detection.geometry, SegmentResult) else None
        shapes += [
            {"label": detection.label, "points": points, "group_id": group, "shape_type": kind, "flags": {}}
            for kind, points in _labelme_shapes(detection, (width, height))
        ]
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": to_name(image_path),
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


@public("vision")
def to_voc(result: Result, image_path: Name, *, label: str = LABEL, size: Size | None = None) -> str:
    """Convert a result to a Pascal VOC file: boxes in pixels, counted from 1. Points are omitted.

    Characters that are invalid in XML, such as most control characters, become spaces.

    ```python
    Path("photo.xml").write_text(to_voc(boxes, "photo.jpg"))
    ```

    Args:
        result: A result of `detect` or `segment`.
        image_path: The image's path, for `folder` and `filename`.
        label: Label for detections without one of their own. Default: the call's, else `"object"`.
        size: Image size `(width, height)` in pixels. Default: that of the image passed to the call.

    Raises:
        ConfigurationError: The image size is not known.
    """
    width, height = image_size_of(result, size)
    path = PurePath(to_name(image_path))
    root = ElementTree.Element("annotation")
    _add_children(root, {"folder": path.parent.name, "filename": path.name})
    _add_children(ElementTree.SubElement(root, "size"), {"width": width, "height": height, "depth": 3})
    _add_children(root, {"segmented": 0})
    for detection in iter_detections(result, label):
        if detection.box is None:
            continue
        item = ElementTree.SubElement(root, "object")
        _add_children(item, {"name": detection.label, "pose": "Unspecified", "truncated": 0, "difficult": 0})
        left, top, right, bottom = detection.box.to_pixels(width, height)
        x_min, y_min = left + 1, top + 1
        edges = {"xmin": x_min, "ymin": y_min, "xmax": max(right, x_min), "ymax": max(bottom, y_min)}
        _add_children(ElementTree.SubElement(item, "bndbox"), edges)
    ElementTree.indent(root)
    # XML parsers convert a bare carriage return to a line feed.
    return ElementTree.tostring(root, encoding="unicode").replace("\r", "&#13;") + "\n"


@public("vision")
def to_supervision(result: Result, *, labels: Sequence[str] = (), label: str = LABEL, size: Size | None = None) -> Any:
    """Convert a result to `supervision.Detections`: boxes in pixels, masks of outlines, class ids and names.

    ```python
    detections = to_supervision(boxes)
    ```

    Args:
        result: A result of `detect` or `segment`.
        labels: Classes that get the ids 0, 1, ...; other labels get the next ids. Default: none.
        label: Label for detections without one of their own. Default: the call's, else `"object"`.
        size: Image size `(width, height)` in pixels. Default: that of the image passed to the call.

    Raises:
        ConfigurationError: supervision or the extra `vision` is not installed, or the image size is not known.
        PathError: A segment's path cannot be parsed or filled.
    """
    numpy = import_extra("numpy", "vision")
    supervision = import_package("supervision")
    width, height = image_size_of(result, size)
    found = [detection for detection in iter_detections(result, label) if detection.box is not None]
    ids = {name: number for number, name in enumerate(dict.fromkeys(parse_labels(labels, "labels")))}
    numbers = [ids.setdefault(detection.label, len(ids)) for detection in found]
    boxes = [_corners(detection.box, (width, height)) for detection in found if detection.box is not None]
    outlines = [detection.geometry for detection in found if isinstance(detection.geometry, SegmentResult)]
    masks = [outline.mask_array(width, height) for outline in outlines]
    detections: Any = supervision.Detections(  # pyright: ignore
        xyxy=numpy.asarray(boxes, dtype=numpy.float32).reshape(-1, 4),
        mask=numpy.stack(masks) if masks else None,
        class_id=numpy.asarray(numbers, dtype=int),
        confidence=_confidences(numpy, found),
        data={"class_name": numpy.asarray([detection.label for detection in found], dtype=str)},
    )
    return detections


@public("vision")
def to_vlm_dict(result: Result) -> Object:
    """Convert a result to the dict that `supervision.Detections.from_vlm(VLM.MOONDREAM, ...)` accepts.

    It is `{"objects": [{"x_min": ..., "y_min": ..., "x_max": ..., "y_max": ...}]}`, 0..1 of the image. Points are
    omitted.
    """
    boxes = [detection.box for detection in iter_detections(result, LABEL) if detection.box is not None]
    return {"objects": [dict(zip(("x_min", "y_min", "x_max", "y_max"), _raw_edges(b), strict=True)) for b in boxes]}


@public("vision")
def to_fiftyone(result: Result, *, label: str = LABEL) -> list[Object]:
    """Convert a result to the arguments of `fiftyone.Detection` and `fiftyone.Keypoint`, one dict for each.

    Each has a `label`, and `bounding_box` `[x, y, width, height]` or `points` `[[x, y]]`, 0..1 of the image.

    Args:
        result: A result of `detect`, `point` or `segment`; of an outline, its box.
        label: Label for detections without one of their own. Default: the call's, else `"object"`.
    """
    arguments: list[Object] = []
    for detection in iter_detections(result, label):
        if isinstance(detection.geometry, Point):
            arguments.append({"label": detection.label, "points": [_xy(detection.geometry, (1, 1))]})
        elif detection.box is not None:
            x_min, y_min, x_max, y_max = _edges(detection.box)
            box = [x_min, y_min, x_max - x_min, y_max - y_min]
            confidence = {} if detection.score is None else {"confidence": detection.score}
            arguments.append({"label": detection.label, "bounding_box": box, **confidence})
    return arguments


@public("vision")
def to_geojson(result: Result, *, label: str = LABEL, size: Size | None = None) -> Object:
    """Convert a result to a GeoJSON-like feature collection in pixels, with the y axis pointing down.

    Boxes are polygons, outlines are multipolygons, and points are points; each has the property `label`,
    and those fields of the server's that this version does not know.

    ```python
    Path("photo.geojson").write_text(json.dumps(to_geojson(boxes)))
    ```

    Args:
        result: A result of `detect`, `point` or `segment`.
        label: Label for detections without one of their own. Default: the call's, else `"object"`.
        size: Image size `(width, height)` in pixels. Default: that of the image passed to the call.

    Raises:
        ConfigurationError: The image size is not known.
        PathError: A segment's path cannot be parsed.
    """
    size = image_size_of(result, size)
    features = [
        {
            "type": "Feature",
            "properties": {**detection.extra, "label": detection.label},
            "geometry": _geojson_geometry(detection, size),
        }
        for detection in iter_detections(result, label)
    ]
    return {"type": "FeatureCollection", "features": features}


@public("vision")
def to_csv(result: Result, *, label: str = LABEL, size: Size | None = None) -> str:
    """Convert a result to CSV with a header: label, and box or point in 0..1 and, if the image size is known, pixels.

    A point is a box without width and height. Labels that a spreadsheet would interpret as formulas are prefixed with
    a single quote.

    ```python
    Path("boxes.csv").write_text(to_csv(boxes))
    ```

    Args:
        result: A result of `detect`, `point` or `segment`; of an outline, its box.
        label: Label for detections without one of their own. Default: the call's, else `"object"`.
        size: Image size `(width, height)` in pixels. Default: that of the image passed to the call.
    """
    shape = image_size_of(result, size) if size or getattr(result, "image_size", None) else None
    pixel_columns = ["left", "top", "right", "bottom"] if shape else []
    rows: list[list[object]] = [["label", "x_min", "y_min", "x_max", "y_max", *pixel_columns]]
    for detection in iter_detections(result, label):
        box = detection.box
        if isinstance(detection.geometry, Point):
            x, y = detection.geometry.x, detection.geometry.y
            box = BoundingBox(x, y, x, y)
        if box is not None:
            rows.append([detection.label, *_raw_edges(box), *(box.to_pixels(*shape) if shape else [])])
    return "".join(csv_row(row) + "\n" for row in rows)


def _relative_name(name: str, root: str | os.PathLike[str]) -> str:
    """Return the name relative to a folder, with slashes.

    Raises:
        ConfigurationError: It is not in the folder.
    """
    path, folder = (Path(os.path.abspath(each)) for each in (name, root))  # noqa: PTH100 - removes `..`, keeps links
    if not path.is_relative_to(folder):
        raise ConfigurationError(f"{name!r} is not in images_root={os.fspath(root)!r}.")
    return path.relative_to(folder).as_posix()


def _coco_geometry(detection: Detection, box: BoundingBox, size: Size) -> Object:
    left, top, right, bottom = _corners(box, size)
    entry: Object = {"bbox": [left, top, right - left, bottom - top], "area": (right - left) * (bottom - top)}
    if not isinstance(detection.geometry, SegmentResult):
        return {**entry, "segmentation": [[left, top, right, top, right, bottom, left, bottom]]}
    loops = detection.geometry.polygons(*size)
    area = float(detection.geometry.mask_array(*size).sum())
    if len(loops) == 1:
        return {**entry, "segmentation": [[value for point in loops[0] for value in point]], "area": area}
    return {**entry, "segmentation": detection.geometry.rle(*size), "area": area}


def _yolo_rows(detection: Detection) -> list[list[float]]:
    geometry = detection.geometry
    if isinstance(geometry, Point):
        raise ConfigurationError("YOLO label files have no points.")
    if isinstance(geometry, SegmentResult):
        scale = 10_000  # polygons have a tolerance in pixels, but the coordinates are 0..1
        parts = _group_loops(geometry.polygons(scale, scale, tolerance=5.0))
        return [[_clamp(value / scale) for point in part[0] for value in point] for part in parts]
    x_min, y_min, x_max, y_max = _edges(geometry)
    return [[(x_min + x_max) / 2, (y_min + y_max) / 2, x_max - x_min, y_max - y_min]]


def _confidences(numpy: Any, found: Sequence[Detection]) -> Any:
    """Return the scores as an array; None unless each has one."""
    scores = [detection.score for detection in found]
    return numpy.asarray(scores, dtype=numpy.float32) if scores and None not in scores else None


def _labelme_shapes(detection: Detection, size: Size) -> list[tuple[str, list[list[float]]]]:
    geometry = detection.geometry
    if isinstance(geometry, Point):
        return [("point", [_xy(geometry, size)])]
    if isinstance(geometry, SegmentResult):
        return [("polygon", [list(point) for point in loop]) for loop in geometry.polygons(*size)]
    left, top, right, bottom = _corners(geometry, size)
    return [("rectangle", [[left, top], [right, bottom]])]


def _geojson_geometry(detection: Detection, size: Size) -> Object:
    geometry = detection.geometry
    if isinstance(geometry, Point):
        return {"type": "Point", "coordinates": _xy(geometry, size)}
    if isinstance(geometry, SegmentResult):
        parts = _group_loops(geometry.polygons(*size))
        rings = [[[list(point) for point in _close(loop)] for loop in part] for part in parts]
        return {"type": "MultiPolygon", "coordinates": rings}
    left, top, right, bottom = _corners(geometry, size)
    ring = [[left, top], [right, top], [right, bottom], [left, bottom], [left, top]]
    return {"type": "Polygon", "coordinates": [ring]}


def _corners(box: BoundingBox, size: Size) -> list[float]:
    x_min, y_min, x_max, y_max = _edges(box)
    return [x_min * size[0], y_min * size[1], x_max * size[0], y_max * size[1]]


def _edges(box: BoundingBox) -> tuple[float, float, float, float]:
    """Return the box's edges, clamped to the image; those of an inverted box are swapped."""
    (x_min, x_max), (y_min, y_max) = sorted((box.x_min, box.x_max)), sorted((box.y_min, box.y_max))
    return _clamp(x_min), _clamp(y_min), _clamp(x_max), _clamp(y_max)


def _raw_edges(box: BoundingBox) -> tuple[float, float, float, float]:
    """Return the box's edges as sent; only NaN and infinity are clamped to the image."""
    x_min, y_min, x_max, y_max = (
        float(edge) if math.isfinite(edge) else _clamp(edge) for edge in (box.x_min, box.y_min, box.x_max, box.y_max)
    )
    return x_min, y_min, x_max, y_max


def _xy(point: Point, size: Size) -> list[float]:
    """Return a point in pixels, clamped to the image."""
    return [_clamp(point.x) * size[0], _clamp(point.y) * size[1]]


def _clamp(value: float) -> float:
    """Clamp to 0..1; NaN becomes 0."""
    return float(min(max(0.0, value), 1.0)) if value == value else 0.0


def _close(loop: Sequence[Any]) -> list[Any]:
    return list(loop) if tuple(loop[0]) == tuple(loop[-1]) else [*loop, loop[0]]


def _group_loops(loops: Sequence[Any]) -> list[list[Any]]:
    """Group loops by the even-odd rule: each outer loop is followed by its holes.

    A loop inside an odd number of other loops is a hole of the innermost of them.

    Raises:
        PathError: There are too many loops to compare.
    """
    if len(loops) == 1:
        return [[loops[0]]]
    if len(loops) > _MAX_LOOPS or len(loops) * sum(map(len, loops)) > _MAX_COMPARISONS:
        raise PathError(f"The outline has {len(loops):,} loops; too many to determine which of them are holes.")
    enclosing = _enclosing_loops(loops)
    parts = {index: [loop] for index, loop in enumerate(loops) if len(enclosing[index]) % 2 == 0}
    for index, loop in enumerate(loops):
        parents = [n for n in enclosing[index] if n in parts and len(enclosing[n]) == len(enclosing[index]) - 1]
        if index not in parts and parents:
            parts[parents[0]].append(loop)
    return list(parts.values())


def _enclosing_loops(loops: Sequence[Any]) -> list[list[int]]:
    """Return, for each loop, the indexes of the larger loops that enclose one of its inner points."""
    if not loops:
        return []
    numpy = import_extra("numpy", "vision")
    starts = numpy.concatenate([numpy.asarray(loop, dtype=float) for loop in loops])
    ends = numpy.concatenate([numpy.roll(numpy.asarray(loop, dtype=float), -1, axis=0) for loop in loops])
    owner = numpy.repeat(numpy.arange(len(loops)), [len(loop) for loop in loops])
    areas = [abs(_area(loop)) for loop in loops]
    enclosing: list[list[int]] = []
    for index, loop in enumerate(loops):
        x, y = _inner_point(loop)
        crossings = numpy.bincount(owner[_crossed_edges(numpy, starts, ends, x, y)], minlength=len(loops))
        candidates = numpy.flatnonzero(crossings % 2).tolist()
        enclosing.append([n for n in candidates if n != index and areas[index] < areas[n]])
    return enclosing


def _crossed_edges(numpy: Any, starts: Any, ends: Any, x: float, y: float) -> Any:
    """Return a mask of the edges that a ray from a point to the right crosses."""
    (ax, ay), (bx, by) = starts.T, ends.T
    is_beside = (ay > y) == (by > y)
    height = numpy.where(is_beside, 1.0, by - ay)
    return ~is_beside & (x < (bx - ax) * (y - ay) / height + ax)


def _inner_point(loop: Sequence[Any]) -> tuple[float, float]:
    """Return a point inside a loop and not on its edge: midway between two corner heights, where it is widest."""
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
    return {to_name(name): size for name, size in cast("Mapping[Any, Size]", sizes).items()}


def _named_results(images: object) -> Iterator[tuple[str, list[Result]]]:
    """Check and yield the pairs in the argument `images` of `to_coco`.

    Raises:
        ConfigurationError: An entry is not a pair of a name and results.
    """
    if isinstance(images, (str, bytes, tuple, Mapping)) or not isinstance(images, Iterable):
        raise ConfigurationError(
            f"images must be an iterable of (file name, result), not {type(cast('object', images)).__name__}; "
            "pass the items() of a dict."
        )
    for entry in cast("Iterable[Any]", images):
        if not isinstance(entry, (tuple, list)) or len(cast("Sequence[Any]", entry)) != 2:
            kind = type(cast("object", entry)).__name__
            raise ConfigurationError(f"Each of images must be (file name, result), not {kind}.")
        name, value = cast("Sequence[Any]", entry)
        value = cast("object", value)
        results: list[Any] = [value] if isinstance(value, Result) else cast("list[Any]", value)
        if not isinstance(results, (list, tuple)) or not all(isinstance(each, Result) for each in results):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise ConfigurationError(
                f"The result of {name!r} must be a result of detect or segment, or a list of them, "
                f"not {type(value).__name__}."
            )
        yield to_name(name), list(results)


def _add_children(parent: ElementTree.Element, texts: Mapping[str, object]) -> None:
    for name, text in texts.items():
        ElementTree.SubElement(parent, name).text = _INVALID_IN_XML.sub(" ", str(text))
