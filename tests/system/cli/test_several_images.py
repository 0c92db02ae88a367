"""The skills of the command, for several images at once."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from moondream_async._cli import main, pictures

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
    for name in ("a.png", "b.png"):
        (tmp_path / name).write_bytes(scene)
    (tmp_path / "bad.png").write_bytes(b"no image")

    def run_command(*words: str) -> tuple[int, str, str]:
        try:
            code = main(words)
        except SystemExit as exc:
            code = int(str(exc.code))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["caption", "a.png", "b.png", "--length", "short"], "a.png: A red square"),
        (["query", "a.png", "b.png", "How many objects are there?"], "b.png: Three regions."),
        (["query", "a.png", "b.png", "--question", "How many objects are there?"], "b.png: Three regions."),
        (["detect", "a.png", "b.png", "--object", "red"], "b.png:\n       #   x_min"),
        (["detect", "a.png", "b.png", "--object", "red", "--object", "pink"], "\nb.png: not found: pink\n"),
        (["point", "a.png", "b.png", "--object", "red"], "b.png:\n       #       x"),
        (["segment", "a.png", "b.png", "red"], "b.png:\nbox "),
        (["segment", "a.png", "b.png", "--object", "red"], "b.png:\nbox "),
    ],
    ids=" ".join,
)
def test_results_follow_the_names_of_their_images(words: list[str], says: str, cli: Cli) -> None:
    code, out, err = cli(*words)
    assert (code, err) == (0, "")
    assert out.startswith("a.png:")
    assert says in out


def test_documents_of_several_images(cli: Cli) -> None:
    words = ["detect", "a.png", "b.png", "--object", "red", "--format"]
    for form in ("json", "jsonl"):
        lines = [json.loads(line) for line in cli(*words, form)[1].splitlines()]
        assert [(line["image"], len(line["objects"])) for line in lines] == [("a.png", 1), ("b.png", 1)]
    rows = list(csv.DictReader(io.StringIO(cli(*words, "csv")[1])))
    assert [(row["image"], row["label"]) for row in rows] == [("a.png", "red"), ("b.png", "red")]
    coco = json.loads(cli(*words, "coco")[1])
    assert [image["file_name"] for image in coco["images"]] == ["a.png", "b.png"]


def test_one_bad_image_does_not_stop_the_others(cli: Cli) -> None:
    code, out, err = cli("caption", "a.png", "bad.png", "b.png", "--length", "short")
    assert code == 3
    assert len(out.splitlines()) == 2
    assert err.startswith("moondream-async: bad.png: The file is not a supported image")
    assert cli("caption", "bad.png", "bad.png")[0] == 1


def test_annotated_images_are_saved_in_a_folder(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.png").write_bytes((tmp_path / "a.png").read_bytes())
    assert cli("detect", "a.png", "other/a.png", "--object", "red", "--save", "out")[0] == 0
    assert sorted(path.name for path in Path("out").iterdir()) == ["a-2.png", "a.png"]
    with Image.open("out/a-2.png") as drawn, Image.open("a.png") as before:
        assert drawn.convert("RGB").tobytes() != before.convert("RGB").tobytes()


def test_names_of_annotated_images() -> None:
    names = pictures.names_in("f", ["x/a.jpg", "https://h/b.webp?c=d.png", "-", "data:image/png;base64,xx", "c.heic"])
    assert [Path(name).name for name in names] == ["a.jpg", "b.webp", "image-3.png", "png;base64,xx.png", "c.png"]


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["detect", "a.png", "b.png", "red"], 2, "'b.png' is a file, not an object"),
        (["query", "a.png", "b.png"], 2, "'b.png' is a file, not a question"),
        (["query", "What?", "a.png"], 2, "Images come first: `query IMAGE... QUESTION`."),
        (["detect", "cat", "a.png"], 2, "Images come first: `detect IMAGE OBJECT...`."),
        (["segment", "cat", "a.png"], 2, "Images come first: `segment IMAGE... OBJECT`."),
        (["detect", "a.png"], 2, "Missing argument 'OBJECT'"),
        (["query", "a.png"], 2, "Missing argument 'QUESTION'"),
        (["segment", "a.png", "--object", "a", "--object", "b"], 2, "outlines one object"),
        (["caption", "a.png", "none.png"], 1, "There is no file 'none.png'. Nothing was sent."),
        (["caption", "a.png", "b.png", "--stream"], 1, "one image at a time"),
        (["caption", "-", "-"], 1, "only one of the images"),
        (["detect", "a.png", "b.png", "--object", "red", "--format", "yolo"], 1, "`export --to yolo`"),
        (["segment", "a.png", "b.png", "red", "--format", "svg"], 1, "repeat the command for each image"),
        (["detect", "a.png", "b.png", "--object", "red", "--save", "x.png"], 1, "--save is a folder"),
        (["detect", "a.png", "b.png", "--object", "red", "--save", "no/where"], 1, "cannot be created"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_work_fails_before_a_call(
    words: list[str], code: int, says: str, cli: Cli, moondream_sandbox: Any
) -> None:
    exit_code, out, err = cli(*words)
    assert (exit_code, out) == (code, "")
    assert says in err


def test_sampling_options(cli: Cli) -> None:
    code, out, _ = cli(
        "query", "a.png", "How many objects are there?", "--max-tokens", "1", "--temperature", "0.5", "--json"
    )
    assert (code, json.loads(out)["finish_reason"]) == (0, "length")


@pytest.mark.parametrize(
    "option", [["--temperature", "-1"], ["--top-p", "2"], ["--max-tokens", "0"], ["--max-objects", "x"]]
)
def test_settings_out_of_range(option: list[str], cli: Cli) -> None:
    assert cli("caption", "a.png", *option)[0] == 2


def test_labels_without_a_match_are_named(cli: Cli) -> None:
    assert cli("detect", "a.png", "red", "pink", "purple")[1].endswith("red\nnot found: pink, purple\n")
    assert cli("detect", "a.png", "pink." * 200)[1] == "nothing found\n"
    assert cli("detect", "a.png", "pink", "purple")[1] == "nothing found\n"


def test_an_image_is_saved_if_there_is_no_viewer(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(pictures, "_has_viewer", lambda: False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    code, _, err = cli("detect", "a.png", "red", "--open")
    assert (code, "There is no image viewer here" in err) == (0, True)
    with Image.open(err.rsplit(" ", 1)[1].strip()) as image:
        assert image.size == (640, 480)
