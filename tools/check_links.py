"""Check the links of the built site and of README.md: `python tools/check_links.py site`.

- Links within the site, and those of README.md to it, lead to pages and anchors that exist.
- README.md has no relative links, as package indexes do not resolve them.
- The site loads nothing from other hosts.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urljoin, urlsplit

import attrs

ROOT = Path(__file__).resolve().parent.parent
SITE_URL = re.findall(r"^site_url: (\S+)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)[0]
_README_LINKS = re.compile(r"\]\(([^)\s]+)\)|<img src=\"([^\"]+)\"")
_LOADED = re.compile(r"(?:url\(|@import )\s*[\"']?(https?://[^\"')]+)")
_LOADING_RELS = {"stylesheet", "preconnect", "preload", "icon", "dns-prefetch"}


@attrs.define
class Page(HTMLParser):
    """The links, anchors and loaded resources of a page."""

    links: list[str] = attrs.field(factory=list)
    anchors: set[str] = attrs.field(factory=set)
    loaded: list[str] = attrs.field(factory=list)

    def __attrs_pre_init__(self) -> None:
        super().__init__()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a tag's link, anchor or resource."""
        values = {name: value for name, value in attrs if value is not None}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        if tag == "a" and "href" in values:
            self.links.append(values["href"])
        elif tag == "link" and _LOADING_RELS & set(values.get("rel", "").split()):
            self.loaded.append(values["href"])
        elif "src" in values:
            self.loaded.append(values["src"])


@cache
def read(file: Path) -> Page:
    page = Page()
    page.feed(file.read_text("utf-8"))
    return page


def target(site: Path, url: str) -> tuple[Path, str] | None:
    """Return the file and the anchor that a URL of the site leads to; None for a URL of another host."""
    if not url.startswith(SITE_URL):
        return None
    address, anchor = urldefrag(url)
    file = site / unquote(address.removeprefix(SITE_URL))
    return (file / "index.html" if file.is_dir() else file), unquote(anchor)


def problem(site: Path, url: str) -> str | None:
    """Return what is wrong with a URL of the site, if anything is."""
    found = target(site, url)
    if found is None:
        return None
    file, anchor = found
    if not file.is_file():
        return "leads nowhere"
    if anchor and file.suffix == ".html" and anchor not in read(file).anchors:
        return "has no such anchor"
    return None


def check_page(site: Path, file: Path) -> Iterator[str]:
    address = urljoin(SITE_URL, file.relative_to(site).as_posix().removesuffix("index.html"))
    page = read(file)
    for link in {*page.links, *page.loaded}:
        if urlsplit(link).scheme in ("", "http", "https"):
            wrong = problem(site, urljoin(address, link))
            if wrong:
                yield f"{link} {wrong}"
    for link in page.loaded:
        if urlsplit(link).scheme in ("http", "https") or link.startswith("//"):
            yield f"{link} is loaded from another host"


def check_readme(site: Path) -> Iterator[str]:
    for match in _README_LINKS.finditer((ROOT / "README.md").read_text("utf-8")):
        link = match[1] or match[2]
        if not link.startswith("https://"):
            yield f"{link} is relative"
        elif wrong := problem(site, link):
            yield f"{link} {wrong}"


def main(site: Path) -> int:
    """Check all; print what is wrong."""
    problems = [f"README.md: {each}" for each in check_readme(site)]
    pages = sorted(site.rglob("*.html"))
    for file in pages:
        if file.name != "404.html":  # its links are absolute paths of the host
            problems += [f"{file.relative_to(site)}: {each}" for each in check_page(site, file)]
    for file in [*site.rglob("*.css"), *site.rglob("*.svg")]:
        problems += [f"{file.relative_to(site)}: {url} is loaded" for url in _LOADED.findall(file.read_text("utf-8"))]
    print("\n".join([*problems, f"{len(pages)} pages checked, {len(problems)} problems."]))
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
