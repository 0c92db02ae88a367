"""What `mkdocs build` does besides rendering docs/: see mkdocs.yml.

- Pages from files outside docs/: the changelog, the security policy, CONTRIBUTING.md, the benchmarks.
- The page of the command's options, from its parser.
- The section "Recipes", if there is one.
- The programs of examples/, as files to download.
- Links to other files outside docs/: to the repository, or plain text as long as it has no public address.
- The title "Output" above blocks that are the output of the block before.
"""

from __future__ import annotations

import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files, InclusionLevel
from mkdocs.structure.pages import Page

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tools.command_reference import command_reference

ROOT = Path(__file__).resolve().parent.parent

PAGES_OF_ROOT = {
    "help/changelog.md": "CHANGELOG.md",
    "help/security.md": "SECURITY.md",
    "internals/contributing.md": "CONTRIBUTING.md",
    "internals/benchmarks.md": "benchmarks/README.md",
}
_PROGRAMS = {"examples/webapp": "examples/webapp/app.py"}  # of a folder
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>[^)\s:#]+)(?P<anchor>#[^)\s]*)?\)")
_OUTPUT = re.compile(r"^( *)<!-- output(?:: numbers vary)? -->\n+ *```text$", re.MULTILINE)
_BOOSTS = {"start": 1.5, "guides": 2, "recipes": 1.5, "moving": 2, "help": 2, "reference": 0.7, "internals": 0.3}
"""How much the pages of each section count in a search."""


def on_config(config: MkDocsConfig) -> None:
    """Put the section "Recipes" after the guides, with its index first; leave out empty sections of llms.txt."""
    folder = Path(config.docs_dir) / "recipes"
    if (folder / "index.md").exists():
        pages = sorted(path.name for path in folder.glob("*.md") if path.name != "index.md")
        section: list[Any] = ["recipes/index.md", *(f"recipes/{name}" for name in pages)]
        assert config.nav is not None
        config.nav.insert(2, {"Recipes": section})
    else:
        del config.plugins["llmstxt"].config.sections["Recipes"]


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add generated pages and those outside docs/; keep the decisions out of the navigation."""
    for page, source in PAGES_OF_ROOT.items():
        text = move_links((ROOT / source).read_text("utf-8"), source, f"docs/{page}")
        files.append(File.generated(config, page, content=text))
    files.append(File.generated(config, "reference/cli.md", content=command_reference()))
    for path in _examples():
        files.append(File.generated(config, path, abs_src_path=str(ROOT / path)))
    for file in files:
        if re.match(r"internals/decisions/\d", file.src_uri):
            file.inclusion = InclusionLevel.NOT_IN_NAV


def _examples() -> list[str]:
    """Return the programs of the recipes, which are files of the site, too."""
    found = (path for path in (ROOT / "examples").rglob("*") if path.suffix in (".py", ".html", ".ipynb"))
    return sorted(path.relative_to(ROOT).as_posix() for path in found)


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Resolve links to files outside docs/, give output its title, and rank the page in searches."""
    page.meta.setdefault("search", {"boost": _BOOSTS.get(page.file.src_uri.split("/")[0], 1)})
    folder = posixpath.dirname(f"docs/{page.file.src_uri}")

    def resolve(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(folder, match["target"]))
        if target.startswith("docs/"):
            return match[0]
        for moved, source in PAGES_OF_ROOT.items():
            if target == source:
                inside = posixpath.relpath(f"docs/{moved}", folder)
                return f"[{match['text']}]({inside}{match['anchor'] or ''})"
        target = _PROGRAMS.get(target, target)
        if target in _examples():
            return f"[{match['text']}]({posixpath.relpath(f'docs/{target}', folder)})"
        if config.repo_url:
            return f"[{match['text']}]({config.repo_url.rstrip('/')}/blob/main/{target})"
        return match["text"]

    markdown = _LINK.sub(resolve, markdown)
    return _OUTPUT.sub(r'\1```text title="Output"', markdown)


def move_links(text: str, source: str, to: str) -> str:
    """Return a file's text with its relative links changed for another place."""

    def move(match: re.Match[str]) -> str:
        target = posixpath.normpath(posixpath.join(posixpath.dirname(source), match["target"]))
        relative = posixpath.relpath(target, posixpath.dirname(to))
        return f"[{match['text']}]({relative}{match['anchor'] or ''})"

    return _LINK.sub(move, text)
