"""`moondream-async run` and `export`: inputs, output, exit codes, signals."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moondream_async._cli import main
from moondream_async._cli.inputs import Inputs
from moondream_async._progress.durations import duration
from moondream_async.bulk import read_records
from moondream_async.errors import ConfigurationError

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def folder(tmp_path: Path, scene: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in ("b.png", "a.PNG", "sub/c.jpeg", "sub/.hidden.png", ".dir/d.png", "sub/z[1].webp", "text.txt"):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(scene)
    return tmp_path


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], moondream_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("MOONDREAM_BASE_URL", moondream_sandbox.base_url)

    def run_command(*words: str) -> tuple[int, str, str]:
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command


@pytest.mark.parametrize(
    ("words", "names"),
    [
        (["photos"], ["photos/a.PNG", "photos/b.png", "photos/sub/c.jpeg", "photos/sub/z[1].webp"]),
        (["photos/*.png"], ["photos/b.png"]),
        (["photos/**/*.[jw]*"], ["photos/sub/c.jpeg", "photos/sub/z[1].webp"]),
        (["photos/sub/z[1].webp", "photos/text.txt"], ["photos/sub/z[1].webp", "photos/text.txt"]),
        (["https://example.com/a.jpg"], ["https://example.com/a.jpg"]),
    ],
)
def test_inputs(words: list[str], names: list[str], folder: Path) -> None:
    inputs = Inputs(words)
    assert list(inputs) == names
    assert list(inputs) == names
    assert inputs.count() == len(names)


def test_lines(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = [
        '\ufeff{"image": "a.png"}',
        '{"image_url": "b.png", "id": 7, "question": "?"}\r',
        "",
        '"c d.png"',
        "e.png",
        "[2020] f.png",
        json.dumps({"image": "data:" + "x" * 5000}),
    ]
    (folder / "l.jsonl").write_text("\n".join(lines), newline="")
    expected = [("a.png", "a.png", {}), (7, "b.png", {"question": "?"}), "c d.png", "e.png", "[2020] f.png"]
    assert list(Inputs(["l.jsonl"]))[:5] == expected
    assert list(Inputs(["*.jsonl"]))[:5] == expected
    assert list(Inputs(["l.jsonl"]))[5][0] == "l.jsonl:7"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("\n".join(lines).encode())))
    stdin = Inputs(["-"])
    assert stdin.count() is None
    assert list(stdin)[:5] == expected


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("{", "l.jsonl:2 is not JSON"),
        ("[1]", "must be a path"),
        ('{"id": 1}', "needs an 'image' string"),
        ('{"image": 1}', "needs an 'image' string"),
    ],
)
def test_bad_lines(line: str, says: str, folder: Path, cli: Cli) -> None:
    (folder / "l.jsonl").write_text('"photos/b.png"\n' + line)
    code, _, err = cli("run", "l.jsonl", "--skill", "caption", "--out", "r.jsonl")
    assert (code, says in err) == (2, True)
    assert not (folder / "r.jsonl").exists()


def test_a_run(folder: Path, cli: Cli) -> None:
    (folder / "photos" / "bad.jpg").write_bytes(b"no image")
    run = ["run", "photos", "--skill", "detect", "--object", "red", "--object", "blue", "--out", "r.jsonl"]
    code, out, err = cli(*run)
    assert code == 3
    assert "4 done, 1 failed" in out
    assert "tokens" in out
    assert err.splitlines()[-1] == f"To retry failed items: moondream-async run --retry-failed {' '.join(run[1:])}"
    assert "failed: photos/bad.jpg: The file is not a supported image" in err
    code, _, err = cli(*run, "--fresh")
    assert (code, "'r.jsonl' already exists" in err) == (2, True)
    for options in ((), ("--resume",)):
        code, out, err = cli(*run, *options)
        assert (code, "5 already in the file (1 of them failed)" in out) == (3, True)
    (folder / "photos" / "bad.jpg").unlink()
    (folder / "photos" / "bad.jpg").write_bytes((folder / "photos" / "b.png").read_bytes())
    code, out, err = cli(*run, "--retry-failed", "--json")
    assert (code, err) == (0, "moondream-async: skipped: 2 hidden, 1 not images (1 .txt)\n")
    assert json.loads(out)["succeeded"] == 1
    assert [len(record["result"]["objects"]) for record in read_records("r.jsonl")] == [2] * 5
    assert cli("export", "r.jsonl", "r.csv") == (0, "10 rows in r.csv\n", "")


def test_options_reach_the_server(folder: Path, cli: Cli) -> None:
    code, _, _ = cli(
        *[
            "run",
            "photos/b.png",
            "--skill",
            "caption",
            "--skill",
            "query",
            "--out",
            "r.jsonl",
            "--question",
            "How many?",
        ],
        *["--length", "short", "--max-tokens", "2", "--temperature", "0.5", "--rate", "100", "--concurrency", "2"],
    )
    assert code == 0
    [record] = read_records("r.jsonl")
    settings = {"temperature": 0.5, "max_tokens": 2}
    assert record["arguments"]["caption"] == {"length": "short", "settings": settings}
    assert record["arguments"]["query"] == {"question": "How many?", "settings": settings}
    assert record["result"]["caption"]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["nowhere", "--skill", "caption", "--out", "r"], "No file or directory matches 'nowhere'"),
        (["photos/*.bmp", "--skill", "caption", "--out", "r"], "'photos/*.bmp'"),
        (["photos", "--skill", "caption"], "--out"),
        (["photos", "--skill", "detect", "--out", "r"], "detect requires --object"),
        (["photos", "--skill", "query", "--out", "r"], "query requires --question"),
        (["photos", "--skill", "caption", "--out", "r", "--question", "?"], "takes no question="),
        (["photos", "--skill", "caption", "--out", "r", "--concurrency", "0"], "concurrency"),
        (["photos", "--skill", "caption", "--out", "r", "--rate", "-1"], "rate"),
        (["photos", "--skill", "caption", "--out", "photos/b.png", "--resume"], "is not a results file"),
        (["photos", "--skill", "caption", "--out", "no/where.jsonl"], "cannot be used"),
        (["photos/.dir/..", "--skill", "caption", "--out", "photos"], "cannot be used"),
        (["empty", "--skill", "caption", "--out", "r"], "No images found in empty"),
    ],
)
def test_wrong_usage(words: list[str], says: str, folder: Path, cli: Cli) -> None:
    (folder / "empty").mkdir()
    code, _, err = cli("run", *words)
    assert (code, says in err) == (2, True), err


def test_the_parser_rejects(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["--skill", "draw"],
        [],
        ["--skill", "caption", "--prices", "1"],
        ["--skill", "caption", "--rate", "x"],
    ):
        with pytest.raises(SystemExit) as stopped:
            main(["run", "photos", "--out", "r", *words])
        assert stopped.value.code == 2
    assert capsys.readouterr().err


def test_max_failures(folder: Path, cli: Cli) -> None:
    for n in range(20):
        (folder / f"{n}.jpg").write_bytes(b"no")
    run = ["run", "*.jpg", "--skill", "caption", "--out", "r.jsonl", "--max-failures", "2", "--concurrency", "1"]
    code, _, err = cli(*run)
    assert code == 1
    assert "not a supported image" in err
    assert "To resume: moondream-async run --retry-failed '*.jpg'" in err
    assert len(list(read_records("r.jsonl"))) == 3


def test_max_cost(folder: Path, cli: Cli) -> None:
    run = ["run", "photos", "--skill", "caption", "--out", "r.jsonl", "--prices", "1000,1000", "--concurrency", "1"]
    code, _, err = cli(*run, "--max-cost", "1.5")
    assert code == 1
    done = len(list(read_records("r.jsonl")))
    assert 1 <= done < 4
    assert f"{4 - done} items remain" in err
    assert err.count("Stopped by") == 1
    assert "To resume: moondream-async run photos" in err
    code, _, err = cli("run", "photos", "--skill", "caption", "--out", "new.jsonl", "--max-cost", "1")
    assert code == 2
    assert "moondream-async: --max-cost needs --prices IN,OUT, or a --model with known prices.\n" in err
    assert not Path("new.jsonl").exists()


def test_dry_run(folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch, scene: bytes, moondream_sandbox: Any) -> None:
    monkeypatch.delenv("MOONDREAM_BASE_URL")
    (folder / "photos" / "bad.jpg").write_bytes(b"no image")
    words = ["run", "photos", "https://example.com/a.jpg", "--skill", "caption", "--dry-run"]
    code, out, _ = cli(*words)
    assert code == 0
    assert "cost         unknown" in out  # the server's default model is not documented
    code, out, _ = cli(*words, "--rate", "2", "--model", "moondream3-preview")
    assert code == 0
    assert re.search(r"items +6\n", out)
    assert f"{4 * len(scene) / 1000:.1f} KB" in out
    assert "unreadable   1 of those 5" in out
    assert "4,380 input and 720 output" in out
    assert "prices as of" in out
    assert "at least 3 s" in out
    code, out, _ = cli(*words, "--prices", "1,10", "--json")
    estimate = json.loads(out)
    assert estimate["cost"] == pytest.approx((4380 * 1 + 720 * 10) / 1e6)
    assert estimate["nbytes_sent"] > estimate["nbytes"]
    assert not (folder / "r.jsonl").exists()
    labels = ["--skill", "detect", "--object", "a", "--object", "b"]
    assert json.loads(cli("run", "photos/b.png", *labels, "--dry-run", "--json")[1])["output_tokens"] == 20
    monkeypatch.setenv("MOONDREAM_BASE_URL", moondream_sandbox.base_url)
    assert cli("run", "photos/b.png", "photos/a.PNG", "--skill", "caption", "--out", "done.jsonl")[0] == 0
    remaining = json.loads(cli(*words, "--out", "done.jsonl", "--prices", "1,10", "--json")[1])
    assert (remaining["items"], remaining["finished"], remaining["input_tokens"]) == (6, 2, 730 * 4)
    assert cli(*words, "--out", "photos/b.png")[0] == 2
    (folder / "r.jsonl").write_bytes(b"")
    assert json.loads(cli(*words, "--out", "r.jsonl", "--json")[1])["finished"] == 0
    assert (folder / "r.jsonl").read_bytes() == b""


class Slow:
    """The command in a process, with a slow sandbox."""

    def __init__(
        self,
        folder: Path,
        *words: str,
        latency: float = 0.3,
        stdin: int | None = None,
        stderr: int = subprocess.PIPE,
    ) -> None:
        from moondream_async.sandbox import Sandbox

        self.sandbox = Sandbox(latency=latency)
        self.sandbox.__enter__()
        lines = [json.dumps({"image": "photos/b.png", "id": n}) for n in range(200)]
        (folder / "items.jsonl").write_text("\n".join(lines))
        command = [sys.executable, "-m", "moondream_async", "run", *words]
        command += ["--skill", "caption", "--out", "r.jsonl", "--concurrency", "4"]
        environment = {**os.environ, "MOONDREAM_BASE_URL": self.sandbox.base_url}
        self.process = subprocess.Popen(
            command, env=environment, stdin=stdin, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
        self.out = folder / "r.jsonl"

    def until_lines(self, count: int) -> None:
        end = time.monotonic() + 20
        while not self.out.exists() or self.out.read_bytes().count(b"\n") < count:
            assert time.monotonic() < end
            time.sleep(0.02)

    def __enter__(self) -> Slow:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.sandbox.__exit__(None, None, None)


@pytest.mark.skipif(os.name != "posix", reason="signals")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_lets_in_flight_items_finish(number: int, folder: Path) -> None:
    with Slow(folder, "items.jsonl") as slow:
        slow.until_lines(4)
        slow.process.send_signal(number)
        out, err = slow.process.communicate(timeout=20)
    assert slow.process.returncode == 128 + number
    assert re.search(r"Finishing in-flight items: \d in flight, about \d+ s; again to stop now", err)
    assert "To resume: moondream-async run items.jsonl" in err
    done = len(list(read_records(slow.out)))
    assert f"{done} done, 0 failed" in out
    assert 4 <= done < 200  # tests/system/bulk/test_kill.py checks that items in flight are finished


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_second_signal_stops_at_once(folder: Path) -> None:
    with Slow(folder, "items.jsonl", latency=2.0) as slow:
        slow.until_lines(4)
        slow.process.send_signal(signal.SIGINT)
        time.sleep(0.8)  # a signal that follows sooner counts as the same
        slow.process.send_signal(signal.SIGINT)
        slow.process.communicate(timeout=20)
    assert slow.process.returncode == 130
    assert len(list(read_records(slow.out))) == 4  # the next four were cancelled


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_standard_input_is_processed_as_it_arrives(folder: Path) -> None:
    with Slow(folder, "-", stdin=subprocess.PIPE) as slow:
        assert slow.process.stdin is not None
        slow.process.stdin.write("photos/b.png\nphotos/a.PNG\n")
        slow.process.stdin.flush()
        slow.until_lines(2)  # the pipe is still open
        slow.process.send_signal(signal.SIGINT)
        assert slow.process.wait(20) == 130
    assert sorted(record["id"] for record in read_records(slow.out)) == ["photos/a.PNG", "photos/b.png"]


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals")
def test_the_progress_bar_on_a_terminal(folder: Path) -> None:
    reader, terminal = pty.openpty()
    with Slow(folder, "photos", stderr=terminal) as slow:
        out, _ = slow.process.communicate(timeout=20)
        os.close(terminal)
        shown = b""
        try:
            while piece := os.read(reader, 10_000):
                shown += piece
        except OSError:  # the other end is closed
            pass
    os.close(reader)
    assert "4 done, 0 failed" in out
    assert b"4/4" in shown
    assert b"tokens" in shown


def test_plain_lines_without_a_terminal(folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("moondream_async._cli.progress._LINE_INTERVAL", 0.0)
    _, _, err = cli("run", "photos", "--skill", "caption", "--out", "r.jsonl", "--concurrency", "1")
    skipped, *lines = err.splitlines()
    assert "skipped" in skipped
    assert re.fullmatch(r"100% 4/4 - [\d.]+/s - [\d,]+ tokens", lines[-1])
    assert "\x1b" not in err


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (61, "1:01 min"), (7265, "2:01 h")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_names_that_are_not_utf_8(folder: Path, cli: Cli, scene: bytes) -> None:
    try:
        Path(os.fsdecode(b"photos/\xff\n.png")).write_bytes(scene)
    except OSError:
        pytest.skip("the file system does not support such names")
    assert cli("run", "photos", "--skill", "caption", "--out", "r.jsonl")[0] == 0
    assert os.fsdecode(b"photos/\xff\n.png") in [record["id"] for record in read_records("r.jsonl")]
    code, out, _ = cli("run", "photos", "--skill", "caption", "--out", "r.jsonl", "--resume")
    assert (code, "0 done, 0 failed, 5 already in the file" in out) == (0, True)


def test_a_pipe_as_a_list_is_rejected(folder: Path) -> None:
    os.mkfifo(folder / "in.jsonl")
    with pytest.raises(ConfigurationError, match="use '-'"):
        Inputs(["in.jsonl"])


def test_a_closed_stderr(folder: Path) -> None:
    with Slow(folder, "photos", latency=0.0) as slow:
        assert slow.process.stderr is not None
        slow.process.stderr.close()
        out = slow.process.stdout.read() if slow.process.stdout else ""
        assert slow.process.wait(20) == 0
        slow.process.stderr = None
    assert "4 done" in out


def test_an_empty_input_is_rejected() -> None:
    with pytest.raises(ConfigurationError):
        Inputs([""])
