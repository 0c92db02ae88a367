"""The code of the README runs unchanged against the sandbox."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.films import film
from tests.support.processes import IMPORTED

ROOT = Path(__file__).parents[2]
SNIPPETS = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)

RUN_ALL = """
import importlib, os, sys
for module in {modules!r}:  # only once
    importlib.import_module(module)
for number in range({count}):
    child = os.fork()
    if child == 0:
        os.chdir(os.path.join({folder!r}, f"snippet {{number}}"))
        with open("snippet.txt") as file:
            code = compile(file.read(), f"README snippet {{number}}", "exec")
        exec(code, {{"__name__": "__main__"}})
        sys.exit(0)
    if os.waitpid(child, 0)[1] != 0:
        sys.exit(1)
"""


def run(code: list[str], folder: Path, base_url: str) -> str:
    environment = {"MOONDREAM_BASE_URL": base_url, "FAL_BASE_URL": base_url.removesuffix("/v1") + "/fal"}
    environment |= {"PATH": "", "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, *code], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path, scene: bytes) -> Path:
    for name in ("photo.jpg", "a.jpg", "b.jpg"):
        (tmp_path / name).write_bytes(scene)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "c.jpg").write_bytes(scene)
    film(tmp_path / "film.mp4")
    return tmp_path


@pytest.mark.skipif(os.name != "posix", reason="needs fork")
def test_readme_snippets(folder: Path, moondream_sandbox: Any) -> None:
    """Each runs in a process forked from one that has imported the package; a traceback names the snippet."""
    for number, snippet in enumerate(SNIPPETS):
        shutil.copytree(folder, folder / f"snippet {number}", ignore=shutil.ignore_patterns("snippet *"))
        (folder / f"snippet {number}" / "snippet.txt").write_text(snippet)
    run(
        ["-c", RUN_ALL.format(folder=str(folder), count=len(SNIPPETS), modules=IMPORTED)],
        folder,
        moondream_sandbox.base_url,
    )


def test_the_readme_has_a_demo_command_and_a_test_command() -> None:
    text = (ROOT / "README.md").read_text()
    assert re.findall(r"<!-- (\w+)-command -->", text) == ["demo", "test"]
