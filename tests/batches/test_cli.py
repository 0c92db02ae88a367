"""`moondream-async batch`: a job's life on the command line, exit codes, the bar."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moondream_async.cli import main
from moondream_async.sandbox import Sandbox

Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], moondream_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> Say:
    monkeypatch.setenv("MOONDREAM_BASE_URL", moondream_sandbox.base_url)

    def command(*words: str) -> tuple[int, str, str]:
        code = main(["batch", *words])
        said = capsys.readouterr()
        return code, said.out, said.err

    return command


def test_a_job_step_by_step(say: Say, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = say("submit", "photos", "--skill", "detect", "--object", "red", "--job", "job")
    assert code == 0
    name, status = out.split()[:2]
    assert status in ("chunking", "processing", "completed")
    assert f"job: {tmp_path / 'job'}" in out
    code, again, _ = say("submit", "photos", "--skill", "detect", "--object", "red", "--job", "job")
    assert (code, again.split()[0]) == (0, name)
    code, out, err = say("wait", "job")
    assert code == 0
    assert "5 of 5 lines, 0 failed" in out
    assert "input and" in err
    for which in ("job", name):
        code, out, _ = say("status", which, "--json")
        told = json.loads(out)
        assert (code, told["status"], told["batches"][0]["id"]) == (0, "completed", name)
    code, out, err = say("results", "job", "--out", "out.jsonl")
    assert (code, out) == (0, "")
    assert "5 done, 0 failed; results: out.jsonl" in err
    assert main(["export", "out.jsonl", "out.csv"]) == 0
    code, out, err = say("results", "job", "--out", "out.jsonl")
    assert "5 in the file already" in err
    code, out, _ = say("results", name)
    assert [json.loads(line)["ok"] for line in out.splitlines()[-5:]] == [True] * 5
    code, out, _ = say("list", "--limit", "1")
    assert out.split()[0] == name
    code, _, err = say("cancel", "job")
    assert code == 1
    assert "goes on" in err


def test_all_at_once_and_what_failed(say: Say, photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "photos" / "bad.png").write_bytes(b"no image")
    out = str(tmp_path / "out.jsonl")
    code, _, err = say("submit", str(tmp_path / "photos"), "--skill", "caption", "--length", "short", "--out", out)
    assert code == 3
    assert "1 of 6 items cannot be sent" in err
    assert "5 done, 1 failed" in err


def test_a_ready_file(say: Say, scene: bytes, tmp_path: Path) -> None:
    path = tmp_path / "ready.jsonl"
    line = {"id": 1, "skill": "caption", "image": base64.b64encode(scene).decode()}
    path.write_text(json.dumps(line) + "\n")
    assert say("submit", str(path), "--wait")[0] == 0
    path.write_text(json.dumps(line) + "\n\n")
    code, _, err = say("submit", str(path))
    assert code == 2
    assert "Line 2 is blank" in err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["submit", "nope.jsonl"], 2, "No such file"),
        (["submit", "a.png", "b.png"], 2, "ready .jsonl"),
        (["submit", "a.jsonl", "--question", "?"], 2, "their own arguments"),
        (["submit", "nope", "--skill", "caption"], 2, "no file"),
        (["status", "01NOSUCH"], 1, "no such batch"),
        (["results", "01NOSUCH"], 1, "no such batch"),
        (["list", "--limit", "0"], 2, "limit"),
    ],
)
def test_wrong_usage(say: Say, words: list[str], code: int, says: str) -> None:
    found, _, err = say(*words)
    assert (found, says in err) == (code, True), err


def test_a_failed_batch(photos: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    with Sandbox(batch_error="timeout") as sandbox:
        words = ["submit", str(photos[0].parent), "--skill", "caption", "--wait", "--base-url", sandbox.base_url]
        assert main(["batch", *words]) == 1
    assert "failed" in capsys.readouterr().out


@pytest.mark.skipif(os.name != "posix", reason="there is no pty")
def test_the_bar(photos: list[Path], tmp_path: Path) -> None:
    reads, writes = pty.openpty()
    command = [sys.executable, "-m", "moondream_async", "batch", "submit", "photos", "--skill", "caption"]
    environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm"}
    process = subprocess.Popen(
        [*command, "--out", "out.jsonl", "--sandbox"],
        cwd=tmp_path,
        env=environment,
        stderr=writes,
        stdout=subprocess.DEVNULL,
    )
    os.close(writes)
    shown = ""
    with contextlib.suppress(OSError):  # the other end is closed
        while piece := os.read(reads, 10_000):
            shown += piece.decode("utf-8", "replace")
    os.close(reads)
    assert process.wait(20) == 0
    assert "MB" in shown
    assert "5/5 lines" in shown
