"""The reference has everything that is public."""

from __future__ import annotations

import re

import pytest

import moondream_async
from moondream_async import errors
from moondream_async._cli.main_group import main_group
from tools.command_reference import command_reference
from tools.doc_blocks import ROOT

TEXT = "\n".join(page.read_text("utf-8") for page in sorted((ROOT / "docs" / "reference").glob("*.md")))
DOCUMENTED = set(re.findall(r"^::: (\S+)$", TEXT, re.MULTILINE))
ERRORS = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}


@pytest.mark.parametrize("name", sorted(set(moondream_async.__all__) - {"__version__", "Outcome"} - ERRORS))
def test_public_names(name: str) -> None:
    value = getattr(moondream_async, name)
    module = f"{value.__module__}.{name}"
    assert {f"moondream_async.{name}", module} & DOCUMENTED or value.__module__ in DOCUMENTED


def test_the_tree_of_errors() -> None:
    tree = re.findall(r"^[│├└─ ]*(\w+Error)\b", (ROOT / "docs/reference/errors.md").read_text("utf-8"), re.MULTILINE)
    assert sorted(tree) == sorted(ERRORS)


def test_all_commands() -> None:
    page = command_reference()
    for name in main_group.commands:
        assert f"### `{name}`" in page
    assert "| `-o, --out FILE` |" in page


def test_the_table_of_environment_variables() -> None:
    page = (ROOT / "docs/reference/environment.md").read_text("utf-8")
    source = "\n".join(path.read_text("utf-8") for path in (ROOT / "moondream_async").rglob("*.py"))
    used = set(re.findall(r"\b((?:MOONDREAM|FAL)_[A-Z_]+)\b", source))
    internal = {"MOONDREAM_ASYNC_COMPLETE", "MOONDREAM_ENDPOINTS", "FAL_HEADERS", "FAL_KEYS_URL"}
    assert used - internal <= set(re.findall(r"`(\w+)`", page))
