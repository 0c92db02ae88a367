"""Check the types of the Python code in README.md and docs/ with mypy and pyright, both strict.

A block that cannot be checked is preceded by a comment with the reason: `<!-- not type-checked: REASON -->`.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.doc_blocks import ROOT, Block, blocks, pages

PYRIGHT_CONFIG = '{"typeCheckingMode": "strict", "pythonVersion": "3.11", "reportUnusedExpression": false}'
MYPY = ["--strict", "--python-version", "3.11", "--config-file", "", "--hide-error-context"]


def main() -> int:
    """Check all blocks; print the errors, with the file and line of the block."""
    with tempfile.TemporaryDirectory() as folder:
        written = [write(Path(folder), block) for block in snippets()]
        (Path(folder) / "pyrightconfig.json").write_text(PYRIGHT_CONFIG)
        mypy = [sys.executable, "-m", "mypy", *MYPY, *written]
        pyright = [sys.executable, "-m", "pyright", "--pythonpath", sys.executable, "-p", folder]
        codes = [subprocess.run(command, cwd=folder, check=False).returncode for command in (mypy, pyright)]
    print(f"{len(written)} blocks checked.")
    return int(any(codes))


def snippets() -> Iterator[Block]:
    """Yield the blocks to check."""
    for file in pages():
        for block in blocks(file):
            if block.language == "python" and "not type-checked" not in block.marks:
                yield block


def write(folder: Path, block: Block) -> str:
    """Write a block to a module of its own whose lines have the same numbers as in the file; return its name."""
    name = re.sub(r"\W", "_", str(block.file.relative_to(ROOT).with_suffix(""))) + f"_{block.line}.py"
    (folder / name).write_text("\n" * (block.line - 1) + block.code)
    return name


if __name__ == "__main__":
    sys.exit(main())
