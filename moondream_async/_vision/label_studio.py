"""Export results as predictions of Label Studio."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .._public import public
from ..types import BoundingBox, Point, Result, SegmentResult
from .detections import LABEL, Detection, Name, Size, image_size_of, iter_detections, to_name

Object = dict[str, Any]

_POINT_WIDTH = 0.5  # percent of the image's width; how large Label Studio draws a point


@public("vision")
def to_label_studio(
    image: Name,
    results: Result | Sequence[Result],
    *,
    label: str = LABEL,
    size: Size | None = None,
    model_version: str = "moondream",
    from_names: Mapping[str, str] | None = None,
    image_name: str = "image",
) -> Object:
    """Convert the results of an image to a task of Label Studio with predictions, for its JSON import.

    Boxes become `rectanglelabels`, points `keypointlabels`, and each loop of an outline `polygonlabels`. Coordinates
    are percent of the image. Label Studio shows them if the project's labeling configuration has controls of these
    names.

    ```python
    Path("tasks.json").write_text(json.dumps([to_label_studio("photo.jpg", boxes)]))
    ```

    Args:
        image: The image's URL or path, as Label Studio can load it (`data.image`).
        results: One result of `detect`, `point` or `segment`, or several.
        label: Label for detections without one of their own. Default: the call's, else `"object"`.
        size: Image size `(width, height)` in pixels. Default: that of the image passed to the call.
        model_version: The name under which Label Studio lists the predictions. Default `"moondream"`.
        from_names: Names of the controls, by type: `{"rectanglelabels": "box"}`. Default: `label` for boxes,
            `keypoint` for points, `polygon` for outlines.
        image_name: Name of the image's object tag. Default `"image"`.

    Returns:
        A dict with `data` and `predictions`. A list of such dicts is a file that Label Studio imports. `score` is there
        if the server sent scores.

    Raises:
        ConfigurationError: The image size is not known, or a result has nothing to export.
        PathError: A segment's path cannot be parsed.
    """
    names = {"rectanglelabels": "label", "keypointlabels": "keypoint", "polygonlabels": "polygon", **(from_names or {})}
    given = [results] if isinstance(results, Result) else list(results)
    regions: list[Object] = []
    scores: list[float] = []
    for result in given:
        width, height = image_size_of(result, size)
        head = {"original_width": width, "original_height": height, "image_rotation": 0, "to_name": image_name}
        for detection in iter_detections(result, label):
            score = {} if detection.score is None else {"score": detection.score}
            scores += score.values()
            for kind, value in _values(detection, (width, height)):
                place = {"id": f"r{len(regions) + 1}", "type": kind, "from_name": names[kind]}
                regions.append({**place, **head, "value": {**value, kind: [detection.label]}, **score})
    prediction: Object = {"model_version": model_version, "result": regions}
    if scores:
        prediction["score"] = sum(scores) / len(scores)
    return {"data": {"image": to_name(image)}, "predictions": [prediction]}


def _values(detection: Detection, size: Size) -> Iterator[tuple[str, Object]]:
    """Yield the type and coordinates, in percent of the image, of each region of a detection."""
    geometry = detection.geometry
    if isinstance(geometry, Point):
        yield "keypointlabels", {"x": _percent(geometry.x), "y": _percent(geometry.y), "width": _POINT_WIDTH}
    elif isinstance(geometry, BoundingBox):
        yield "rectanglelabels", _rectangle(geometry)
    elif isinstance(geometry, SegmentResult):
        for loop in geometry.polygons(*size):
            corners = loop[:-1] if loop[0] == loop[-1] else loop
            points = [[100 * x / size[0], 100 * y / size[1]] for x, y in corners]
            yield "polygonlabels", {"points": points, "closed": True}


def _rectangle(box: BoundingBox) -> Object:
    left, top, right, bottom = (_percent(edge) for edge in (box.x_min, box.y_min, box.x_max, box.y_max))
    return {"x": left, "y": top, "width": max(0.0, right - left), "height": max(0.0, bottom - top), "rotation": 0}


def _percent(value: float) -> float:
    return 100 * min(1.0, max(0.0, value))
