"""The command's output: no terminal escapes from answers, and pictures are written completely or not at all."""

from __future__ import annotations

import errno
import json
import os
import sys
from pathlib import Path

import anyio.to_thread
import pytest
from PIL import Image

from moondream_async._cli import main, pictures
from moondream_async.errors import ConfigurationError
from tests.support.loopback import Exchange, serve

HOSTILE = "\x1b[2J\x1b]0;owned\x07\x9b31m\r\x7f\x08\udcff"


@pytest.mark.parametrize("stream", [False, True])
async def test_answers_models_and_errors(stream: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = HOSTILE.replace("\udcff", "")

    async def respond(exchange: Exchange) -> None:
        if "/models" in exchange.head:
            await exchange.answer({"models": [{"id": text}]})
        elif "/point" in exchange.head:
            await exchange.answer({"error": {"message": text}}, 400)
        elif stream:
            await exchange.start_stream()
            await exchange.event({"chunk": text})
            await exchange.event({"chunk": "", "completed": True})
            await exchange.end_stream()
        else:
            await exchange.answer({"caption": text})

    image = tmp_path / "a.png"
    Image.new("RGB", (64, 48)).save(image)
    async with serve(respond) as server:
        target = ["--base-url", f"{server.base_url}"]
        for words, code in ((["models"], 0), (["point", str(image), "x"], 1), (["caption", str(image)], 0)):
            options = ["--stream"] if stream and words[0] == "caption" else []
            assert await anyio.to_thread.run_sync(main, [*words, *options, *target]) == code
            out = capsys.readouterr()
            assert "\\x1b[2J" in out.out + out.err
            assert "\x1b" not in out.out + out.err
        assert await anyio.to_thread.run_sync(main, ["models", "--json", *target]) == 0
        assert json.loads(capsys.readouterr().out)["id"] == text


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("folder.png", "it is a folder"),
        ("no/a.png", "folder does not exist"),
        ("a.bogus", "unsupported image format"),
        ("a", "unsupported image format"),
        ("a.psd", "unsupported image format"),  # Pillow can only read it
        ("a.xbm", "unsupported image format"),  # it has no colors
    ],
)
def test_names_of_pictures(name: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(ConfigurationError, match=says):
        pictures.check_name(str(tmp_path / name))
    words = ["detect", "no-such-image.jpg", "red", "--save", str(tmp_path / name), "--sandbox"]
    assert main(words) == 1
    assert says in capsys.readouterr().err  # and not the error of the image
    assert main(["demo", "--out", str(tmp_path / name)]) == 1
    assert says in capsys.readouterr().err
    for good in ("a.png", "b.JPG", "c.webp", "d.tiff", "e.gif", "f.pdf"):
        pictures.check_name(str(tmp_path / good))


def test_a_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(ConfigurationError, match="permission denied"):
        pictures.check_name(str(tmp_path / "a.png"))


def test_a_full_disk_leaves_the_old_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "a.png"
    pictures.write(Image.new("RGB", (8, 8)), str(target))
    before = target.read_bytes()

    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ConfigurationError, match="No space left on device"):
        pictures.write(Image.new("RGB", (9, 9)), str(target))
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]


def test_pictures_that_a_format_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be written"):
        pictures.write(Image.new("RGB", (70_000, 1)), str(tmp_path / "a.jpg"))
    assert list(tmp_path.iterdir()) == []


def test_standard_input_that_is_closed(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    assert main(["caption", "-", "--sandbox"]) == 1
    assert "standard input is closed" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--format", "svg"], ["--format", "coco"], ["--format", "yolo"], ["--save", "x.png"]]
)
@pytest.mark.parametrize("missing", ["fontTools", "freetype", "numpy"])
def test_a_missing_extra_fails_before_the_call(
    words: list[str],
    missing: str,
    tmp_path: Path,
    scene: bytes,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "a.png").write_bytes(scene)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MOONDREAM_BASE_URL", "http://127.0.0.1:9/v1")  # nothing listens there, so a call would fail
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["segment", "a.png", "red", *words]) == 1
    assert "needs the extra 'vision'" in capsys.readouterr().err
