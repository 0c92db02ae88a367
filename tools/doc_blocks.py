"""Find the code blocks of README.md and docs/, and what comments before them say.

- `<!-- not run: REASON -->`: tests/site does not run the block.
- `<!-- not type-checked: REASON -->`: tools/check_snippets.py leaves it out.
- `<!-- output -->` before a block of `text`: what the block before it prints. `...` stands for anything. After
  `<!-- output: numbers vary -->`, any number stands for any other.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parent.parent
_MARK = re.compile(r"^ *<!-- (not run|not type-checked|output)(?:: (.+))? -->$")
_NUMBER = re.compile(r"\d[\d,.]*(e-?\d+)?")
_FENCE = re.compile(r"^( *)```(\w*).*$")


@attrs.define
class Block:
    """A code block.

    Attributes:
        file: The file.
        line: The number of the code's first line, from 1.
        language: The language after the fence.
        code: The code, without its indentation.
        marks: The marks before it, with their reasons.
        output: The block after it that is marked as its output; None if there is none.
        numbers_vary: Whether numbers of the output are only examples.
    """

    file: Path
    line: int
    language: str
    code: str
    marks: dict[str, str]
    output: str | None = None
    numbers_vary: bool = False

    def prints(self, printed: str) -> bool:
        """Return whether what was printed is the output that the page shows; True if it shows none."""
        if self.output is None:
            return True
        expected, lines = self.output.rstrip(), "\n".join(line.rstrip() for line in printed.rstrip().splitlines())
        if self.numbers_vary:
            expected, lines = _NUMBER.sub("#", expected), _NUMBER.sub("#", lines)
        pattern = ".*".join(re.escape(part) for part in expected.split("..."))
        return re.fullmatch(pattern, lines, re.DOTALL) is not None

    @property
    def name(self) -> str:
        """The file relative to the root, and the line."""
        return f"{self.file.relative_to(ROOT).as_posix()}:{self.line}"


def pages() -> list[Path]:
    """List README.md and the pages in docs/."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


def blocks(file: Path) -> list[Block]:
    """Return the code blocks of a file in order; outputs are part of the block that prints them.

    Raises:
        ValueError: A mark is not followed by a block, or an output follows nothing.
    """
    found: list[Block] = []
    for block in _all_blocks(file):
        if "output" not in block.marks:
            found.append(block)
        elif block.language != "text" or not found or found[-1].output is not None:
            raise ValueError(f"{file}:{block.line}: an output must be a block of `text` after the block that prints it")
        else:
            found[-1].output = block.code
            found[-1].numbers_vary = block.marks["output"] == "numbers vary"
    return found


def _all_blocks(file: Path) -> Iterator[Block]:
    marks: dict[str, str] = {}
    lines = enumerate(file.read_text("utf-8").splitlines(), 1)
    for number, line in lines:
        fence, mark = _FENCE.match(line), _MARK.match(line)
        if mark:
            marks[mark[1]] = mark[2] or ""
        elif fence:
            code = _code(lines, fence[1])
            yield Block(file, number + 1, fence[2], code, marks)
            marks = {}
        elif line.strip() and marks:
            raise ValueError(f"{file}:{number}: a mark must be followed by a block")


def _code(lines: Iterator[tuple[int, str]], indent: str) -> str:
    code: list[str] = []
    for _, line in lines:
        if line.rstrip() == f"{indent}```":
            break
        code.append(line)
    return textwrap.dedent("\n".join(code)) + "\n"
