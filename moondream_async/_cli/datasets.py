"""Write the boxes, points and outlines of a results file as a dataset: COCO, YOLO, LabelMe and others."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import Any, cast

import attrs

from .. import vision
from .._bulk.atomic_files import replace_file
from .._bulk.reading import ResultsFile, describe
from ..errors import ConfigurationError, ResultsFileError
from ..types import BoundingBox, DetectResult, Point, PointResult, Result, SegmentResult

_DEFAULT_LABEL = "object"
_SPATIAL = (DetectResult, PointResult, SegmentResult)
_WITHOUT_POINTS = {"coco": "COCO", "voc": "Pascal VOC", "yolo": "YOLO"}
_FILE_ENDING = re.compile(r"\.(?=[0-9]*[a-z])[a-z0-9]+$", re.IGNORECASE)  # not the .500 of film.mp4#t=0.500


@attrs.frozen
class _Image:
    """The results of one image.

    Attributes:
        name: Its name in the dataset.
        results: Its results, with a label on each box and point.
        label: The label of its outlines.
    """

    name: str
    results: list[Result]
    label: str

    def labels(self) -> Iterator[str]:
        """Yield the labels of all boxes, points and outlines."""
        for result in self.results:
            if isinstance(result, SegmentResult):
                yield self.label
            else:
                yield from (str(each.label) for each in _objects(result))


@attrs.frozen
class Dataset:
    """The images of a results file that have results to export. Iterable repeatedly.

    Args:
        results: The results file.
        images_root: The folder that names are relative to; None keeps them as they are.

    Raises:
        ConfigurationError: While iterating: an image is not in `images_root`.
        ResultsFileError: While iterating: the file cannot be read.
    """

    results: str
    images_root: str | None

    def __iter__(self) -> Iterator[_Image]:
        with ResultsFile(self.results) as file:
            for entry in file.entries():
                labeled = _read_results(entry.outcome.result, entry.record["arguments"])
                if labeled:
                    label = next(
                        (label for label, result in labeled if isinstance(result, SegmentResult)), _DEFAULT_LABEL
                    )
                    yield _Image(self._name(str(entry.record["id"])), [result for _, result in labeled], label)

    def _name(self, name: str) -> str:
        if self.images_root is None or "://" in name:
            return name
        try:
            return Path(os.path.abspath(name)).relative_to(os.path.abspath(self.images_root)).as_posix()  # noqa: PTH100
        except ValueError:
            raise ConfigurationError(f"The image {name!r} is not in --images-root {self.images_root!r}.") from None


def _read_results(value: Any, arguments: dict[str, Any]) -> list[tuple[str, Result]]:
    """Return the results of detect, point and segment, with the label of each call; of several skills, those of all."""
    if isinstance(value, dict):
        by_skill = cast("dict[str, Any]", value)
        return [pair for skill, each in by_skill.items() for pair in _read_results(each, arguments.get(skill) or {})]
    if not isinstance(value, _SPATIAL):
        return []
    target = arguments.get("object")
    label = target if isinstance(target, str) else _DEFAULT_LABEL
    return [(label, _with_labels(value, label))]


def _with_labels(result: Result, label: str) -> Result:
    """Return a result whose boxes and points all have a label."""
    if isinstance(result, DetectResult):
        return attrs.evolve(
            result, objects=tuple(attrs.evolve(box, label=box.label or label) for box in result.objects)
        )
    if isinstance(result, PointResult):
        return attrs.evolve(
            result, points=tuple(attrs.evolve(each, label=each.label or label) for each in result.points)
        )
    return result


def _objects(result: Result) -> tuple[BoundingBox | Point, ...]:
    if isinstance(result, DetectResult):
        return result.objects
    return result.points if isinstance(result, PointResult) else ()


def write(dataset: Dataset, out: str, form: str) -> int:
    """Write a dataset in one of `FORMATS`; return the number of images.

    Args:
        dataset: The images.
        out: A file for COCO, GeoJSON and Label Studio, a folder for the others.
        form: The format.

    Raises:
        ConfigurationError: There is nothing to export, or a result cannot be expressed in this format.
        ResultsFileError: A file cannot be read or written.
    """
    if next(iter(dataset), None) is None:
        raise ConfigurationError(
            f"{dataset.results!r} has no boxes, points or outlines; export it to .csv or .parquet."
        )
    if form in _WITHOUT_POINTS and _has_only_points(dataset):
        raise ConfigurationError(
            f"{_WITHOUT_POINTS[form]} files have no points; export them to .geojson or .csv, or with --to labelme."
        )
    try:
        return FORMATS[form](dataset, Path(out))
    except OSError as exc:
        raise ResultsFileError(f"{out!r} cannot be written: {describe(exc)}.") from None


def _has_only_points(dataset: Dataset) -> bool:
    """Return whether there are points, and no results of other skills."""
    has_points = False
    for result in (result for image in dataset for result in image.results):
        if not isinstance(result, PointResult):
            return False
        has_points = has_points or bool(result.points)
    return has_points


def _write_coco(dataset: Dataset, out: Path) -> int:
    labels = {image.label for image in dataset if any(isinstance(each, SegmentResult) for each in image.results)}
    label = labels.pop() if len(labels) == 1 else _DEFAULT_LABEL
    document = vision.to_coco(((image.name, image.results) for image in dataset), label=label)
    _write_text(out, json.dumps(document))
    return len(document["images"])


def _write_geojson(dataset: Dataset, out: Path) -> int:
    count, features = 0, list[Any]()
    for image in dataset:
        count += 1
        for result in image.results:
            for feature in vision.to_geojson(result, label=image.label)["features"]:
                feature["properties"]["image"] = image.name
                features.append(feature)
    _write_text(out, json.dumps({"type": "FeatureCollection", "features": features}))
    return count


def _write_yolo(dataset: Dataset, out: Path) -> int:
    """Write a file of labels for each image, and `data.yaml` with the classes."""
    labels = list(dict.fromkeys(label for image in dataset for label in image.labels()))

    def to_text(image: _Image) -> str:
        return "".join(vision.to_yolo(result, labels, label=image.label) for result in image.results)

    count = _write_files(dataset, out / "labels", ".txt", to_text)
    names = "".join(f"  {number}: {json.dumps(label)}\n" for number, label in enumerate(labels))
    _write_text(out / "data.yaml", f"path: .\ntrain: images\nval: images\nnames:\n{names}")
    return count


def _write_voc(dataset: Dataset, out: Path) -> int:
    return _write_files(dataset, out, ".xml", lambda image: vision.to_voc(_only(image), image.name, label=image.label))


def _write_labelme(dataset: Dataset, out: Path) -> int:
    def to_text(image: _Image) -> str:
        first, *others = (vision.to_labelme(result, image.name, label=image.label) for result in image.results)
        for other in others:
            first["shapes"] += other["shapes"]
        return json.dumps(first)

    return _write_files(dataset, out, ".json", to_text)


def _only(image: _Image) -> Result:
    if len(image.results) > 1:
        raise ConfigurationError("--to voc takes the results of one skill; use --to coco or labelme for several.")
    return image.results[0]


def _write_files(dataset: Dataset, folder: Path, suffix: str, to_text: Callable[[_Image], str]) -> int:
    """Write a file for each image, in subfolders as its name has them. No file is written if two would be the same."""
    names: dict[Path, str] = {}
    for image in dataset:
        path = _file_path(image.name, folder, suffix)
        if path in names:
            raise ConfigurationError(f"{names[path]!r} and {image.name!r} would both be written to {str(path)!r}.")
        names[path] = image.name
    for image in dataset:
        _write_text(_file_path(image.name, folder, suffix), to_text(image))
    return len(names)


def _file_path(name: str, folder: Path, suffix: str) -> Path:
    """Return the path of an image's file in a folder: the image's name, with another ending."""
    parts = [part for part in PurePath(name).parts if part not in ("..", "/", "\\") and ":" not in part] or ["image"]
    return folder.joinpath(*parts[:-1], _FILE_ENDING.sub("", parts[-1]) + suffix)


def _write_text(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_file(path) as temporary:
        temporary.write_text(text, "utf-8")


def _write_label_studio(dataset: Dataset, out: Path) -> int:
    tasks = [vision.to_label_studio(image.name, image.results, label=image.label) for image in dataset]
    _write_text(out, json.dumps(tasks))
    return len(tasks)


FORMATS: dict[str, Callable[[Dataset, Path], int]] = {
    "coco": _write_coco,
    "yolo": _write_yolo,
    "voc": _write_voc,
    "labelme": _write_labelme,
    "geojson": _write_geojson,
    "label-studio": _write_label_studio,
}
"""The function that writes each format."""
