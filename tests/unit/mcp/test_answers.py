"""Answers stay within what clients take, and nothing of them is lost."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from mcp.server.mcpserver.exceptions import ResourceNotFoundError
from PIL import Image
from pydantic import BaseModel

from moondream_async import ConfigurationError
from moondream_async._mcp.answers import Answers, Output, to_jpegs

LIMIT = 25_000  # tokens that clients take; no token is less than a byte


class Many(BaseModel):
    items: list[dict[str, Any]]
    text: str = ""
    more: str | None = None


def size(value: Any) -> int:
    return len(json.dumps(value, ensure_ascii=False).encode())


def whole(answers: Answers, uri: str, text: str) -> str:
    """Read all parts of an answer."""
    name = uri.split("/")[-2]
    count = int(text.rsplit("part ", 1)[1].split(".")[0])
    parts = [answers.read(name, str(number)) for number in range(1, count + 1)]
    assert max(len(part.encode()) for part in parts) <= LIMIT
    with pytest.raises(ResourceNotFoundError):
        answers.read(name, str(count + 1))
    return "".join(parts)


def test_short_answers_are_whole() -> None:
    found = Answers().build(Many(items=[{"a": 1}]), "text")
    assert found.structured_content == {"items": [{"a": 1}], "text": "", "more": None}
    assert [each.type for each in found.content] == ["text"]


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (Many(items=[{"image": f"{number}.png", "boxes": [[1, 2, 3, 4]] * 9} for number in range(3000)]), "short"),
        (Many(items=[], text="M 0 0 L 1 1 " * 90_000), "short"),
        (Many(items=[{}], text="short"), "line\n" * 90_000),
        (Many(items=[{"answer": "図" * 100_000}]), "図" * 100_000),
        (Many(items=[{"answer": '"\\\n' * 60_000}]), '"\\\n' * 60_000),
        (Many(items=[{"answer": "\x01" * 60_000}], text="\x02" * 60_000), "\x01" * 60_000),
    ],
)
def test_long_answers_are_shortened_and_kept(found: Many, text: str) -> None:
    answers = Answers()
    built = answers.build(found, text)
    data, shown = built.structured_content, built.content[0]
    assert data is not None
    assert shown.type == "text"
    assert len(shown.text.encode()) + size(data) <= LIMIT
    assert Many.model_validate(data).more == built.content[-1].uri  # type: ignore[union-attr]
    everything = whole(answers, data["more"], shown.text)
    assert everything.startswith(text)
    assert json.loads(everything[len(text) :]) == found.model_dump()


def test_lone_surrogates_are_replaced() -> None:
    built = Answers().build(Many(items=[{"a": "\ud800"}], text="\udfff"), "x\ud800")
    assert built.model_dump_json()
    assert built.structured_content == {"items": [{"a": "?"}], "text": "?", "more": None}


def test_old_answers_are_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moondream_async._mcp.answers._MAX_PARTS", 5)
    answers = Answers()
    built = [answers.build(Many(items=[], text="x" * 70_000), "") for _ in range(3)]
    first, last = (each.structured_content["more"].split("/")[-2] for each in (built[0], built[-1]))  # type: ignore[index]
    assert answers.read(last, "1")
    for name, part in ((first, "1"), (last, "0"), (last, "x"), (last, "\uff11"), ("nope", "1"), (last, "9" * 5000)):
        with pytest.raises(ResourceNotFoundError):
            answers.read(name, part)


@pytest.mark.parametrize("count", [1, 4, 10])
def test_pictures_fit_together(count: int) -> None:
    noise = Image.effect_noise((2400, 1600), 100).convert("RGB")
    jpegs = to_jpegs([noise] * count)
    assert len(jpegs) == count
    assert sum(map(len, jpegs)) <= 700_000
    for jpeg in jpegs:
        with Image.open(io.BytesIO(jpeg)) as picture:
            assert picture.format == "JPEG"
            assert max(picture.size) <= 1024


def test_files_have_new_safe_names(tmp_path: Path) -> None:
    output = Output(tmp_path / "new" / "folder")
    names = ("a.png", "a.png", "../../etc/passwd", "https://x.example/a%00?b", "x" * 500, "日本")
    paths = [Path(output.write("crop", name, b"jpeg")) for name in names]
    assert len(set(paths)) == len(names)
    assert all(path.parent == output.path and len(path.name) < 70 for path in paths)
    assert output.written == set(paths)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="permissions")
def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    output = Output(tmp_path)
    tmp_path.chmod(0o500)
    with pytest.raises(ConfigurationError, match="cannot be written"):
        output.write("crop", "a.png", b"")
    tmp_path.chmod(0o700)


def test_a_folder_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="cannot be used"):
        Output(tmp_path / "file")
