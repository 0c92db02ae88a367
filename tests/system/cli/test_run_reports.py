"""What `moondream-async run` says: before it pays, while it waits, and when items fail."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moondream_async._cli import main
from moondream_async._progress.money import dollars
from moondream_async.bulk import read_records
from moondream_async.sandbox import Sandbox
from tests.support.films import film

Cli = Callable[..., tuple[int, str, str]]
NOWHERE = "http://127.0.0.1:9/v1"


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
    (tmp_path / "photos").mkdir()
    for name in "abcd":
        (tmp_path / "photos" / f"{name}.png").write_bytes(scene)

    def run_command(*words: str) -> tuple[int, str, str]:
        try:
            code = main(words)
        except SystemExit as exc:
            code = int(str(exc.code))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command


def test_the_skill_comes_first(cli: Cli) -> None:
    assert cli("run", "detect", "photos", "--object", "red", "-o", "r.jsonl")[0] == 0
    code, out, _ = cli("run", "photos", "--skill", "detect", "--object", "red", "--out", "r.jsonl")
    assert (code, "0 done, 0 failed, 4 already in the file" in out) == (0, True)


def test_failures_are_grouped_and_listed_in_a_file(cli: Cli, scene: bytes) -> None:
    for name in ("bad-1.jpg", "bad-2.jpg"):
        Path("photos", name).write_bytes(b"no image")
    Path("photos", "empty.jpg").touch()
    run = ("run", "caption", "photos", "-o", "r.jsonl")
    code, _, err = cli(*run)
    assert code == 3
    failed, empty, listed, again = err.splitlines()
    assert re.fullmatch(
        r"failed: photos/bad-\d.jpg: The file is not a supported image.* \(and 1 more like this\)", failed
    )
    assert empty.startswith("failed: photos/empty.jpg: ")
    assert listed == "failed items: r.failed.jsonl"
    assert again == "To retry failed items: moondream-async run --retry-failed caption photos -o r.jsonl"
    lines = [json.loads(line) for line in Path("r.failed.jsonl").read_text().splitlines()]
    assert sorted(line["id"] for line in lines) == ["photos/bad-1.jpg", "photos/bad-2.jpg", "photos/empty.jpg"]
    assert {line["error"]["type"] for line in lines} == {"ImageError"}
    for name in ("bad-1.jpg", "bad-2.jpg", "empty.jpg"):
        Path("photos", name).write_bytes(scene)
    assert cli(*run, "--retry-failed")[0] == 0
    assert not Path("r.failed.jsonl").exists()


def test_another_file_is_not_overwritten_by_failed_items(cli: Cli) -> None:
    Path("photos", "bad.jpg").write_bytes(b"no image")
    Path("r.failed.jsonl").write_text("mine\n")
    code, _, err = cli("run", "caption", "photos", "-o", "r.jsonl")
    assert (code, "cannot be listed in r.failed.jsonl: it holds something else" in err) == (3, True)
    assert Path("r.failed.jsonl").read_text() == "mine\n"


def test_a_dead_server_stops_the_run_and_loses_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("items.jsonl").write_text("\n".join(json.dumps({"image": "photos/a.png", "id": n}) for n in range(60)))
    monkeypatch.setattr("moondream_async._http.retrying.random.random", lambda: 0.0)
    run = ("run", "caption", "items.jsonl", "-o", "r.jsonl")
    code, out, err = cli(*run, "--base-url", NOWHERE)
    assert code == 1
    assert " done, " in out
    reason, again = err.splitlines()[-2:]
    assert re.match(r"moondream-async: The connection to http://127.0.0.1:9/v1\S* failed: .*after 4 attempts", reason)
    assert again.startswith("To resume once the server can be reached: moondream-async run --retry-failed caption")
    assert not list(read_records("r.jsonl"))
    assert not Path("r.failed.jsonl").exists()
    assert "60 done" in cli(*run)[1]


def test_a_refused_key(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOONDREAM_API_KEY", "md-wrong-0123456789")
    with Sandbox(api_key="md-right-0123456789") as sandbox:
        code, _, err = cli("run", "caption", "photos", "-o", "r.jsonl", "--base-url", sandbox.base_url)
    assert code == 1
    assert err.count("the key ending in 6789 from MOONDREAM_API_KEY") == 1
    assert "To resume with a valid key: moondream-async run" in err


@pytest.mark.parametrize(
    "words", [["caption", "photos/a.png"], ["run", "caption", "photos", "-o", "r.jsonl"]], ids=" ".join
)
def test_waits_are_shown(words: list[str], cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("run", "connection"):
        monkeypatch.setattr(f"moondream_async._cli.{module}._SILENCE", 0.0)
    with Sandbox(status=503, times=2, retry_after=0.01) as sandbox:
        code, _, err = cli(*words, "--base-url", sandbox.base_url)
        assert code == 0
        assert re.search(r"^waiting 0\.0 s before attempt 2 of 4: Engine is not ready \(HTTP 503", err, re.MULTILINE)
    with Sandbox(status=429, times=1, retry_after=0.01) as sandbox:
        _, _, err = cli("caption", "photos/a.png", "--base-url", sandbox.base_url)
        assert re.search(r"^waiting 0\.0 s before attempt 2: .*HTTP 429", err, re.MULTILINE)
        assert cli("-q", "caption", "photos/a.png", "--base-url", sandbox.base_url)[2] == ""


def test_quiet_prints_errors_only(cli: Cli) -> None:
    Path("photos", "bad.jpg").write_bytes(b"no image")
    code, out, err = cli("-q", "run", "caption", "photos", "-o", "r.jsonl")
    assert (code, out) == (3, "")
    assert [line.split(":")[0] for line in err.splitlines()] == ["failed"]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["detct", "photos", "-o", "r.jsonl"], "'detct' is not a skill"),
        (["detect", "-o", "r.jsonl"], "Missing argument 'INPUT...'"),
        (["detect", "photos", "-o", "r.jsonl"], "detect requires --object"),
        (["caption", "photos", "-o", "no/r.jsonl"], "cannot be used"),
        (["caption", "photos", "-o", "r.jsonl", "--fresh", "--resume"], "cannot be used with --resume"),
        (["caption", "film.mp4", "-o", "r.jsonl"], "add --fps 1"),
        (["caption", "photos", "-o", "other.jsonl"], "holds results of another run"),
        (["caption", "photos", "-o", "other.jsonl", "--dry-run"], "holds results of another run"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_work_fails_before_a_call(words: list[str], says: str, cli: Cli) -> None:
    assert cli("run", "caption", "photos/a.png", "--length", "short", "-o", "other.jsonl")[0] == 0
    Path("film.mp4").touch()
    code, _, err = cli("run", *words)
    assert (code, says in err) == (2, True), err
    assert not Path("r.jsonl").exists()


@pytest.mark.parametrize("word", ["film.mp4", "films", "*.mp4"])
def test_frames_of_a_video(word: str, cli: Cli, tmp_path: Path) -> None:
    film(tmp_path / "film.mp4")
    if word == "films":
        Path("films.mp4").symlink_to("film.mp4")
        word = "films*"
    run = ("run", "caption", word, "--fps", "2", "--length", "short", "-o", "r.jsonl")
    code, out, _ = cli(*run)
    assert (code, " 0 failed" in out) == (0, True)
    ids = sorted(record["id"] for record in read_records("r.jsonl"))
    assert [name for name in ids if re.fullmatch(r"films?\.mp4#t=\d+\.\d{3}", name)] == ids
    assert len(ids) > 1
    assert f"0 done, 0 failed, {len(ids)} already in the file" in cli(*run)[1]


def test_a_missing_video_extra_fails_before_a_call(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("film.mp4").touch()
    monkeypatch.setitem(sys.modules, "av", None)
    code, _, err = cli("run", "caption", "film.mp4", "--fps", "1", "-o", "r.jsonl")
    assert (code, "--fps needs the extra 'video'" in err) == (2, True)


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals")
@pytest.mark.parametrize("columns", ["80", "120"])
def test_the_bar_shows_the_time_left_in_any_terminal(columns: str) -> None:
    script = """
from moondream_async._progress.displays import find_display
from moondream_async._progress.reporter import show_items
from moondream_async.bulk import Progress
figures = dict(total=50_000, succeeded=30_959, failed=41, cost=9.1, input_tokens=1, elapsed=15_500.0)
with find_display() as bar:
    show_items(bar, Progress(**figures, limited_by="server limit"))
"""
    reader, terminal = pty.openpty()
    environment = {**os.environ, "COLUMNS": columns, "TERM": "xterm"}
    subprocess.run([sys.executable, "-c", script], env=environment, stderr=terminal, timeout=60, check=True)
    shown = os.read(reader, 100_000).decode()
    os.close(terminal)
    os.close(reader)
    assert "62% 31,000/50,000 - 2.0/s" in shown
    assert "2:38 h left" in shown
    assert ("(server limit)" in shown) == (columns == "120")


def test_dry_run_of_a_batch(cli: Cli, scene: bytes) -> None:
    before = cli("batch", "list")[1]
    words = ["batch", "submit", "detect", "photos", "--object", "red", "--dry-run", "--prices", "1,10"]
    code, out, _ = cli(*words)
    assert (code, "items        4\n" in out, "$0.5 and $5 per million tokens" in out) == (0, True, True)
    assert json.loads(cli(*words, "--json")[1])["items"] == 4
    image = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    line = json.dumps({"id": "a", "skill": "caption", "image": image})
    Path("ready.jsonl").write_text(f"{line}\n{line}\n")
    code, out, _ = cli("batch", "submit", "ready.jsonl", "--dry-run", "--prices", "1,10")
    assert (code, "lines        2 (2 caption), in 1 batch\n" in out, "cost         about $0.00" in out) == (
        0,
        True,
        True,
    )
    assert json.loads(cli("batch", "submit", "ready.jsonl", "--dry-run", "--json")[1])["batches"] == 1
    assert cli("batch", "list")[1] == before  # nothing was submitted


def test_a_dry_run_compares_the_cost_with_the_limit(cli: Cli) -> None:
    words = ["run", "caption", "photos", "--dry-run", "--prices", "1,10"]
    code, out, _ = cli(*words, "--max-cost", "0.0001")
    assert (code, "limit        above --max-cost 0.0001: not all items would be processed\n" in out) == (0, True)
    assert cli(*words, "--max-cost", "0.0001", "--json")[2].startswith("above --max-cost 0.0001")
    assert "limit" not in cli(*words, "--max-cost", "1")[1]
    assert cli(*words, "--max-cost", "-1")[0] == 2
    assert "--max-cost needs --prices IN,OUT" in cli("run", "caption", "photos", "--dry-run", "--max-cost", "1")[1]


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (0, "$0.00"),
        (0.0042, "$0.0042"),
        (0.00001234, "$0.000012"),
        (0.014, "$0.014"),
        (0.1, "$0.10"),
        (1234.5, "$1,234.50"),
    ],
)
def test_sums_show_enough_digits(amount: float, text: str) -> None:
    assert dollars(amount) == text


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["segment", "photos", "--object", "red"], "Batches cannot segment: choose one of"),
        (["photos"], "Name a skill first, such as `batch submit caption photos`"),
        (["caption"], "Missing argument 'INPUT...'"),
        (["ready.jsonl", "--max-cost", "1", "--dry-run"], "--max-cost works only with images"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_submitted(words: list[str], says: str, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MOONDREAM_BASE_URL")  # so that no key is found
    code, _, err = cli("batch", "submit", *words)
    assert (code, says in err) == (2, True), err


def test_submit_prints_the_next_command(cli: Cli) -> None:
    code, _, err = cli("batch", "submit", "caption", "photos", "--length", "short", "--job", "my job")
    assert (code, err) == (0, "Next: moondream-async batch wait 'my job'\n")
