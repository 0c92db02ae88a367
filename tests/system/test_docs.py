"""The code of the README runs unchanged against the sandbox. That of the site: tests/site."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.documentation import run_blocks
from tools.doc_blocks import ROOT, blocks

README = ROOT / "README.md"


@pytest.mark.skipif(os.name != "posix", reason="needs fork")
def test_readme_snippets(tmp_path: Path, moondream_sandbox: Any) -> None:
    """Each runs in a process forked from one that has imported the package; a traceback names the snippet."""
    snippets = [block for block in blocks(README) if block.language == "python"]
    assert len(snippets) >= 5
    assert not any(block.marks for block in snippets)  # all of them run
    problems = run_blocks(snippets, tmp_path, moondream_sandbox.base_url)
    assert not problems, "\n".join(problems)


def test_the_readme_has_a_demo_command_and_a_test_command() -> None:
    text = README.read_text()
    assert re.findall(r"<!-- (\w+)-command -->", text) == ["demo", "test"]


def test_the_readme_is_short() -> None:
    text = README.read_text()
    assert len(text.splitlines()) <= 150
    assert len(text.split()) <= 900
    assert max(map(len, text.splitlines())) <= 140
