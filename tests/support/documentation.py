"""Run the Python code of the documentation, each block in a process forked from one that has imported the package."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from moondream_async._cli.sample_image import sample
from tests.support.films import film
from tests.support.processes import IMPORTED
from tools.doc_blocks import Block

_PARTS = {"car": (640, 390, 910, 540), "house": (30, 110, 390, 520), "tree": (400, 150, 650, 520)}

# Moondream's own snippets open images and leave it to Pillow to close them; supervision says that it works without OpenCV.
_WARNINGS = "error,ignore:unclosed file:ResourceWarning,ignore:OpenCV:UserWarning"

_RUN_ALL = """
import importlib, os, signal, sys
for module in {modules!r}:  # only once
    importlib.import_module(module)
failed = False
for number, name in enumerate({names!r}):
    child = os.fork()
    if child == 0:
        signal.alarm(60)
        os.chdir(os.path.join({folder!r}, str(number)))
        os.dup2(os.open("printed.txt", os.O_CREAT | os.O_WRONLY), 1)
        with open("snippet.txt") as file:
            code = compile(file.read(), name, "exec")
        exec(code, {{"__name__": "__main__"}})
        sys.exit(0)
    if os.waitpid(child, 0)[1] != 0:
        failed = True
        print(f"{{name}} failed", file=sys.stderr)
sys.exit(failed)
"""


def make_folder(folder: Path) -> Path:
    """Write the files that the documentation's code uses: the demo's scene, also large, parts of it, and a film."""
    folder.mkdir(exist_ok=True)
    scene = sample()
    scene.save(folder / "photo.jpg", quality=95)
    scene.resize((2880, 1920)).save(folder / "aerial.jpg", quality=90)
    (folder / "photos").mkdir()
    for name, box in _PARTS.items():
        scene.crop(box).save(folder / "photos" / f"{name}.jpg", quality=95)
    shutil.copy(folder / "photos" / "house.jpg", folder / "a.jpg")
    shutil.copy(folder / "photos" / "tree.jpg", folder / "b.jpg")
    film(folder / "film.mp4")
    return folder


def environment(base_url: str) -> dict[str, str]:
    """Return the environment of code that finds a sandbox as its server."""
    fal = base_url.removesuffix("/v1") + "/fal"
    home = {"XDG_CONFIG_HOME": os.devnull, "HOME": os.devnull}
    return {"MOONDREAM_BASE_URL": base_url, "FAL_BASE_URL": fal, "FAL_KEY": "test", "PATH": "", **home}


def run_blocks(blocks: Sequence[Block], folder: Path, base_url: str) -> list[str]:
    """Run blocks, with warnings as errors; return what is wrong: errors, and output that a page shows otherwise."""
    template = make_folder(folder / "template")
    for number, block in enumerate(blocks):
        shutil.copytree(template, folder / str(number))
        (folder / str(number) / "snippet.txt").write_text(block.code)
    names = [block.name for block in blocks]
    code = _RUN_ALL.format(folder=str(folder), names=names, modules=IMPORTED)
    variables = environment(base_url) | {"PYTHONWARNINGS": _WARNINGS, "PYTHONIOENCODING": "utf-8"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=variables, capture_output=True, text=True, check=False, timeout=500
    )
    problems = [done.stderr] if done.stderr or done.returncode else []
    for number, block in enumerate(blocks):
        printed = (folder / str(number) / "printed.txt").read_text("utf-8")
        if not block.prints(printed):
            problems.append(f"{block.name} prints:\n{printed}")
    return problems
