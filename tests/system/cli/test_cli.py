"""The command: its output, the files it writes, and its errors."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
import unicodedata
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from moondream_async._cli import main
from moondream_async._cli.sample_image import sample
from tests.support.processes import started


@pytest.fixture
def picture(tmp_path: Path, scene: bytes) -> str:
    path = tmp_path / "scene.png"
    path.write_bytes(scene)
    return str(path)


def test_demo(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo.png"
    assert main(["demo", "--out", str(out)]) == 0
    output = capsys.readouterr().out
    for word in ("stand-in", "query", "caption", "detect", "point", "segment", "stream", "finish reason stop"):
        assert word in output
    with Image.open(out) as image:
        assert image.size == (960, 640)


@pytest.mark.parametrize("missing", ["fontTools", "freetype", "numpy"])
def test_the_demo_draws_the_outline_without_the_extra_vision(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    out = tmp_path / "demo.png"
    assert main(["demo", "-o", str(out)]) == 0
    with Image.open(out) as image:
        assert image.getpixel((530, 290)) != sample().getpixel((530, 290))  # inside the tree


def test_without_the_extra_cli(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "click", None)
    assert main(["--version"]) == 1
    says = "moondream-async: The command needs the extra 'cli': pip install 'moondream-async[cli]'.\n"
    assert capsys.readouterr().err == says


def test_start_up_imports_little() -> None:
    code = "import sys; from moondream_async._cli import main; main(['--help']); print(*sys.modules, sep='\\n')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    heavy = {"asyncio", "anyio", "attrs", "httpx", "PIL", "rich", "starlette", "uvicorn"}
    assert not heavy & set(done.stdout.split())


def test_demo_with_an_unwritable_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--out", str(tmp_path / "no" / "where.png")]) == 1
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["query", "{}", "How many objects are there?"], "Three regions."),
        (["query", "{}", "Where is the red square?", "--reasoning"], "I see a red square"),
        (["query", "{}", "How many objects are there?", "--stream"], "Three regions."),
        (["query", "{}", "Where is the red square?", "--reasoning", "--stream"], "left.\n(The border"),
        (["caption", "{}", "--length", "short"], "A red square, a blue circle"),
        (["caption", "{}", "--stream"], "An image of 640 by 480"),
        (["detect", "{}", "red"], "   0.094   0.167   0.406   0.583"),
        (["detect", "{}", "pink"], "nothing found"),
        (["detect", "{}", "red", "pink", "--format", "table"], "not found: pink"),
        (["point", "{}", "red"], "   0.250   0.373"),
        (["segment", "{}", "red"], "path (0..1 of the box): M "),
        (["segment", "{}", "red", "--stream"], "path (0..1 of the box): M "),
        (["segment", "{}", "pink"], "not found"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_skills(arguments: list[str], says: str, picture: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word.replace("{}", picture) for word in arguments] + ["--sandbox"]) == 0
    assert says in capsys.readouterr().out


def test_an_outline_as_text(picture: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["segment", picture, "pink", "--sandbox"]) == 0
    assert capsys.readouterr().out == "not found\n"
    assert main(["segment", picture, "pink", "--stream", "--sandbox"]) == 0
    assert capsys.readouterr().out == "not found\n"
    assert main(["segment", picture, "red", "--sandbox"]) == 0
    assert re.fullmatch(r"box( 0\.\d{3}){4}\npath \(0\.\.1 of the box\): M .*\S\n", capsys.readouterr().out)


def test_json(picture: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", picture, "red", "--sandbox", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["objects"][0]["x_min"] == pytest.approx(0.094, abs=0.01)
    assert main(["caption", picture, "--stream", "--sandbox", "--json"]) == 0
    *chunks, last = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert "".join(chunk["chunk"] for chunk in chunks) == last["caption"]
    assert main(["models", "--sandbox", "--json"]) == 0
    assert "moondream" in json.loads(capsys.readouterr().out.splitlines()[0])["id"]


def test_environment(
    picture: str, moondream_sandbox: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MOONDREAM_BASE_URL", moondream_sandbox.base_url)
    assert main(["models"]) == 0
    assert "moondream3-preview" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["caption", "{}"], "No API key. Either: (1) run `moondream-async login`"),
        (["caption", "no.jpg", "--sandbox"], "There is no file 'no.jpg'"),
        (["query", "{}", "", "--sandbox"], "question must not be empty"),
        (["caption", "{}", "--base-url", "http://127.0.0.1:9/v1/caption"], "must not name a skill"),
        (["caption", "{}", "--sandbox", "--base-url", "http://x"], "cannot be used together"),
    ],
)
def test_failures(arguments: list[str], says: str, picture: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word.replace("{}", picture) for word in arguments]) == 1
    captured = capsys.readouterr()
    assert says in captured.err
    assert captured.out == ""


def test_usage_errors() -> None:
    for arguments in (["nonsense"], ["batch"], ["caption"], ["caption", "x", "--length", "epic"]):
        with pytest.raises(SystemExit) as caught:
            main(arguments)
        assert caught.value.code == 2


def run(*arguments: str, **options: Any) -> AbstractContextManager[subprocess.Popen[bytes]]:
    return started([sys.executable, "-m", "moondream_async", *arguments], stdout=subprocess.PIPE, **options)


def test_stdin_and_a_closed_pipe(picture: str) -> None:
    with Path(picture).open("rb") as stdin, run("detect", "-", "red", "--sandbox", stdin=stdin) as process:
        assert process.communicate(timeout=60)[0].count(b"\n") == 2
    with run("caption", picture, "--sandbox", stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_the_sandbox_serves_until_ctrl_c() -> None:
    with run("sandbox", "--port", "0") as process:
        assert process.stdout is not None
        first = process.stdout.readline().decode()
        assert "http://127.0.0.1:" in first
        assert "not a model" in first
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["detect", "{}", "red", "blue"], "1   0.094   0.167   0.406   0.583  red"),
        (["detect", "{}", "red", "blue", "--format", "yolo"], "0 0.250000 0.375000 0.312500 0.416667\n1 "),
        (["detect", "{}", "red", "--format", "csv"], "red,0.09375,"),
        (["detect", "{}", "red", "--format", "coco"], '"categories": [{"id": 1, "name": "red"}]'),
        (["point", "{}", "red", "--format", "csv"], "red,0.25,"),
        (["segment", "{}", "red", "--format", "svg"], '<svg xmlns="http://www.w3.org/2000/svg" width="640"'),
        (["caption", "{}", "--format", "jsonl"], '"caption": "An image'),
        (["segment", "{}", "red", "--stream", "--format", "jsonl"], '"completed": true'),
    ],
    ids=" ".join,
)
def test_formats(words: list[str], says: str, picture: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([word.replace("{}", picture) for word in words] + ["--sandbox"]) == 0
    assert says in capsys.readouterr().out


@pytest.mark.parametrize("skill", ["detect", "point", "segment"])
@pytest.mark.parametrize("source", ["path", "stdin"])
def test_pictures(
    skill: str, source: str, picture: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scene: bytes
) -> None:
    out = tmp_path / "out.png"
    shown: list[Any] = []
    monkeypatch.setattr(Image.Image, "show", lambda image: shown.append(image))
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(scene)))
    image = picture if source == "path" else "-"
    assert main([skill, image, "red", "--save", str(out), "--open", "--sandbox"]) == 0
    with Image.open(out) as drawn, Image.open(picture) as before:
        assert drawn.size == before.size
        assert drawn.convert("RGB").tobytes() != before.convert("RGB").tobytes()
    assert len(shown) == 1


def test_a_picture_that_cannot_be_written(picture: str, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("/no/where.png", "a.bogus"):
        assert main(["detect", picture, "red", "--save", name, "--sandbox"]) == 1
    assert main(["segment", picture, "red", "--format", "svg", "--stream", "--sandbox"]) == 1
    assert "cannot be written" in capsys.readouterr().err


HOSTILE = "\x1b]0;owned\x07 \x1b[31mred\x9b2J \x7f\x08 \r"


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (["query", "PICTURE", "what?"], {"answer": HOSTILE, "reasoning": {"text": HOSTILE}}),
        (["caption", "PICTURE"], {"caption": HOSTILE}),
        (["caption", "PICTURE", "--stream"], {"caption": HOSTILE}),
        (
            ["detect", "PICTURE", "a"],
            {"objects": [{"x_min": 0, "y_min": 0, "x_max": 1, "y_max": 1, "label": HOSTILE}]},
        ),
        (["detect", "PICTURE", HOSTILE, "b\n"], {"objects": [{"x_min": 0, "y_min": 0, "x_max": 1, "y_max": 1}]}),
        (
            ["detect", "PICTURE", HOSTILE, "--format", "csv"],
            {"objects": [{"x_min": 0, "y_min": 0, "x_max": 1, "y_max": 1}]},
        ),
        (["segment", "PICTURE", "a"], {"path": HOSTILE}),
        (["segment", "PICTURE", "a", "--format", "svg"], {"path": HOSTILE}),
        (["models"], {"data": [{"id": HOSTILE}]}),
        (["caption", "PICTURE"], {"error": {"message": HOSTILE, "code": HOSTILE}, "request_id": HOSTILE}),
        (["run", "PICTURE", "--skill", "caption", "--out", "OUT"], {"error": {"message": HOSTILE}}),
        (["batch", "list"], {"batches": [{"id": HOSTILE, "status": "failed", "error": {"message": HOSTILE}}]}),
        (["batch", "status", "abc"], {"id": HOSTILE, "status": "failed", "error": {"message": HOSTILE}}),
    ],
)
def test_server_text_cannot_control_the_terminal(
    words: list[str],
    answer: Any,
    picture: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import anyio.from_thread

    from tests.support.loopback import Exchange, serve

    async def handler(exchange: Exchange) -> None:
        await exchange.answer(answer)

    words = [word.replace("PICTURE", picture).replace("OUT", str(tmp_path / "r.jsonl")) for word in words]
    with (
        anyio.from_thread.start_blocking_portal() as portal,
        portal.wrap_async_context_manager(serve(handler)) as server,
    ):
        monkeypatch.setenv("MOONDREAM_BASE_URL", server.base_url)
        main(words)
    output = "".join(capsys.readouterr())
    assert "\\x1b" in output or "\\u001b" in output or "segment" in words
    assert not [char for char in output if unicodedata.category(char) == "Cc" and char not in "\n\t"]


def test_only_the_console_module_prints() -> None:
    import moondream_async._cli

    folder = Path(moondream_async._cli.__path__[0])
    prints = [path.name for path in folder.glob("*.py") if re.search(r"(?<![.\w])print\(", path.read_text())]
    assert prints == ["console.py"]
