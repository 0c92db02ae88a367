"""The inputs of the command: encodings of lists, unreadable folders, links, skipped files."""

from __future__ import annotations

import io
import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moondream_async import ConfigurationError
from moondream_async._cli import main
from moondream_async._cli.folders import Skipped
from moondream_async._cli.inputs import Inputs

Cli = Callable[..., tuple[int, str, str]]

LINE = json.dumps({"image": "a.png", "question": "où est le café ?"}, ensure_ascii=False)
NOT_UTF_8 = {
    "cp1252": (LINE + "\n").encode("cp1252"),
    "latin-1 path": "no-such-café.png\n".encode("latin-1"),
    "UTF-16": (LINE + "\n").encode("utf-16"),
    "UTF-16, big": b"\xfe\xff" + (LINE + "\n").encode("utf-16-be"),
    "UTF-16, no mark": (LINE + "\n").encode("utf-16-le"),
    "UTF-16 paths": "a.png\n".encode("utf-16-be"),
    "UTF-32": (LINE + "\n").encode("utf-32"),
    "surrogate": rb'{"image": "a.png", "question": "\ud800"}',
    "nested surrogate": rb'{"image": "a.png", "settings": {"variant": ["\udcf9"]}}',
    "surrogate as bytes": b'{"image": "a.png", "question": "\xed\xa0\x80"}',
    "NaN": b'{"image": "a.png", "settings": {"temperature": NaN}}',
    "nested": b'{"image": "a.png", "settings": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.fixture
def folder(tmp_path: Path, scene: bytes, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.png").write_bytes(scene)
    return tmp_path


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], moondream_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("MOONDREAM_BASE_URL", moondream_sandbox.base_url)

    def run_command(*words: str) -> tuple[int, str, str]:
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command


@pytest.fixture
def locked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make folders named `locked` unreadable, even for root."""
    real = os.scandir

    def scandir(path: Any = ".") -> Any:
        if not isinstance(path, int) and Path(path).name == "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)


@pytest.mark.parametrize("name", NOT_UTF_8)
def test_lists_that_are_not_utf_8(name: str, folder: Path, cli: Cli) -> None:
    (folder / "l.jsonl").write_bytes(b'{"image": "a.png"}\n' * 2 + NOT_UTF_8[name])
    for words in (
        ["run", "l.jsonl", "--skill", "query", "--question", "?", "--out", "r.jsonl"],
        ["run", "l.jsonl", "--skill", "query", "--question", "?", "--dry-run"],
        ["batch", "submit", "l.jsonl", "--skill", "query", "--question", "?", "--job", "job"],
    ):
        code, _, err = cli(*words)
        assert code == 2
        assert "l.jsonl:3 " in err
    assert not (folder / "r.jsonl").exists()
    assert not (folder / "job").exists()


@pytest.mark.parametrize("others", [[], ["a.png"]])
def test_a_bad_list_fails_before_standard_input_is_read(others: list[str], folder: Path, cli: Cli) -> None:
    (folder / "l.jsonl").write_bytes(NOT_UTF_8["cp1252"])
    assert cli("run", "-", *others, "l.jsonl", "--skill", "caption", "--out", "r.jsonl")[0] == 2
    assert not (folder / "r.jsonl").exists()


def test_a_file_as_standard_input_is_validated_first(folder: Path) -> None:
    (folder / "l.txt").write_bytes(b"a.png\n" + NOT_UTF_8["cp1252"])
    command = [
        sys.executable,
        "-m",
        "moondream_async",
        "run",
        "-",
        "--skill",
        "caption",
        "--out",
        "r.jsonl",
        "--sandbox",
    ]
    with (folder / "l.txt").open("rb") as stdin:
        done = subprocess.run(command, stdin=stdin, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "standard input:2 is not UTF-8" in done.stderr
    assert not (folder / "r.jsonl").exists()
    (folder / "l.txt").write_bytes(b"skipped\n\xef\xbb\xbfa.png\r\n\r\n")
    with (folder / "l.txt").open("rb") as stdin:
        os.lseek(stdin.fileno(), 8, os.SEEK_SET)
        done = subprocess.run(command, stdin=stdin, capture_output=True, text=True, timeout=60)
    assert (done.returncode, "1 done, 0 failed" in done.stdout) == (0, True)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", "\r\n\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_byte_order_marks_and_line_ends(mark: str, end: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = (mark + end.join([LINE, '"b.png"', "c d.png", ""])).encode()
    expected = [("a.png", "a.png", {"question": "où est le café ?"}), "b.png", "c d.png"]
    (folder / "l.jsonl").write_bytes(data)
    assert list(Inputs(["l.jsonl"])) == expected
    assert list(Inputs(["*.jsonl"])) == expected
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert list(Inputs(["-"])) == expected


def test_a_ready_file_with_a_mark(folder: Path, cli: Cli) -> None:
    image = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
    line = json.dumps({"id": "é", "skill": "caption", "image": image}, ensure_ascii=False)
    (folder / "ready.jsonl").write_bytes(f"\ufeff{line}\r\n{line}\n".encode())
    code, _, err = cli("batch", "submit", "ready.jsonl", "--job", "job", "--out", "r.jsonl")
    assert (code, err.splitlines()[-1]) == (0, "2 done, 0 failed; results: r.jsonl")


def test_paths_that_are_not_utf_8(folder: Path, scene: bytes) -> None:
    name = os.fsdecode(b"caf\xe9.png")
    try:
        Path(name).write_bytes(scene)
    except OSError:
        pytest.skip("the file system does not support such names")
    (folder / "l.jsonl").write_bytes(b"caf\xe9.png\n" + json.dumps({"image": name, "id": name}).encode())
    assert list(Inputs(["l.jsonl"])) == [name, (name, name, {})]


@pytest.mark.usefixtures("locked")
@pytest.mark.parametrize("word", ["p", "p/**/*.png", "p/*/*.png", "**/*.png", "p/**"])
def test_a_folder_that_cannot_be_read(word: str, folder: Path, cli: Cli, scene: bytes) -> None:
    for name in ("p/open", "p/locked"):
        (folder / name).mkdir(parents=True)
        (folder / name / "b.png").write_bytes(scene)
    for words in (
        ["run", word, "--skill", "caption", "--out", "r.jsonl"],
        ["run", word, "--skill", "caption", "--dry-run"],
        ["batch", "submit", word, "--skill", "caption", "--length", "short", "--job", "job"],
    ):
        code, _, err = cli(*words)
        assert code == 2
        assert "p/locked' cannot be read: Permission denied" in err
    assert not (folder / "r.jsonl").exists()
    assert not (folder / "job").exists()


def test_names_are_not_looked_up_by_the_parser(folder: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda *_: False)
    code, out, _ = cli("run", "a.png", "a.png\0", "--skill", "caption", "--dry-run")
    assert (code, out) == (2, "")
    assert cli("run", "a.png", "--skill", "caption", "--dry-run")[0] == 0


def test_a_list_that_cannot_be_read(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "l.jsonl").touch()
    inputs = Inputs(["l.jsonl"])

    def denied(*_: object) -> Any:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", denied)
    with pytest.raises(ConfigurationError, match=r"'l\.jsonl' cannot be read: Permission denied"):
        inputs.count()


def test_linked_folders(folder: Path, scene: bytes) -> None:
    for name in ("elsewhere/deep", "p/z"):
        (folder / name).mkdir(parents=True)
        (folder / name / "b.png").write_bytes(scene)
    (folder / "p" / "link").symlink_to(folder / "elsewhere")
    (folder / "p" / "again").symlink_to(folder / "p" / "z")
    (folder / "p" / "loop").symlink_to(folder / "p")
    (folder / "elsewhere" / "back").symlink_to(folder / "p")
    inputs = Inputs(["p"])
    assert list(inputs) == ["p/z/b.png", "p/link/deep/b.png"]
    assert sorted(inputs.skipped.links) == ["p/again", "p/link/back", "p/loop"]
    assert "3 links to folders already searched (" in str(inputs.skipped)
    assert list(Inputs(["p/**/*.png"])) == ["p/link/deep/b.png", "p/z/b.png"]


def test_many_links_in_circles(folder: Path, scene: bytes) -> None:
    (folder / "p" / "q").mkdir(parents=True)
    (folder / "p" / "b.png").write_bytes(scene)
    for n in range(8):
        (folder / "p" / f"l{n}").symlink_to(folder / "p")
        (folder / "p" / "q" / f"l{n}").symlink_to(folder / "p")
    for word in ("p", "p/**/*.png", "p/**/**/*.png"):
        assert list(Inputs([word])) == ["p/b.png"]


def test_skipped_files_are_counted(folder: Path, cli: Cli, scene: bytes) -> None:
    (folder / "p" / ".git").mkdir(parents=True)
    for name in ("a.png", ".b.png", "c.txt", "d.TXT", "e.mp4", "noending"):
        (folder / "p" / name).write_bytes(scene)
    os.mkfifo(folder / "p" / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("p/s.jpg")
        says = "skipped: 2 hidden, 4 not images (2 .txt, 1 .mp4, 1 no extension), 2 not regular files"
        for words in (
            ["run", "p", "--skill", "caption", "--out", "r.jsonl"],
            ["run", "p", "--skill", "caption", "--dry-run"],
            ["batch", "submit", "p", "--skill", "caption", "--length", "short", "--job", "job"],
        ):
            code, _, err = cli(*words)
            assert code == 0
            assert err.splitlines()[0] == f"moondream-async: {says}"
    inputs = Inputs(["p/*", "p"])
    assert list(inputs) != []
    assert (inputs.skipped.folders, inputs.skipped.special) == (0, 4)


def test_folders_that_match_a_pattern_are_counted(folder: Path, scene: bytes) -> None:
    (folder / "p" / "q").mkdir(parents=True)
    (folder / "p" / "b.png").write_bytes(scene)
    inputs = Inputs(["p/*"])
    assert list(inputs) == ["p/b.png"]
    assert "1 folders that match the pattern" in str(inputs.skipped)


def test_the_error_of_a_broken_link_names_it(folder: Path, cli: Cli) -> None:
    (folder / "p").mkdir()
    (folder / "p" / "gone.png").symlink_to("nowhere.png")
    code, _, err = cli("run", "p", "--skill", "caption", "--out", "r.jsonl")
    assert (code, "p/gone.png" in err) == (3, True)


def test_a_very_deep_folder(folder: Path, scene: bytes) -> None:
    depth = 1200
    names = ["p" + "/d" * n for n in range(depth + 1)]
    for name in names:
        Path(name).mkdir()
    image = Path(names[-1], "b.png")
    image.write_bytes(scene)
    try:
        assert list(Inputs(["p"])) == [str(image)]
    finally:  # shutil.rmtree of the fixture would exceed the recursion limit
        image.unlink()
        for name in reversed(names):
            Path(name).rmdir()


def test_no_message_if_nothing_was_skipped() -> None:
    assert str(Skipped()) == ""
    assert "\x1b" not in str(Skipped(links=["\x1b[2J"] * 9))
