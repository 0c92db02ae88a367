"""Errors of the library name options of the command, and no arguments of Python."""

from __future__ import annotations

from pathlib import Path

import anyio.to_thread
import pytest

from moondream_async._cli import main
from moondream_async.sandbox import Sandbox
from tests.support.loopback import Exchange, serve

MP4 = b"\0\0\0\x20ftypisom" + bytes(64)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["caption", "film"], "use `moondream-async run SKILL VIDEO --fps 1 -o FILE`"),
        (["caption", "film", "film"], "use `moondream-async run SKILL VIDEO --fps 1 -o FILE`"),
        (["run", "caption", "film", "-o", "r.jsonl"], "use `moondream-async run SKILL VIDEO --fps 1 -o FILE`"),
        (["run", "caption", "film", "-o", "old.jsonl", "--fresh"], "run the same command without --fresh to resume it"),
        (["run", "caption", "film", "-o", "r.jsonl", "--max-cost", "1"], "--max-cost needs --prices IN,OUT"),
        (["caption", "http://127.0.0.1:9/a.jpg"], "download it yourself and pass the file"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_errors_of_the_library(
    words: list[str], says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("film").write_bytes(MP4)
    Path("old.jsonl").write_text("{}\n")
    with Sandbox() as sandbox:
        assert main([*words, "--base-url", sandbox.base_url]) != 0
    err = capsys.readouterr().err
    assert says in err
    assert "moondream_async." not in err
    assert "=True" not in err


async def test_a_missing_key(tmp_path: Path, scene: bytes, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.png").write_bytes(scene)

    async def refuse(exchange: Exchange) -> None:
        await exchange.answer({"error": {"message": "no"}}, 401)

    async with serve(refuse) as server:
        words = ["caption", str(tmp_path / "a.png"), "--base-url", server.base_url]
        assert await anyio.to_thread.run_sync(main, words) == 1
    assert "set MOONDREAM_API_KEY or run `moondream-async login`" in capsys.readouterr().err
