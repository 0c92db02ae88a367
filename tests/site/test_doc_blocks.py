"""The parser of the documentation's code blocks."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.doc_blocks import Block, blocks

PAGE = """
Text.

    <!-- not run: needs a camera -->
    <!-- not type-checked: no types -->
    ```python
    print(1)
    ```

    <!-- output: numbers vary -->
    ```text
    1
    ```

```bash
ls
```
"""


def test_blocks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(PAGE)
    python, bash = blocks(page)
    assert (python.language, python.line, python.code) == ("python", 7, "print(1)\n")
    assert python.marks == {"not run": "needs a camera", "not type-checked": "no types"}
    assert (python.output, python.numbers_vary) == ("1\n", True)
    assert (bash.language, bash.code, bash.marks, bash.output) == ("bash", "ls\n", {}, None)


@pytest.mark.parametrize(
    "text",
    [
        "<!-- output -->\n```text\n1\n```\n",  # of nothing
        "```python\n1\n```\n<!-- output -->\n```json\n1\n```\n",  # not text
        "<!-- not run: later -->\nText.\n",  # of no block
    ],
)
def test_misplaced_marks(tmp_path: Path, text: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match="must be"):
        blocks(page)


@pytest.mark.parametrize(
    ("shown", "printed", "numbers_vary", "same"),
    [
        ("a 1\n", "a 1\n\n", False, True),
        ("a 1\n", "a 2\n", False, False),
        ("a 1\n", "a 2.5\n", True, True),
        ("a ...\nc\n", "a 1\nb\nc\n", False, True),
        ("a ...\n", "b a 1\n", False, False),
        ("[x]\n", "[x]\n", False, True),
    ],
)
def test_prints(shown: str, printed: str, numbers_vary: bool, same: bool) -> None:
    block = Block(Path("page.md"), 1, "python", "", {}, output=shown, numbers_vary=numbers_vary)
    assert block.prints(printed) is same
