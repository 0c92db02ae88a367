"""The code of the site runs unchanged against the sandbox, and prints the output that the pages show."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from moondream_async.sandbox import Sandbox
from tests.support.documentation import environment, make_folder, run_blocks
from tools.doc_blocks import ROOT, Block, blocks, pages

PAGES = [page for page in pages() if page != ROOT / "README.md"]
RUN_ELSEWHERE = "examples/"  # blocks that equal a program or a cell of these: tests/examples


def runs_here(block: Block) -> bool:
    return "not run" not in block.marks and RUN_ELSEWHERE not in block.marks.get("not type-checked", "")


BLOCKS = [block for page in PAGES for block in filter(runs_here, blocks(page))]
OURS = re.compile(r"(\w+=\S+ )?(moondream-async|curl) ")
SET_UP = re.compile(r"(pip install|uv add|export) ")


def runnable_commands() -> list[Block]:
    """Return the blocks whose lines are all our commands, or curl."""
    found = []
    for block in BLOCKS:
        lines = [line for line in block.code.splitlines() if line.strip() and not line.startswith(("#", " ", "}", "'"))]
        if block.language == "bash" and lines and all(map(OURS.match, lines)):
            found.append(block)
    return found


def test_no_command_is_forgotten() -> None:
    """Blocks of commands run, are marked with the reason why not, or install or set something first."""
    runnable = {block.name for block in runnable_commands()}
    rest = [block for block in BLOCKS if block.language == "bash" and block.name not in runnable]
    assert [block.name for block in rest if not SET_UP.match(block.code)] == []


@pytest.mark.skipif(os.name != "posix", reason="needs fork")
def test_python(tmp_path: Path, moondream_sandbox: Any) -> None:
    python = [block for block in BLOCKS if block.language == "python"]
    assert len(python) > 50
    problems = run_blocks(python, tmp_path, moondream_sandbox.base_url)
    assert not problems, "\n".join(problems)


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX shell")
@pytest.mark.parametrize("block", runnable_commands(), ids=lambda block: block.name)
def test_commands(block: Block, tmp_path: Path, moondream_sandbox: Sandbox) -> None:
    folder = make_folder(tmp_path / "folder")
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "moondream-async").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m moondream_async "$@"\n')
    (programs / "moondream-async").chmod(0o755)
    if "curl " in block.code and shutil.which("curl") is None:
        pytest.skip("needs curl")
    code = block.code.replace("https://api.moondream.ai/v1", moondream_sandbox.base_url)
    variables = environment(moondream_sandbox.base_url) | {"PATH": f"{programs}:{os.environ['PATH']}"}
    if code.count("moondream-async ") == code.count(
        "--dry-run"
    ):  # sends nothing, and only knows the prices of Moondream's own server
        del variables["MOONDREAM_BASE_URL"]
    done = subprocess.run(
        ["sh", "-e", "-c", code], cwd=folder, env=variables, capture_output=True, text=True, check=False, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert block.prints(done.stdout + done.stderr), done.stdout + done.stderr
