"""Find images without alt text in the HTML and Markdown files of a site, and write it.

    pip install moondream-async
    python alt_text.py site --check     # lists them; exit code 1 if there are any: for CI, needs no key
    python alt_text.py site --write     # fills them in

Answers are remembered in site/alt-text.json, by the image's content. Commit the file: no image is paid for twice, and a
text that you correct there is used on every page from then on. An image with `alt=""` is decorative, and left alone.
"""

import argparse
import hashlib
import html
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from moondream_async import Client

TAG = re.compile(r"""<img\b(?:[^>"']|"[^"]*"|'[^']*')*>""", re.IGNORECASE)
SRC = re.compile(r"""\ssrc\s*=\s*(?:"([^"]*)"|'([^']*)'|([^\s"'>]+))""", re.IGNORECASE)
ALT = re.compile(r"\salt(?=[\s=/>])", re.IGNORECASE)
VALUE = re.compile(r""""[^"]*"|'[^']*'""")
MARKDOWN_IMAGE = re.compile(r"!\[\s*\]\(\s*(?:<([^>\n]*)>|([^\s)]+))")
IGNORED = re.compile(r"<!--.*?-->|<(script|style)\b.*?</\1>", re.DOTALL | re.IGNORECASE)
FENCED = re.compile(r"^[ \t]*(```+|~~~+).*?(?:^[ \t]*\1|\Z)", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"(?<!`)(`+)(?!`)(?:(?!\n\s*\n).)+?(?<!`)\1(?!`)", re.DOTALL)


class Gap(NamedTuple):
    """A missing alt text: its page, where to insert it there, and the image's address as it is written there."""

    page: Path
    position: int
    source: str
    is_markdown: bool


def gaps_in(page: Path, text: str) -> Iterator[Gap]:
    is_markdown = page.suffix.lower() == ".md"
    for pattern in (IGNORED, FENCED, CODE) if is_markdown else (IGNORED,):
        text = pattern.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)
    for tag in TAG.finditer(text):
        source = SRC.search(tag[0])
        if source and not ALT.search(VALUE.sub("''", tag[0])):
            yield Gap(page, tag.start() + len("<img"), html.unescape(source[1] or source[2] or source[3] or ""), False)
    for image in MARKDOWN_IMAGE.finditer(text) if is_markdown else ():
        yield Gap(page, image.start() + len("!["), image[1] or image[2], True)


def locate(site: Path, gap: Gap) -> tuple[str, Path | str]:
    """Return what to remember an image by, and its file, or its address if it is not a file of the site."""
    parts = urlsplit(gap.source)
    if parts.scheme or parts.netloc:
        image = gap.source if parts.scheme else f"https:{gap.source}"
        return hashlib.sha256(image.encode()).hexdigest(), image
    name = unquote(parts.path)
    path = site / name.lstrip("/") if name.startswith("/") else gap.page.parent / name
    return hashlib.sha256(path.read_bytes() if path.is_file() else bytes(path)).hexdigest(), path


def ask(images: dict[str, Path | str], alts: dict[str, str], memory: Path) -> None:
    """Add the alt texts of images, and save them all, also if the program is interrupted."""
    try:
        with Client() as client:
            for outcome in client.map("caption", list(images.items()), length="short", progress=True):
                if outcome.ok:
                    alts[outcome.id] = " ".join(outcome.result.caption.split())
                else:
                    print(f"failed: {outcome.error}", file=sys.stderr)
    finally:
        memory.write_text(json.dumps(alts, indent=1, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")


def insert(text: str, gap: Gap, alt: str) -> str:
    inserted = re.sub(r"([\[\]\\`*_<])", r"\\\1", alt) if gap.is_markdown else f' alt="{html.escape(alt)}"'
    return text[: gap.position] + inserted + text[gap.position :]


def main(site: Path, *, write: bool) -> int:
    pages = sorted(path for path in site.rglob("*") if path.suffix.lower() in {".html", ".htm", ".md"})
    texts = {page: page.read_bytes().decode(errors="surrogateescape") for page in pages}
    images = {gap: locate(site, gap) for page in pages for gap in gaps_in(page, texts[page])}
    memory = site / "alt-text.json"
    alts: dict[str, str] = json.loads(memory.read_text(encoding="utf-8")) if memory.exists() else {}
    if write and (new := {key: image for key, image in images.values() if key not in alts}):
        ask(new, alts, memory)
    filled = {gap for gap, (key, _) in images.items() if write and key in alts}
    left = [gap for gap in images if gap not in filled]
    for gap in left:
        print(f"{gap.page}:{texts[gap.page].count(chr(10), 0, gap.position) + 1}: no alt text: {gap.source}")
    for gap in sorted(filled, reverse=True):  # from the end, so that positions stay valid
        texts[gap.page] = insert(texts[gap.page], gap, alts[images[gap][0]])
    for page in {gap.page for gap in filled}:
        page.write_bytes(texts[page].encode(errors="surrogateescape"))
    print(f"{len(pages)} pages: {len(filled)} alt texts written, {len(left)} missing")
    return 1 if left else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("site", type=Path)
    action = parser.add_mutually_exclusive_group(required=True)
    action.add_argument("--check", action="store_true", help="list images without alt text")
    action.add_argument("--write", action="store_true", help="change the files")
    options = parser.parse_args()
    if not options.site.is_dir():
        parser.error(f"there is no folder {options.site}")
    sys.exit(main(options.site, write=options.write))
