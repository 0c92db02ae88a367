"""Execute examples/tour.ipynb against the sandbox, and make docs/recipes/tour.md and its pictures of it.

`python tools/tour.py --write` writes the outputs; `check` compares them, except for times, rates and pixels that differ
a little.
"""

from __future__ import annotations

import argparse
import base64
import io
import os
import re
import sys
from pathlib import Path
from typing import Any

import nbformat
from nbconvert import MarkdownExporter
from nbconvert.preprocessors import ExecutePreprocessor
from PIL import Image, ImageChops, ImageStat

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "examples" / "tour.ipynb"
PAGE = ROOT / "docs" / "recipes" / "tour.md"
PICTURES = "../pictures/recipes"
HEAD = "<!-- Made of examples/tour.ipynb by tools/tour.py -->\n\n"
MARK = "<!-- not type-checked: a cell of examples/tour.ipynb -->"
VARIES = re.compile(r"sandbox-\w+|\d+(?:\.\d+)?")  # ids; numbers: times, rates


def executed() -> Any:
    """Return the notebook as it is now, with new outputs."""
    notebook: Any = nbformat.read(NOTEBOOK, as_version=4)
    for name in ("MOONDREAM_API_KEY", "MOONDREAM_BASE_URL"):
        os.environ.pop(name, None)
    preprocessor = ExecutePreprocessor(timeout=120, record_timing=False, coalesce_streams=True)
    preprocessor.preprocess(notebook, {"metadata": {"path": str(ROOT)}})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    notebook.metadata = {"kernelspec": kernel, "language_info": {"name": "python"}}
    for cell in notebook.cells:
        cell.metadata = {}
        for output in cell.get("outputs", []):
            output.get("data", {}).pop("image/jpeg", None)  # the same as image/png
    return notebook


def page_of(notebook: Any) -> tuple[str, dict[str, bytes]]:
    """Return the notebook as Markdown, and the pictures on it by name."""
    resources: Any = {"unique_key": "tour", "output_files_dir": PICTURES}
    text, resources = MarkdownExporter().from_notebook_node(notebook, resources)
    text = re.sub(r"<style scoped>.*?</style>\n", "", text, flags=re.DOTALL)  # the site has its own
    text = re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
    parts = text.split("```")  # between fences, text and code by turns
    text = "```".join(part if number % 2 else re.sub(r"\n{3,}", "\n\n", part) for number, part in enumerate(parts))
    text = text.replace("```python", f"{MARK}\n```python").replace("![png]", "![what this cell shows]")
    pictures = {Path(name).name: data for name, data in resources["outputs"].items()}
    return HEAD + text.strip() + "\n", pictures


def check() -> None:
    """Raise AssertionError if the notebook's outputs or its page are not what they would be now."""
    old: Any = nbformat.read(NOTEBOOK, as_version=4)
    text, pictures = page_of(old)
    assert PAGE.read_text() == text
    for name, data in pictures.items():
        assert (PAGE.parent / PICTURES / name).read_bytes() == data
    for before, after in zip(old.cells, executed().cells, strict=True):
        for one, other in zip(before.get("outputs", []), after.get("outputs", []), strict=True):
            assert _comparable(one) == _comparable(other), (_comparable(one), _comparable(other))
            if "image/png" in one.get("data", {}):
                assert _difference(one, other) < 2


def _comparable(output: Any) -> Any:
    data = output.get("data", {"text": output.get("text")})
    return output.output_type, {kind: VARIES.sub("#", str(each)) for kind, each in data.items() if kind != "image/png"}


def _difference(*outputs: Any) -> float:
    one, other = (Image.open(io.BytesIO(base64.b64decode(output["data"]["image/png"]))) for output in outputs)
    return max(ImageStat.Stat(ImageChops.difference(one.convert("RGB"), other.convert("RGB"))).mean)


def main() -> int:
    """Write the notebook's outputs, the page and its pictures; without `--write`, check them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    if not parser.parse_args().write:
        check()
        return 0
    notebook = executed()
    nbformat.write(notebook, NOTEBOOK)
    text, pictures = page_of(notebook)
    PAGE.write_text(text)
    for old in (PAGE.parent / PICTURES).glob("tour_*"):
        old.unlink()
    for name, data in pictures.items():
        (PAGE.parent / PICTURES / name).write_bytes(data)
    return 0


if __name__ == "__main__":
    sys.exit(main())
