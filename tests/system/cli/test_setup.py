"""The commands `login`, `doctor` and `completion`, and what they save and reveal."""

from __future__ import annotations

import io
import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moondream_async._cli import doctor, main, saved_login
from moondream_async.sandbox import Sandbox

Cli = Callable[..., tuple[int, str, str]]
KEY = "md-0123456789-abcdef"


@pytest.fixture
def cli(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)

    def run_command(*words: str, stdin: str = "") -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
        code = main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run_command


def test_login_is_used_and_removed(cli: Cli, tmp_path: Path, scene: bytes) -> None:
    (tmp_path / "a.png").write_bytes(scene)
    with Sandbox(api_key=KEY) as sandbox:
        code, out, _ = cli("login", "--base-url", sandbox.base_url, "--model", "moondream3-preview", stdin=f" {KEY}\n")
        assert (code, KEY in out) == (0, False)
        assert "the key ending in cdef" in out
        assert cli("caption", "a.png")[0] == 0
        assert "moondream3-preview" in cli("doctor")[1]
    path = saved_login.path()
    if os.name == "posix":
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert [each.name for each in path.parent.iterdir()] == [path.name]
    assert cli("login", "--remove")[1] == f"Removed {path}\n"
    assert cli("login", "--remove")[1] == "No login is saved.\n"
    assert not path.exists()


def test_a_refused_key_is_not_saved(cli: Cli) -> None:
    with Sandbox(api_key=KEY) as sandbox:
        code, _, err = cli("login", "--base-url", sandbox.base_url, stdin="md-another-key-here\n")
    assert (code, "Invalid API key" in err) == (1, True)
    assert "The server refused the key ending in here from your input." in err
    assert "md-another" not in err
    assert not saved_login.path().exists()


def test_a_key_of_the_environment_is_not_sent_without_one_entered(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOONDREAM_API_KEY", KEY)
    with Sandbox(status=401) as sandbox:
        code, _, err = cli("login", "--base-url", sandbox.base_url)
    assert (code, "requires a key, and you entered none" in err) == (1, True), err
    assert not saved_login.path().exists()


def test_login_says_that_the_environment_wins(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOONDREAM_API_KEY", KEY)
    with Sandbox() as sandbox:
        _, _, err = cli("login", "--base-url", sandbox.base_url, stdin=KEY)
    assert err == ("MOONDREAM_API_KEY is set, and wins over the saved login, so the saved server is not used either.\n")


@pytest.mark.parametrize(
    ("words", "stdin", "says"),
    [
        ([], "", "A key is needed for Moondream Cloud"),
        (["--base-url", "http://127.0.0.1:9/v1"], KEY, "Nothing was saved"),
        (["--base-url", "nonsense"], KEY, "must look like"),
        ([], "two words", "has characters that no key has"),
    ],
)
def test_what_cannot_be_saved(words: list[str], stdin: str, says: str, cli: Cli) -> None:
    code, _, err = cli("login", *words, stdin=stdin)
    assert (code, says in err) == (1, True), err
    assert not saved_login.path().exists()


def test_a_login_that_cannot_be_read(cli: Cli) -> None:
    saved_login.path().parent.mkdir(parents=True)
    for text in ("{", "[]", '{"base_url": 1}'):
        saved_login.path().write_text(text)
        code, _, err = cli("models")
        assert (code, "Run `moondream-async login` again" in err) == (1, True)


def test_a_saved_key_is_sent_to_the_saved_server_only(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox(api_key=KEY) as saved, Sandbox(api_key=KEY) as other:
        assert cli("login", "--base-url", saved.base_url, stdin=KEY)[0] == 0
        assert cli("batch", "list")[0] == 0
        assert cli("batch", "list", "--base-url", saved.base_url)[0] == 0
        code, _, err = cli("batch", "list", "--base-url", other.base_url)
        assert (code, "No key was sent" in err) == (1, True)
        monkeypatch.setenv("MOONDREAM_BASE_URL", other.base_url)
        assert cli("batch", "list")[0] == 1
        monkeypatch.delenv("MOONDREAM_BASE_URL")
        monkeypatch.setenv("MOONDREAM_API_KEY", KEY)
        _, out, _ = cli("doctor", "--json", "--base-url", saved.base_url)
        assert "MOONDREAM_API_KEY" in json.loads(out)["key"]


def test_a_key_of_the_environment_is_not_sent_to_the_saved_server(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox() as saved:
        assert cli("login", "--base-url", saved.base_url, stdin=KEY)[0] == 0
    monkeypatch.setenv("MOONDREAM_API_KEY", KEY)
    _, out, _ = cli("doctor", "--json")
    assert json.loads(out)["server"] == "https://api.moondream.ai/v1 (the default)"


def test_the_library_does_not_read_the_login(cli: Cli) -> None:
    from moondream_async import Client, ConfigurationError

    with Sandbox() as saved:
        assert cli("login", "--base-url", saved.base_url, stdin=KEY)[0] == 0
        with pytest.raises(ConfigurationError, match="No API key"):
            Client()


def test_doctor(cli: Cli, moondream_sandbox: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    code, out, _ = cli("doctor")
    assert code == 1
    assert "none: run `moondream-async login`, or set MOONDREAM_API_KEY" in out
    assert "not installed" not in out
    monkeypatch.setitem(sys.modules, "av", None)
    assert "not installed  video (pip install 'moondream-async[NAME]')" in cli("doctor")[1]
    monkeypatch.setenv("MOONDREAM_API_KEY", KEY)
    code, out, _ = cli("doctor", "--base-url", moondream_sandbox.base_url)
    assert (code, out.endswith("All is well.\n")) == (0, True)
    for says in ("Python", "vision", "ending in cdef from MOONDREAM_API_KEY", "(an option)", "2 models"):
        assert says in out
    assert KEY not in out
    code, out, _ = cli("doctor", "--base-url", moondream_sandbox.base_url, "--model", "unknown")
    assert (code, "the server does not list it" in out) == (1, True)
    code, out, _ = cli("doctor", "--base-url", "http://127.0.0.1:9/v1", "--json")
    report = json.loads(out)
    assert (code, report["ok"]) == (1, False)
    assert "http://127.0.0.1:9/v1" in report["answer"]


@pytest.mark.skipif(os.name != "posix", reason="file permissions")
def test_doctor_warns_if_others_can_read_the_login(cli: Cli) -> None:
    with Sandbox() as sandbox:
        assert cli("login", "--base-url", sandbox.base_url, stdin=KEY)[0] == 0
        saved_login.path().chmod(0o644)
        code, out, _ = cli("doctor")
    assert (code, "other users can read" in out) == (1, True)


def test_doctor_does_not_wait_for_a_name_server(tmp_path: Path) -> None:
    script = "import socket, time; socket.getaddrinfo = lambda *_, **__: time.sleep(60)\n"
    script += (
        "from moondream_async._cli import doctor, main; doctor._LIMIT = 0.2; main(['doctor', '--base-url', 'http://x'])"
    )
    environment = {**os.environ, "XDG_CONFIG_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert "No answer within 0.2 s" in done.stdout
    assert doctor._LIMIT < 10


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(shell: str, cli: Cli) -> None:
    code, out, _ = cli("completion", shell)
    assert code == 0
    assert f"_MOONDREAM_ASYNC_COMPLETE={shell}_complete" in out
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=out, text=True, check=True, timeout=30)


@pytest.mark.parametrize(
    ("words", "completions"),
    [
        ("capt", ["plain,caption"]),
        ("run det", ["plain,detect", "file,det"]),
        ("run --sk", ["plain,--skill"]),
        ("caption --length ", ["plain,short", "plain,normal", "plain,long"]),
        ("batch s", ["plain,submit", "plain,status"]),
        ("--model m batch s", ["plain,submit", "plain,status"]),
        ("completion ", ["plain,bash", "plain,zsh", "plain,fish"]),
        ("caption ph", ["file,ph"]),
    ],
)
def test_completions(words: str, completions: list[str], monkeypatch: pytest.MonkeyPatch, cli: Cli) -> None:
    line = f"moondream-async {words}"
    for name, value in (("COMPLETE", "bash_complete"),):
        monkeypatch.setenv(f"_MOONDREAM_ASYNC_{name}", value)
    monkeypatch.setenv("COMP_WORDS", line)
    monkeypatch.setenv("COMP_CWORD", str(len(line.split(" ")) - 1))
    code, out, _ = cli()
    assert (code, out.splitlines()) == (0, completions)
