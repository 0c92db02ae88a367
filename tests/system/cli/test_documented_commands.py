"""All command lines in the README, the documentation and the help are accepted."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from moondream_async._cli import arguments, main
from moondream_async._cli.app import Group
from moondream_async._cli.main_group import main_group

ROOT = Path(__file__).parents[3]


def examples(group: Group) -> list[str]:
    own = [f"moondream-async {example}" for example in group.examples]
    for command in group.commands.values():
        own += examples(command) if isinstance(command, Group) else [f"moondream-async {e}" for e in command.examples]  # type: ignore[attr-defined]
    return own


def documented() -> list[str]:
    blocks = [
        block
        for path in (ROOT / "README.md", *(ROOT / "docs").rglob("*.md"))
        for block in re.findall(r"```bash\n(.*?)```", path.read_text("utf-8"), re.DOTALL)
    ]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [line for line in lines if line.startswith("moondream-async ")]


@pytest.mark.parametrize("line", dict.fromkeys([*documented(), *examples(main_group)]))
def test_the_command_accepts(line: str, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Any] = []
    module = SimpleNamespace(
        **dict.fromkeys(("run", "models", "sandbox", "proxy", "playground", "mcp"), started.append)
    )
    monkeypatch.setattr(arguments.importlib, "import_module", lambda _: module)
    words = shlex.split(re.split(r" [<>|]", line)[0], comments=True)
    assert main(words[1:]) == 0
    assert len(started) == 1


def test_there_are_examples() -> None:
    assert len(documented()) > 15
    assert len(examples(main_group)) > 50
