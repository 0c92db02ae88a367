"""`moondream-async batch`: all commands of a job, exit codes, the progress bar."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import pty
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moondream_async._cli import main
from moondream_async.sandbox import Sandbox
from tests.support.processes import started

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], moondream_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("MOONDREAM_BASE_URL", moondream_sandbox.base_url)

    def run_command(*words: str) -> tuple[int, str, str]:
        code = main(["batch", *words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command


def test_a_job_step_by_step(cli: Cli, photos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, _ = cli("submit", "photos", "--skill", "detect", "--object", "red", "--job", "job")
    assert code == 0
    name, status = out.split()[:2]
    assert status in ("chunking", "processing", "completed")
    assert f"job: {tmp_path / 'job'}" in out
    code, again, _ = cli("submit", "photos", "--skill", "detect", "--object", "red", "--job", "job")
    assert (code, again.split()[0]) == (0, name)
    code, out, err = cli("wait", "job")
    assert code == 0
    assert "5 of 5 lines, 0 failed" in out
    assert "input and" in err
    for which in ("job", name):
        code, out, _ = cli("status", which, "--json")
        job = json.loads(out)
        assert (code, job["status"], job["batches"][0]["id"]) == (0, "completed", name)
    code, out, err = cli("results", "job", "--out", "out.jsonl")
    assert (code, out) == (0, "")
    assert "5 done, 0 failed; results: out.jsonl" in err
    assert main(["export", "out.jsonl", "out.csv"]) == 0
    code, out, err = cli("results", "job", "--out", "out.jsonl")
    assert "5 already in the file" in err
    code, out, _ = cli("results", name)
    assert [json.loads(line)["ok"] for line in out.splitlines()[-5:]] == [True] * 5
    code, out, _ = cli("list", "--limit", "1")
    assert out.split()[0] == name
    code, _, err = cli("cancel", "job")
    assert code == 1
    assert "nothing to cancel" in err


def test_submit_waits_and_reports_failed_items(cli: Cli, photos: list[Path], tmp_path: Path) -> None:
    (tmp_path / "photos" / "bad.png").write_bytes(b"no image")
    out = str(tmp_path / "out.jsonl")
    code, _, err = cli("submit", str(tmp_path / "photos"), "--skill", "caption", "--length", "short", "--out", out)
    assert code == 3
    assert "1 of 6 items were rejected" in err
    assert "5 done, 1 failed" in err


def test_a_results_file_of_another_job(cli: Cli, photos: list[Path], tmp_path: Path) -> None:
    for name, out, code in (("a", "a.jsonl", 0), ("b", "a.jsonl", 2), ("a", "a.jsonl", 0)):
        words = ["submit", str(tmp_path / "photos"), "--skill", "caption", "--job", str(tmp_path / name)]
        exit_code, _, err = cli(*words, "--out", str(tmp_path / out))
        assert exit_code == code, err
    assert not (tmp_path / "b").exists()  # rejected before anything was submitted
    (tmp_path / "photos" / "new.png").write_bytes(photos[0].read_bytes())
    code, _, err = cli(*words, "--out", str(tmp_path / "a.jsonl"))
    assert (code, "1 done, 0 failed, 5 already in the file" in err) == (0, True)
    code, _, err = cli("status", str(tmp_path / "photos"))
    assert (code, "neither a job folder" in err) == (2, True)


def test_json_output_is_one_document(cli: Cli, photos: list[Path], tmp_path: Path) -> None:
    code, out, _ = cli("submit", str(tmp_path / "photos"), "--skill", "caption", "--wait", "--json")
    assert (code, json.loads(out)["status"]) == (0, "completed")


@pytest.mark.skipif(os.name != "posix", reason="there is no SIGINT")
@pytest.mark.parametrize("on", ["mpu-uploadpart", "batch"])
def test_ctrl_c_prints_how_to_resume(photos: list[Path], tmp_path: Path, on: str) -> None:
    moondream = [sys.executable, "-m", "moondream_async"]
    words = ["batch", "submit", "photos", "--skill", "caption", "--out", "o.jsonl"]
    with Sandbox(latency=1.0, on=on, work=0) as sandbox:
        environment = {**os.environ, "MOONDREAM_BASE_URL": sandbox.base_url}
        with started(
            [*moondream, *words],
            cwd=tmp_path,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr is not None
            assert process.stderr.readline().startswith("job: ")
            state, until = sandbox._app.state.batches, time.monotonic() + 20
            while not (state._uploads if on == "mpu-uploadpart" else state.jobs) and time.monotonic() < until:
                time.sleep(0.02)
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=20)
        assert process.returncode == 130
        hint = next(line for line in err.splitlines() if line.startswith("To resume: "))
        again = shlex.split(hint.removeprefix("To resume: moondream-async "))
        assert (
            subprocess.run([*moondream, *again], cwd=tmp_path, env=environment, check=False, timeout=60).returncode == 0
        )
        assert len(state.jobs) == 1
    assert len((tmp_path / "o.jsonl").read_text().splitlines()) == 5


def test_a_ready_file(cli: Cli, scene: bytes, tmp_path: Path) -> None:
    path = tmp_path / "ready.jsonl"
    line = {"id": 1, "skill": "caption", "image": base64.b64encode(scene).decode()}
    path.write_text(json.dumps(line) + "\n")
    assert cli("submit", str(path), "--wait")[0] == 0
    path.write_text(json.dumps(line) + "\n\n" + json.dumps(line))
    code, _, err = cli("submit", str(path))
    assert code == 2
    assert "Line 2 is blank" in err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["submit", "nope.jsonl"], 2, "No such file"),
        (["submit", "a.png", "b.png"], 2, "ready .jsonl"),
        (["submit", "a.jsonl", "--question", "?"], 2, "their own arguments"),
        (["submit", "nope", "--skill", "caption"], 2, "No file"),
        (["status", "01NOSUCH"], 1, "no such batch"),
        (["results", "01NOSUCH"], 1, "no such batch"),
        (["list", "--limit", "0"], 2, "limit"),
    ],
)
def test_wrong_usage(cli: Cli, words: list[str], code: int, says: str) -> None:
    exit_code, _, err = cli(*words)
    assert (exit_code, says in err) == (code, True), err


def test_a_failed_batch(photos: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    with Sandbox(batch_error="timeout") as sandbox:
        words = ["submit", str(photos[0].parent), "--skill", "caption", "--wait", "--base-url", sandbox.base_url]
        assert main(["batch", *words]) == 1
    assert "failed" in capsys.readouterr().out


@pytest.mark.skipif(os.name != "posix", reason="there is no pty")
def test_the_progress_bar(photos: list[Path], tmp_path: Path) -> None:
    reads, writes = pty.openpty()
    command = [sys.executable, "-m", "moondream_async", "batch", "submit", "photos", "--skill", "caption"]
    environment = {**os.environ, "COLUMNS": "120", "TERM": "xterm"}
    command += ["--out", "out.jsonl", "--sandbox"]
    with started(command, cwd=tmp_path, env=environment, stderr=writes, stdout=subprocess.DEVNULL) as process:
        os.close(writes)
        shown = ""
        with contextlib.suppress(OSError):  # the other end is closed
            while piece := os.read(reads, 10_000):
                shown += piece.decode("utf-8", "replace")
        os.close(reads)
        assert process.wait(20) == 0
    assert "MB" in shown
    assert "5/5 lines" in shown
