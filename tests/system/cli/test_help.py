"""Help, options before the command, suggestions, and colors."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from moondream_async import __version__
from moondream_async._batches.wire import BATCH_SKILLS
from moondream_async._cli import main, options
from moondream_async._cli.app import Command, Group
from moondream_async._cli.main_group import main_group
from moondream_async.config import SKILLS


def commands(group: Group, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        yield (*words, name), command
        if isinstance(command, Group):
            yield from commands(command, (*words, name))


ALL = dict(commands(main_group))


def test_the_documentation_says_which_commands_take_an_option() -> None:
    documentation = Path(__file__).parents[3].joinpath("docs", "guides", "command.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| (`--[^|]*|`-q`[^|]*) \| ([^|]*) \|$", documentation, re.MULTILINE))
    listed = [set(re.findall(r"[a-z]+", names)) for names in rows.values()]
    of_model = listed[1]
    of_sandbox = of_model - {"login"}
    expected = [set(main_group.commands), of_model, of_sandbox, of_sandbox - {"playground", "mcp", "proxy"}]
    for options_text, names in zip(rows, expected, strict=True):
        for option in re.findall(r"`(-[^`]*)`", options_text):
            takes = {
                name for name, command in main_group.commands.items() if any(option in p.opts for p in command.params)
            }
            assert takes == names, option


def test_the_bare_command_prints_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    bare = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == bare
    assert re.findall(r"^(\S.*):", bare, re.MULTILINE) == [
        "Usage",
        "Options",
        "Ask",
        "Many",
        "Serve",
        "Set up",
        "Try",
        "Examples",
    ]


@pytest.mark.parametrize("words", [(), *ALL], ids=" ".join)
def test_every_help_page_has_three_examples(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*words, "--help"]) == 0
    out = capsys.readouterr().out
    assert len(re.findall(r"^  moondream-async " + " ".join(words), out.split("Examples:\n")[1], re.MULTILINE)) == 3
    assert not re.search(r"\x1b", out)


@pytest.mark.parametrize("words", ALL, ids=" ".join)
def test_every_command_takes_the_common_options(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    names = {name for parameter in ALL[words].params for name in parameter.opts}
    assert {"-q", "--quiet", "-v", "--verbose", "--version"} <= names
    assert main([*words, "--version"]) == 0
    assert capsys.readouterr().out == f"moondream-async {__version__}\n"


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (["help"], ["--help"]),
        (["help", "run"], ["run", "--help"]),
        (["version"], ["-V"]),
        (["run", "-h"], ["run", "--help"]),
    ],
)
def test_words_for_options(words: list[str], option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 0
    out = capsys.readouterr().out
    assert main(option) == 0
    assert capsys.readouterr().out == out


def test_the_choices_of_skills() -> None:
    assert options.SKILLS == SKILLS
    batch_skill = next(each for each in ALL["batch", "submit"].params if each.name == "skill")
    assert tuple(batch_skill.type.choices) == tuple(BATCH_SKILLS)  # type: ignore[attr-defined]


def test_options_may_come_before_the_command(moondream_sandbox: Any, capsys: pytest.CaptureFixture[str]) -> None:
    url = ["--base-url", moondream_sandbox.base_url]
    assert main([*url, "models"]) == 0
    after = capsys.readouterr().out
    assert "moondream3-preview" in after
    assert main(["models", *url]) == 0
    assert capsys.readouterr().out == after
    assert main([*url, "--format", "json", "models"]) == 0
    assert capsys.readouterr().out.startswith("{")
    assert main([*url, "batch", "--json", "list"]) == 0
    with pytest.raises(SystemExit):
        main(["--format", "bogus", "models"])
    assert "'bogus' is not one of 'table', 'json'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["capton", "a.jpg"], "'caption'"),
        (["run", "detct", "photos"], "'detect'"),
        (["caption", "a.jpg", "--lenght", "short"], "Did you mean '--length'?"),
        (["batch", "sumbit"], "Did you mean 'submit'?"),
    ],
)
def test_suggestions(words: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2
    assert says in capsys.readouterr().err


@pytest.mark.skipif(os.name != "posix", reason="pseudo-terminals")
@pytest.mark.parametrize("no_color", ["", "1"])
def test_colors_only_in_a_terminal(no_color: str, tmp_path: Path) -> None:
    reader, terminal = pty.openpty()
    environment = {**os.environ, "NO_COLOR": no_color, "TERM": "xterm"}
    for words in (["--help"], ["caption", "none.jpg", "--sandbox"]):
        command = [sys.executable, "-m", "moondream_async", *words]
        subprocess.run(
            command, cwd=tmp_path, env=environment, stdout=terminal, stderr=terminal, timeout=60, check=False
        )
        assert (b"\x1b[" in os.read(reader, 100_000)) == (not no_color)
    os.close(terminal)
    os.close(reader)


def test_commands_are_ours() -> None:
    assert all(isinstance(command, (Command, Group)) for command in ALL.values())
