"""Results in the formats of other tools, read back by those tools."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy
import pytest
import supervision
from PIL import Image
from pycocotools.coco import COCO

from moondream_async import (
    BoundingBox,
    CaptionResult,
    ConfigurationError,
    DetectResult,
    Point,
    PointResult,
    SegmentResult,
    vision,
)
from tests.support.paths import HARD

SIZE = (200, 100)
CAT, DOG = BoundingBox(0.1, 0.2, 0.5, 0.6, "cat"), BoundingBox(0.5, 0.5, 1.0, 1.0, "dog")
BOXES = DetectResult(objects=(CAT, DOG), image_size=SIZE)
POINTS = PointResult(points=(Point(0.5, 0.5, "nose"),), image_size=SIZE)
OUTLINE = SegmentResult(path="M 0 0 H 1 V 1 H 0 Z", bbox=BoundingBox(0.25, 0.5, 0.75, 1.0), image_size=SIZE)
RING = SegmentResult(path=HARD["ring"], bbox=BoundingBox(0.1, 0.1, 0.9, 0.9), image_size=SIZE)


def test_coco_as_pycocotools_reads_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = vision.to_coco(
        [("a.jpg", [BOXES, OUTLINE, RING, POINTS]), ("b.jpg", DetectResult(objects=(DOG,)))],
        categories=["dog"],
        label="thing",
        sizes={"b.jpg": (50, 50)},
    )
    assert [category["name"] for category in data["categories"]] == ["dog", "cat", "thing"]
    assert data["images"][1] == {"id": 2, "file_name": "b.jpg", "width": 50, "height": 50}
    path = tmp_path / "coco.json"
    path.write_text(json.dumps(data))
    coco = COCO(str(path))
    capsys.readouterr()
    assert coco.getImgIds() == [1, 2]
    cat, dog, outline, ring, other = coco.loadAnns(coco.getAnnIds())
    assert cat["bbox"] == pytest.approx([20, 20, 80, 40])
    assert cat["area"] == pytest.approx(3200)
    assert (dog["category_id"], cat["category_id"], outline["category_id"]) == (1, 2, 3)
    assert coco.annToMask(outline).sum() == pytest.approx(100 * 50, rel=0.03)
    assert (coco.annToMask(ring) == RING.mask_array()).all()
    assert ring["area"] == RING.mask_array().sum()
    assert coco.annToMask(cat).sum() == pytest.approx(3200, rel=0.05)
    assert other["bbox"] == [25, 25, 25, 25]
    assert all("score" not in annotation for annotation in data["annotations"])


def test_coco_without_a_size() -> None:
    with pytest.raises(ConfigurationError, match=r"size of 'a\.jpg'"):
        vision.to_coco([("a.jpg", DetectResult(objects=(CAT,)))])


def test_yolo_as_supervision_reads_it(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    for name, result in (("boxes", BOXES), ("outline", OUTLINE)):
        Image.new("RGB", SIZE).save(tmp_path / "images" / f"{name}.jpg")
        (tmp_path / "labels" / f"{name}.txt").write_text(vision.to_yolo(result, ["cat", "dog", "object"]))
    (tmp_path / "data.yaml").write_text("names: [cat, dog, object]\nnc: 3\n")
    dataset = supervision.DetectionDataset.from_yolo(
        images_directory_path=str(tmp_path / "images"),
        annotations_directory_path=str(tmp_path / "labels"),
        data_yaml_path=str(tmp_path / "data.yaml"),
        force_masks=False,
    )
    found = {Path(path).stem: detections for path, _, detections in dataset}
    assert found["boxes"].xyxy == pytest.approx(numpy.array([[20, 20, 100, 60], [100, 50, 200, 100]]), abs=0.01)
    assert found["boxes"].class_id.tolist() == [0, 1]
    assert found["outline"].xyxy[0] == pytest.approx([50, 50, 150, 100], abs=1)
    assert vision.to_yolo(BOXES, ["cat", "dog"]).splitlines()[0] == "0 0.300000 0.400000 0.400000 0.400000"
    assert len(vision.to_yolo(RING, ["object"]).splitlines()) == 1  # the hole is not a thing of its own
    two = SegmentResult(path=HARD["two parts"], bbox=RING.bbox)
    assert len(vision.to_yolo(two, ["object"]).splitlines()) == 2


def test_what_yolo_cannot_say() -> None:
    with pytest.raises(ConfigurationError, match="'dog' is not among"):
        vision.to_yolo(BOXES, ["cat"])
    with pytest.raises(ConfigurationError, match="no points"):
        vision.to_yolo(POINTS, ["nose"])


def test_voc_as_supervision_reads_it(tmp_path: Path) -> None:
    for folder in ("images", "labels"):
        (tmp_path / folder).mkdir()
    Image.new("RGB", SIZE).save(tmp_path / "images" / "a.jpg")
    text = vision.to_voc(BOXES, "photos/a.jpg")
    (tmp_path / "labels" / "a.xml").write_text(text)
    dataset = supervision.DetectionDataset.from_pascal_voc(str(tmp_path / "images"), str(tmp_path / "labels"))
    [(_, _, found)] = list(dataset)
    assert found.xyxy.tolist() == [[20, 20, 100, 60], [100, 50, 200, 100]]
    root = ElementTree.fromstring(text)
    assert [item.findtext("name") for item in root.findall("object")] == ["cat", "dog"]
    assert (root.findtext("folder"), root.findtext("filename"), root.findtext("size/width")) == (
        "photos",
        "a.jpg",
        "200",
    )
    odd = DetectResult(objects=(BoundingBox(0, 0, 1, 1, "<a&b>"),), image_size=SIZE)
    assert ElementTree.fromstring(vision.to_voc(odd, "a.jpg")).findtext("object/name") == "<a&b>"


def test_labelme() -> None:
    data = vision.to_labelme(BOXES, "a.jpg")
    assert (data["imageWidth"], data["imageHeight"], data["imageData"]) == (200, 100, None)
    assert [(shape["label"], shape["shape_type"]) for shape in data["shapes"]] == [
        ("cat", "rectangle"),
        ("dog", "rectangle"),
    ]
    assert data["shapes"][0]["points"] == [[pytest.approx(20), pytest.approx(20)], [100, pytest.approx(60)]]
    assert vision.to_labelme(POINTS, "a.jpg")["shapes"][0]["points"] == [[100, 50]]
    loops = vision.to_labelme(RING, "a.jpg")["shapes"]
    assert [(shape["shape_type"], shape["group_id"]) for shape in loops] == [("polygon", 0), ("polygon", 0)]
    assert json.loads(json.dumps(data)) == data


def test_supervision() -> None:
    found = vision.to_supervision(BOXES, labels=["dog"])
    assert found.xyxy.tolist() == [[20, 20, 100, 60], [100, 50, 200, 100]]
    assert found.class_id.tolist() == [1, 0]
    assert found.data["class_name"].tolist() == ["cat", "dog"]
    assert found.confidence is None
    assert len(vision.to_supervision(DetectResult(objects=()), size=SIZE)) == 0
    masked = vision.to_supervision(RING)
    assert (masked.mask[0] == RING.mask_array()).all()
    canvas = numpy.zeros((100, 200, 3), dtype=numpy.uint8)
    assert supervision.MaskAnnotator().annotate(canvas.copy(), masked).any()
    assert supervision.BoxAnnotator().annotate(canvas.copy(), found).any()


def test_supervisions_own_reader_of_moondream() -> None:
    theirs = supervision.Detections.from_vlm(supervision.VLM.MOONDREAM, vision.to_vlm_dict(BOXES), resolution_wh=SIZE)
    assert theirs.xyxy == pytest.approx(vision.to_supervision(BOXES).xyxy)


def test_without_supervision(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(ConfigurationError, match="pip install supervision"):
        vision.to_supervision(BOXES)


def test_fiftyone() -> None:
    assert vision.to_fiftyone(BOXES)[0] == {"label": "cat", "bounding_box": [0.1, 0.2, 0.4, pytest.approx(0.4)]}
    assert vision.to_fiftyone(POINTS) == [{"label": "nose", "points": [[0.5, 0.5]]}]
    assert vision.to_fiftyone(OUTLINE, label="x")[0]["label"] == "x"


def test_geojson() -> None:
    data = vision.to_geojson(BOXES)
    assert data["type"] == "FeatureCollection"
    assert data["features"][1]["geometry"]["coordinates"] == [[[100, 50], [200, 50], [200, 100], [100, 100], [100, 50]]]
    assert vision.to_geojson(POINTS)["features"][0]["geometry"] == {"type": "Point", "coordinates": [100, 50]}
    [parts] = [feature["geometry"]["coordinates"] for feature in vision.to_geojson(RING)["features"]]
    assert [len(part) for part in parts] == [2]  # a ring and its hole
    assert all(ring[0] == ring[-1] for part in parts for ring in part)


def test_csv() -> None:
    rows: Any = list(csv.DictReader(io.StringIO(vision.to_csv(BOXES))))
    assert (rows[0]["label"], rows[0]["x_min"], rows[0]["left"], rows[0]["bottom"]) == ("cat", "0.1", "20", "60")
    assert vision.to_csv(DetectResult(objects=())).splitlines() == ["label,x_min,y_min,x_max,y_max"]
    assert vision.to_csv(POINTS).splitlines()[1].startswith("nose,0.5,0.5,0.5,0.5,")


def test_what_has_no_places() -> None:
    with pytest.raises(ConfigurationError, match="no places"):
        vision.to_csv(CaptionResult(caption="x"))
    with pytest.raises(ConfigurationError, match="size"):
        vision.to_labelme(DetectResult(objects=()), "a.jpg")
    nothing = SegmentResult(path="", image_size=SIZE)
    assert vision.to_geojson(nothing)["features"] == []
    assert vision.to_yolo(nothing, []) == ""


def outline(path: str) -> SegmentResult:
    return SegmentResult(path=path, bbox=BoundingBox(0, 0, 1, 1), image_size=(100, 100))


@pytest.mark.parametrize(
    ("path", "parts"),
    [
        ("M.1 .1H.9V.9H.1ZM.1 .1H.5V.5H.1Z", [2]),  # a hole that shares a corner
        ("M.1 .1H.9V.9H.1ZM.9 .9H.5V.5H.9Z", [2]),
        ("M0 0H1V1H0ZM.2 .2H.8V.8H.2ZM.4 .4H.6V.6H.4Z", [2, 1]),  # an island in a hole
        ("M0 0H.4V1H0ZM.6 0H1V1H.6Z", [1, 1]),
        ("M0 0L1 1Z", []),
    ],
)
def test_parts_and_their_holes(path: str, parts: list[int]) -> None:
    features = vision.to_geojson(outline(path))["features"]
    assert [len(part) for part in features[0]["geometry"]["coordinates"]] == parts
    assert len(vision.to_yolo(outline(path), ["object"]).splitlines()) == len(parts)


def test_boxes_the_wrong_way_round_and_outside() -> None:
    wrong = DetectResult(objects=(BoundingBox(0.5, 0.6, 0.1, 0.2, "cat"),), image_size=SIZE)
    assert vision.to_coco([("a", wrong)])["annotations"][0]["bbox"] == pytest.approx([20, 20, 80, 40])
    assert vision.to_yolo(wrong, ["cat"]) == "0 0.300000 0.400000 0.400000 0.400000\n"
    assert vision.to_fiftyone(wrong)[0]["bounding_box"] == pytest.approx([0.1, 0.2, 0.4, 0.4])
    odd = DetectResult(objects=(BoundingBox(float("nan"), 0, 1, 1, "a\x00b"),), image_size=SIZE)
    assert vision.to_supervision(odd).xyxy.tolist() == [[0, 0, 200, 100]]
    assert ElementTree.fromstring(vision.to_voc(odd, "a.jpg")).findtext("object/name") == "a b"
    for call in (
        lambda: vision.to_yolo(BOXES, "cat"),
        lambda: vision.to_coco(("a", BOXES)),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        lambda: vision.to_coco([("a", BOXES)], sizes={"a": (0, -1)}),
        lambda: vision.to_csv(BOXES, size=(1, 2, 3)),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    ):
        with pytest.raises(ConfigurationError):
            call()
