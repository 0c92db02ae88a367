"""Check the pages of docs/recipes against the examples: their code, and what their commands print and draw.

`python tools/recipe_pages.py --write` runs the commands of all pages against the sandbox, and updates the pages.

A block of code is preceded by a comment that says where it comes from, and equals it:

    <!-- not type-checked: it is examples/blur_faces.py -->
    <!-- not type-checked: Debounce and alarms of examples/camera_alarm.py -->

The commands of `console` blocks are run in order, in a folder with the inputs of `recipe_samples.py`; what they print
equals the rest of the block, except for times. A block that is run elsewhere is preceded by `<!-- run by: FILE -->`.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import contextlib
import io
import os
import re
import runpy
import shlex
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageChops, ImageStat

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tools.recipe_samples import SAMPLES  # noqa: E402

PAGES = ROOT / "docs" / "recipes"
CODE = re.compile(
    r"(?P<head><!-- not type-checked: (?:it is|(?P<names>[\w, ]+?) of) (?P<file>examples/[\w/]+\.py) -->\n"
    r"```python\n).*?```",
    re.DOTALL,
)
CONSOLE = re.compile(r"(?P<elsewhere><!-- run by: [^\n]+ -->\n)?```console\n(?P<body>.*?)```", re.DOTALL)
PICTURES = {  # of a page: the name in docs/pictures/recipes, and what a command wrote
    "blur-faces": {"blur-faces-before.jpg": "photos/street.jpg", "blur-faces-after.jpg": "blurred/street.jpg"},
    "camera-alarm": {"camera-alarm.jpg": "alarms/alarm-*.jpg"},
    "contact-sheet": {"contact-sheet.jpg": "film-contact-sheet.jpg"},
}
VARIES = (  # what differs from run to run
    (re.compile(r"\b\d+\.\d+ ?s\b"), "# s"),
    (re.compile(r"alarm-[\d-]+"), "alarm-#"),
    (re.compile(r'("request_id": ?)"[^"]*"'), r'\1"#"'),
    (re.compile(r'(_ms": ?)[\d.]+'), r"\1#"),
)


def code_of(file: str, names: str | None) -> str:
    """Return an example's source, or that of some of its functions, classes and constants."""
    source = (ROOT / file).read_text()
    if names is None:
        return source
    nodes = {name: node for node in ast.parse(source).body for name in _names_of(node)}
    lines = source.splitlines(keepends=True)
    parts: list[str] = []
    for name in re.split(r", | and ", names):
        node = nodes[name]
        decorators = getattr(node, "decorator_list", [])
        start = min([node.lineno, *(decorator.lineno for decorator in decorators)])
        parts.append("".join(lines[start - 1 : node.end_lineno]))
    return "\n\n".join(parts)


def _names_of(node: ast.stmt) -> list[str]:
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def run(command: str, status: int = 0) -> tuple[str, int]:
    """Run a command in this process and folder; return what it prints, and its exit status.

    Args:
        command: `python FILE ...` with a file of examples, `python -c CODE`, `cat FILE ...` or `echo $?`.
        status: The exit status of the previous command.
    """
    words = shlex.split(command)
    if words[0] == "cat":
        return "".join(Path(name).read_text() for name in words[1:]), 0
    if command == "echo $?":
        return f"{status}\n", 0
    if words[0] != "python":
        raise ValueError(f"unknown command: {command}")
    return _run_python(words[1:])


def _run_python(words: list[str]) -> tuple[str, int]:
    output, before, ask = io.StringIO(), sys.argv, builtins.input

    def answer(prompt: str = "") -> str:
        output.write(f"{prompt}y\n")
        return "y"

    sys.argv, builtins.input = words, answer
    try:
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            if words[0] == "-c":
                exec(words[1], {"__name__": "__main__"})  # the code is of our own pages
            else:
                runpy.run_path(str(ROOT / "examples" / words[0]), run_name="__main__")
        return output.getvalue(), 0
    except SystemExit as exc:
        text = f"{exc.code}\n" if isinstance(exc.code, str) else ""
        return output.getvalue() + text, exc.code if isinstance(exc.code, int) else int(exc.code is not None)
    finally:
        sys.argv, builtins.input = before, ask


def current(page: Path) -> str:
    """Return the page's text with today's code and outputs. Its commands run in the current folder."""
    status = 0

    def console(match: re.Match[str]) -> str:
        nonlocal status
        if match["elsewhere"]:
            return match[0]
        shown = ""
        for line in match["body"].splitlines():
            if line.startswith("$ "):
                text, status = run(line[2:], status)
                shown += f"{line}\n{text}"
        return f"```console\n{shown}```"

    def code(match: re.Match[str]) -> str:
        return f"{match['head']}{code_of(match['file'], match['names'])}```"

    text = CODE.sub(code, page.read_text())
    return CONSOLE.sub(console, text)


def without_times(text: str) -> str:
    """Return a text without what differs from run to run."""
    for pattern, instead in VARIES:
        text = pattern.sub(instead, text)
    return text


def pictures_of(page: Path) -> Iterator[tuple[Path, Path]]:
    """Yield the pictures of a page and the files that its commands wrote for them, in the current folder."""
    for name, pattern in PICTURES.get(page.stem, {}).items():
        yield ROOT / "docs" / "pictures" / "recipes" / name, min(Path().glob(pattern))


def difference(picture: Path, other: Path) -> float:
    """Return the mean difference of two pictures, 0..255."""
    with Image.open(picture) as one, Image.open(other) as two:
        if one.size != two.size:
            return 255
        return max(ImageStat.Stat(ImageChops.difference(one.convert("RGB"), two.convert("RGB"))).mean)


@contextlib.contextmanager
def in_folder(page: Path, folder: Path) -> Iterator[None]:
    """Make the inputs of a page in a folder, and work there for the time of the block."""
    SAMPLES.get(page.stem, lambda _: None)(folder)
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def update(page: Path) -> None:
    """Write today's code, outputs and pictures."""
    with tempfile.TemporaryDirectory() as folder, in_folder(page, Path(folder)):
        text = current(page)
        if without_times(text) != without_times(page.read_text()):
            page.write_text(text)
        for picture, made in pictures_of(page):
            if not picture.exists() or difference(picture, made) > 1:
                with Image.open(made) as image:
                    image.convert("RGB").save(picture, quality=85, optimize=True)


def main() -> None:
    """Update all pages, or print those that are out of date."""
    from moondream_async.sandbox import Sandbox

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="update the pages", required=True)
    parser.add_argument("pages", nargs="*", type=Path, default=sorted(PAGES.glob("*.md")))
    with Sandbox() as sandbox:
        os.environ["MOONDREAM_BASE_URL"] = sandbox.base_url
        for page in [path.resolve() for path in parser.parse_args().pages]:
            update(page)


if __name__ == "__main__":
    main()
