"""Exports to the formats of other tools, read back by those tools."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import sys
import time
import uuid
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy
import pytest
from PIL import Image
from pycocotools.coco import COCO

from moondream_async import (
    BoundingBox,
    CaptionResult,
    ConfigurationError,
    DetectResult,
    PathError,
    Point,
    PointResult,
    SegmentResult,
    vision,
)
from tests.support.effort import scaled
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
    import supervision  # slow to import

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
    assert len(vision.to_yolo(RING, ["object"]).splitlines()) == 1  # the hole is not a separate object
    two = SegmentResult(path=HARD["two parts"], bbox=RING.bbox)
    assert len(vision.to_yolo(two, ["object"]).splitlines()) == 2


def test_yolo_errors() -> None:
    with pytest.raises(ConfigurationError, match="'dog' is not among"):
        vision.to_yolo(BOXES, ["cat"])
    with pytest.raises(ConfigurationError, match="no points"):
        vision.to_yolo(POINTS, ["nose"])


def test_coco_of_a_folder_as_supervision_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import supervision

    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "more").mkdir(parents=True)
    names = ["photos/a.png", "photos/more/b.png", str(tmp_path / "photos" / "c.png")]
    for name in names:
        Image.new("RGB", SIZE).save(name)
    coco = vision.to_coco([(name, BOXES) for name in names], images_root="./photos")
    assert [image["file_name"] for image in coco["images"]] == ["a.png", "more/b.png", "c.png"]
    (tmp_path / "coco.json").write_text(json.dumps(coco))
    dataset = supervision.DetectionDataset.from_coco("photos", "coco.json")
    assert [len(detections) for _, _, detections in dataset] == [2, 2, 2]
    with pytest.raises(ConfigurationError, match="is not in images_root='photos'"):
        vision.to_coco([("elsewhere/a.png", BOXES)], images_root="photos")


def test_coco_has_a_category_for_a_label_that_was_not_found() -> None:
    found = DetectResult(objects=(CAT,), by_label={"fox": BOXES, "cat": BOXES}, image_size=SIZE)
    coco = vision.to_coco([("a.png", found)], categories=["dog"])
    assert [each["name"] for each in coco["categories"]] == ["dog", "fox", "cat"]
    assert [each["category_id"] for each in coco["annotations"]] == [3]


def test_voc_as_supervision_reads_it(tmp_path: Path) -> None:
    import supervision

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
    import supervision

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


def test_vlm_dict_as_supervision_reads_it() -> None:
    import supervision

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


def test_results_without_geometry() -> None:
    with pytest.raises(ConfigurationError, match="no boxes, points or outline"):
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


def test_boxes_inverted_and_outside() -> None:
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


NAMES = [
    ("d/a.jpg", "d/a.jpg"),
    (Path("d/a.jpg"), "d/a.jpg"),
    (b"d/a.jpg", "d/a.jpg"),
    (7, "7"),
    (0.5, "0.5"),
    (numpy.int64(7), "7"),
    (numpy.float64(0.5), "0.5"),
    (numpy.str_("a.jpg"), "a.jpg"),
    (uuid.UUID(int=1), str(uuid.UUID(int=1))),
]


@pytest.mark.parametrize(("name", "written"), NAMES)
def test_name_types(name: Any, written: str) -> None:
    size: Any = (numpy.int64(64), numpy.int32(48))
    found = DetectResult(objects=(BoundingBox(0.1, 0.1, 0.2, 0.2, label=name),))
    for key in (name, written):
        data = json.loads(json.dumps(vision.to_coco([(name, found)], sizes={key: size}, categories=[name])))
        assert (data["images"][0]["file_name"], data["images"][0]["width"]) == (written, 64)
        assert [category["name"] for category in data["categories"]] == [written]
    data = json.loads(json.dumps(vision.to_labelme(found, name, size=size)))
    assert (data["imagePath"], data["shapes"][0]["label"]) == (written, written)
    root = ElementTree.fromstring(vision.to_voc(found, name, size=size))
    assert (root.findtext("filename"), root.findtext("object/name")) == (Path(written).name, written)
    assert vision.to_yolo(found, ["x", name]).startswith("1 ")
    assert json.loads(json.dumps(vision.to_geojson(found, size=size)))["features"][0]["properties"]["label"] == written
    assert vision.to_supervision(found, labels=[name], size=size).data["class_name"].tolist() == [written]
    assert vision.to_csv(found).splitlines()[1].startswith(f"{written},0.1,")
    assert vision.to_fiftyone(found)[0]["label"] == written


@pytest.mark.parametrize(
    "name",
    [
        "Screenshot 1.00.00\u202fPM.png",
        "v\u00a013.05.png",
        "\u5199\u771f\u30001.jpg",
        "\u0645\u06cc\u200c\u0634\u0648\u062f.jpg",
        "\U0001f468\u200d\U0001f469.png",
        "  a  b .png ",
        "a\tb\nc\rd\r\ne.png",
        "a\u2028b\u0085c\x7fd\u00ade\ufeff.png",
        "\ue000\U000f0000\ufffd.png",
        "]]>&lt;<!--'\".png",
    ],
)
def test_voc_keeps_characters_allowed_in_xml(name: str) -> None:
    found = DetectResult(objects=(BoundingBox(0.1, 0.1, 0.2, 0.2, label=name),), image_size=SIZE)
    root = ElementTree.fromstring(vision.to_voc(found, f"f/{name}").encode())
    assert (root.findtext("folder"), root.findtext("filename"), root.findtext("object/name")) == ("f", name, name)


def test_voc_replaces_characters_invalid_in_xml() -> None:
    forbidden = "\x00\x08\x0b\x1f\ufffe\uffff\ud800\udcff"
    root = ElementTree.fromstring(vision.to_voc(BOXES, f"a{forbidden}b.png").encode())
    assert root.findtext("filename") == f"a{' ' * len(forbidden)}b.png"


def strict(data: Any) -> None:
    json.dumps(data, allow_nan=False)


@pytest.mark.parametrize(
    "odd", [math.nan, math.inf, -math.inf, 1e308, -1e308, numpy.float32(0.5), numpy.float64("nan")]
)
def test_coordinates_are_valid_json_numbers(odd: Any) -> None:
    boxes = DetectResult(objects=(BoundingBox(odd, odd, 1, 1, "x"), BoundingBox(0, 0, odd, odd, "x")), image_size=SIZE)
    points = PointResult(points=(Point(odd, 0.5, "x"), Point(0.5, odd, "x")), image_size=SIZE)
    for found in (boxes, points):
        for export in (vision.to_vlm_dict, vision.to_fiftyone, vision.to_geojson):
            strict(export(found))
        strict(vision.to_labelme(found, "a"))
        strict(vision.to_coco([("a", found)]))
        text = vision.to_csv(found)
        assert "nan" not in text
        assert "inf" not in text
    assert "nan" not in vision.to_yolo(boxes, ["x"])
    assert numpy.isfinite(vision.to_supervision(boxes).xyxy).all()
    ElementTree.fromstring(vision.to_voc(boxes, "a"))
    for data in (vision.to_geojson(points), vision.to_labelme(points, "a")):
        assert "[" in json.dumps(data)
    outline = SegmentResult(path=HARD["square"], bbox=BoundingBox(0, odd, 1, 1), image_size=SIZE)
    for call in (vision.to_geojson, lambda found: vision.to_coco([("a", found)]), vision.to_csv):
        with contextlib.suppress(PathError):
            strict(call(outline))


OFFICIAL = {"objects": [{"x_min": 0.1, "y_min": 0.1, "x_max": 0.2, "y_max": 0.2}]}


@pytest.mark.parametrize("wrong", [OFFICIAL, None, 5, "a", [BOXES], CaptionResult(caption="x")])
def test_not_a_result(wrong: Any) -> None:
    calls: list[Any] = [
        lambda: vision.to_coco([("a", wrong)] if wrong != [BOXES] else wrong, sizes={"a": SIZE}),
        lambda: vision.to_coco({"a": wrong}),  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
        lambda: vision.to_coco(wrong, sizes={"a": SIZE}),
        lambda: vision.to_yolo(wrong, ["cat", "dog"]),
        lambda: vision.to_labelme(wrong, "a", size=SIZE),
        lambda: vision.to_voc(wrong, "a", size=SIZE),
        lambda: vision.to_supervision(wrong, size=SIZE),
        lambda: vision.to_vlm_dict(wrong),
        lambda: vision.to_fiftyone(wrong),
        lambda: vision.to_geojson(wrong, size=SIZE),
        lambda: vision.to_csv(wrong),
        lambda: vision.to_csv(wrong, size=SIZE),
        lambda: vision.annotate(Image.new("RGB", SIZE), wrong),
        lambda: vision.crop(Image.new("RGB", SIZE), wrong),
    ]
    for call in calls:
        with pytest.raises(ConfigurationError):
            call()


@pytest.mark.parametrize(
    "options",
    [
        {"size": 5},
        {"size": "ab"},
        {"size": (10**400, 1)},
        {"size": (True, 1)},
        {"size": (1.5, 1)},
        {"label": 5},
        {"label": None},
        {"image_path": None},
        {"image_path": ["a"]},
    ],
)
def test_wrong_arguments(options: dict[str, Any]) -> None:
    for export in (vision.to_labelme, vision.to_voc):
        with pytest.raises(ConfigurationError):
            export(BOXES, **{"image_path": "a", **options})
    for sizes in (5, [("a", SIZE)]):
        with pytest.raises(ConfigurationError, match="sizes must be"):
            vision.to_coco([("a", BOXES)], sizes=sizes)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for labels in (5, None, [None]):
        with pytest.raises(ConfigurationError):
            vision.to_yolo(BOXES, labels)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def test_outlines_with_many_loops() -> None:
    nested = "".join(f"M{n / 2000} {n / 2000}H{1 - n / 2000}V{1 - n / 2000}H{n / 2000}Z" for n in range(200))
    parts = vision.to_geojson(outline(nested))["features"][0]["geometry"]["coordinates"]
    assert [len(part) for part in parts] == [2] * 100
    for path in ("M0 0h1v1" * 12_000, nested[:-1] + "L0 1L1 0" * 150_000):
        for export in (vision.to_geojson, lambda found: vision.to_yolo(found, ["object"]))[: scaled(1, 2)]:
            with pytest.raises(PathError, match="loops"):
                export(outline(path))
    spiral = "M" + " ".join(
        f"{0.5 + n / 1e5 * math.cos(n / 50):.5f} {0.5 + n / 1e5 * math.sin(n / 50):.5f}"
        for n in range(scaled(10_000, 40_000))
    )
    used = time.process_time()
    assert len(vision.to_geojson(outline(f"{spiral}M0 0H.01V.01Z"))["features"]) == 1
    assert time.process_time() - used < 60
