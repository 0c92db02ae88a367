"""Check the types of the Python code in README.md and docs/ with mypy and pyright, both strict.

A block that cannot be checked is preceded by a comment with the reason: `<!-- not type-checked: REASON -->`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
BLOCK = re.compile(
    r"(?:<!-- not type-checked: (?P<reason>[^\n]+) -->\n+)?^(?P<indent> *)```python\n(?P<code>.*?)```",
    re.DOTALL | re.MULTILINE,
)
PYRIGHT_CONFIG = '{"typeCheckingMode": "strict", "pythonVersion": "3.11", "reportUnusedExpression": false}'
MYPY = ["--strict", "--python-version", "3.11", "--config-file", "", "--hide-error-context"]


def main() -> int:
    """Check all blocks; print the errors, with the file and line of the block."""
    with tempfile.TemporaryDirectory() as folder:
        written = [write(Path(folder), *snippet) for snippet in snippets()]
        (Path(folder) / "pyrightconfig.json").write_text(PYRIGHT_CONFIG)
        mypy = [sys.executable, "-m", "mypy", *MYPY, *written]
        pyright = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "-p", folder]
        codes = [subprocess.run(command, cwd=folder, check=False).returncode for command in (mypy, pyright)]
    print(f"{len(written)} blocks checked.")
    return int(any(codes))


def snippets() -> Iterator[tuple[Path, int, str]]:
    """Yield the blocks to check: the file, the line of the code's beginning, and the code."""
    for file in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        text = file.read_text()
        for match in BLOCK.finditer(text):
            if match["reason"] is None:
                yield file, text.count("\n", 0, match.start("code")), textwrap.dedent(match["code"])


def write(folder: Path, file: Path, line: int, code: str) -> str:
    """Write a block to a module of its own whose lines have the same numbers as in the file; return its name."""
    name = re.sub(r"\W", "_", str(file.relative_to(ROOT).with_suffix(""))) + f"_{line}.py"
    (folder / name).write_text("\n" * line + code)
    return name


if __name__ == "__main__":
    sys.exit(main())
