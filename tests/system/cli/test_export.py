"""`moondream-async export`: tables, and datasets that other programs read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import supervision
from PIL import Image
from pycocotools.coco import COCO

from moondream_async._cli import main

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(
    tmp_path: Path,
    scene: bytes,
    capsys: pytest.CaptureFixture[str],
    moondream_sandbox: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> Cli:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOONDREAM_BASE_URL", moondream_sandbox.base_url)
    for name in ("a.png", "sub/b.png"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(scene)

    def run_command(*words: str) -> tuple[int, str, str]:
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    assert run_command("run", "detect", "photos", "--object", "red", "--object", "blue", "-o", "boxes.jsonl")[0] == 0
    assert run_command("run", "segment", "photos", "--object", "red", "-o", "outlines.jsonl")[0] == 0
    assert run_command("run", "caption", "photos", "-o", "captions.jsonl")[0] == 0
    return run_command


def test_coco(cli: Cli) -> None:
    assert cli("export", "boxes.jsonl", "boxes.json", "--images-root", "photos") == (
        0,
        "2 images in boxes.json (coco)\n",
        "",
    )
    coco = COCO("boxes.json")
    assert sorted(image["file_name"] for image in coco.imgs.values()) == ["a.png", "sub/b.png"]
    assert sorted(each["name"] for each in coco.cats.values()) == ["blue", "red"]
    assert len(coco.anns) == 4
    dataset = supervision.DetectionDataset.from_coco("photos", "boxes.json")
    assert len(dataset) == 2
    assert cli("export", "outlines.jsonl", "outlines", "--to", "coco")[0] == 0
    document = json.loads(Path("outlines").read_text())
    assert [each["name"] for each in document["categories"]] == ["red"]
    assert all(each["segmentation"] for each in document["annotations"])
    assert sorted(image["file_name"] for image in document["images"]) == ["photos/a.png", "photos/sub/b.png"]


def test_yolo(cli: Cli) -> None:
    assert cli("export", "boxes.jsonl", "set", "--to", "yolo", "--images-root", "photos")[0] == 0
    assert sorted(path.as_posix() for path in Path("set").rglob("*.*")) == [
        "set/data.yaml",
        "set/labels/a.txt",
        "set/labels/sub/b.txt",
    ]
    assert '  0: "red"\n  1: "blue"\n' in Path("set/data.yaml").read_text()
    dataset = supervision.DetectionDataset.from_yolo("photos", "set/labels", "set/data.yaml")
    assert [len(detections) for _, _, detections in dataset] == [2]


def test_voc_labelme_and_geojson(cli: Cli) -> None:
    assert cli("export", "boxes.jsonl", "voc", "--to", "voc")[0] == 0
    root = ElementTree.parse("voc/photos/sub/b.xml").getroot()
    assert [each.text for each in root.iter("name")] == ["red", "blue"]
    assert cli("export", "outlines.jsonl", "labelme", "--to", "labelme", "--images-root", "photos")[0] == 0
    labelme = json.loads(Path("labelme/sub/b.json").read_text())
    assert (labelme["imagePath"], labelme["shapes"][0]["label"]) == ("sub/b.png", "red")
    assert cli("export", "outlines.jsonl", "all.geojson")[0] == 0
    features = json.loads(Path("all.geojson").read_text())["features"]
    assert sorted(each["properties"]["image"] for each in features) == ["photos/a.png", "photos/sub/b.png"]


@pytest.mark.parametrize("name", ["new/boxes.csv", "new/boxes.json"])
def test_the_folder_of_a_file_is_created(name: str, cli: Cli) -> None:
    assert cli("export", "boxes.jsonl", name)[0] == 0
    assert Path(name).stat().st_size


def test_several_skills_in_one_run(cli: Cli) -> None:
    words = ["run", "photos/a.png", "--skill", "detect", "--skill", "point", "--skill", "caption", "--object", "red"]
    assert cli(*words, "-o", "several.jsonl")[0] == 0
    assert cli("export", "several.jsonl", "out", "--to", "labelme")[0] == 0
    shapes = json.loads(Path("out/photos/a.json").read_text())["shapes"]
    assert [(shape["shape_type"], shape["label"]) for shape in shapes] == [("rectangle", "red"), ("point", "red")]
    code, _, err = cli("export", "several.jsonl", "out", "--to", "voc")
    assert (code, "results of one skill" in err) == (1, True)


def test_names_stay_in_the_folder(cli: Cli) -> None:
    Path("l.jsonl").write_text(json.dumps({"image": "photos/a.png", "id": "../../x/../y.png"}))
    assert cli("run", "detect", "l.jsonl", "--object", "red", "-o", "named.jsonl")[0] == 0
    assert cli("export", "named.jsonl", "out", "--to", "labelme")[0] == 0
    assert [path.as_posix() for path in Path("out").rglob("*.json")] == ["out/x/y.json"]
    lines = [{"image": "photos/a.png", "id": name} for name in ("a.png", "a.jpg")]
    Path("l.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert cli("run", "detect", "l.jsonl", "--object", "red", "-o", "same.jsonl")[0] == 0
    code, _, err = cli("export", "same.jsonl", "out", "--to", "voc")
    assert (code, "would both be written to" in err) == (1, True)
    assert not list(Path("out").rglob("*.xml"))


@pytest.mark.parametrize("form", ["yolo", "voc", "labelme"])
def test_frames_of_a_film_keep_their_time(form: str, cli: Cli) -> None:
    names = ["film.mp4#t=0.000", "film.mp4#t=0.500", "film.mp4#t=1.000"]
    lines = [{"image": "photos/a.png", "id": name} for name in names]
    Path("frames.jsonl").write_text("\n".join(map(json.dumps, lines)))
    assert cli("run", "detect", "frames.jsonl", "--object", "red", "-o", "film.jsonl")[0] == 0
    assert cli("export", "film.jsonl", "out", "--to", form)[0] == 0
    files = sorted(path.stem for path in Path("out").rglob("film*"))
    assert files == names


@pytest.mark.parametrize("words", [["x.json"], ["x", "--to", "voc"], ["x", "--to", "yolo"]], ids=" ".join)
def test_points_in_formats_that_have_none(words: list[str], cli: Cli) -> None:
    assert cli("run", "point", "photos", "--object", "red", "-o", "points.jsonl")[0] == 0
    code, _, err = cli("export", "points.jsonl", *words)
    assert (code, "files have no points" in err) == (1, True), err
    assert not list(Path().rglob("x*"))
    assert cli("export", "points.jsonl", "points.geojson")[0] == 0


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["boxes.jsonl", "x.foo"], "must end in .csv, .parquet, .json (COCO), .geojson; or choose"),
        (["captions.jsonl", "x.json"], "has no boxes, points or outlines"),
        (["boxes.jsonl", "x.json", "--images-root", "elsewhere"], "is not in --images-root 'elsewhere'"),
        (["boxes.jsonl", "x.csv", "--images-root", "photos"], "--images-root is for datasets"),
        (["boxes.jsonl", "boxes.jsonl", "--to", "coco"], "is the results file itself"),
        (["none.jsonl", "x.json"], "none.jsonl"),
        (["boxes.jsonl", "photos/a.png/x.json"], "cannot be written"),
        (["boxes.jsonl", "photos/a.png/x.csv"], "cannot be written"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_exported(words: list[str], says: str, cli: Cli) -> None:
    before = Path("boxes.jsonl").read_bytes()
    code, _, err = cli("export", *words)
    assert (code, says in err) == (1, True), err
    assert Path("boxes.jsonl").read_bytes() == before
    with Image.open("photos/a.png") as image:
        image.load()
