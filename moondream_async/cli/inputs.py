"""What `run` is to work on: paths, patterns, directories, URLs, JSON lines, or lines of standard input."""

from __future__ import annotations

import glob
import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..errors import ConfigurationError
from ..images.kinds import SUFFIXES

STDIN = "-"
_LINES = (".jsonl", ".ndjson")
_LONGEST_NAME = 4096  # characters; an image given as a longer text is data, and names no item
_IMAGE_FIELDS = ("image", "image_url")

MapItem = Any


class Inputs:
    """The items that the words of a command line name, in a steady order; iterable again, but for standard input.

    Args:
        words: Image files, directories (searched for images, hidden ones left out), patterns with `*`, http(s) URLs,
            files of JSON lines (`.jsonl`), or `-`: lines of standard input, each a path, a URL or JSON.

    Raises:
        ConfigurationError: A word names nothing. While iterating: a line cannot be read; the message says which.
    """

    def __init__(self, words: Sequence[str]) -> None:
        self._words = words
        for word in words:
            if word == STDIN or _is_url(word):
                continue
            if not _exists(word) and next(_matches(word), None) is None:
                raise ConfigurationError(f"There is no file, directory or match for {word!r}.")
            if _exists(word) and not (Path(word).is_file() or Path(word).is_dir()):
                raise ConfigurationError(f"{word!r} is no regular file; what comes through a pipe goes to '-'.")

    @property
    def may_bring_arguments(self) -> bool:
        """Whether items may have arguments of their own."""
        return any(word == STDIN or _is_lines(word) for word in self._words)

    def count(self) -> int | None:
        """How many items there are, all of them looked at; None if standard input is among them.

        Raises:
            ConfigurationError: A line cannot be read.
        """
        return None if STDIN in self._words else sum(1 for _ in self)

    def __iter__(self) -> Iterator[MapItem]:
        for word in self._words:
            yield from _items(word)


def image_of(item: MapItem) -> str:
    """The image's path, URL or data."""
    return cast("str", item[1] if isinstance(item, tuple) else item)


def nbytes(item: MapItem) -> int:
    """The size of an item's file, in bytes; 0 if it is none."""
    image = image_of(item)
    try:
        return os.stat(image).st_size if len(image) <= _LONGEST_NAME else 0  # noqa: PTH116 - a name, not a Path
    except (OSError, ValueError):
        return 0


def _items(word: str) -> Iterator[MapItem]:
    if word == STDIN:
        yield from _of_lines(_stdin(), "standard input")
    elif _is_url(word):
        yield word
    elif Path(word).is_dir():
        yield from _in_directory(word)
    elif not _exists(word):
        for name in _matches(word):
            yield from _items(name)
    elif _is_lines(word):
        with Path(word).open("rb") as lines:
            yield from _of_lines(lines, word)
    else:
        yield word


def _stdin() -> BinaryIO:
    try:
        # A file of its own: a thread that still waits for `sys.stdin` would hold up the end of the process.
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except (OSError, ValueError, AttributeError):
        if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] - it is, when it was closed
            raise ConfigurationError("Standard input is closed.") from None
        return sys.stdin.buffer


def _in_directory(top: str) -> Iterator[str]:
    for directory, below, names in os.walk(top):
        below[:] = sorted(name for name in below if not name.startswith("."))
        for name in sorted(names):
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith("."):
                yield os.path.join(directory, name)  # noqa: PTH118 - names that are no UTF-8 stay as they are


def _matches(pattern: str) -> Iterator[str]:
    if not glob.has_magic(pattern):
        return iter(())
    return (name for name in sorted(glob.iglob(pattern, recursive=True)) if Path(name).is_file())  # noqa: PTH207


def _of_lines(lines: BinaryIO | Iterable[bytes], source: str) -> Iterator[MapItem]:
    for number, raw in enumerate(lines, 1):
        line = os.fsdecode(raw).removeprefix("\ufeff").rstrip("\r\n")
        if line.strip():
            yield _of_line(line, f"{source}:{number}")


def _of_line(line: str, where: str) -> MapItem:
    if line.lstrip()[0] not in '{"[':
        return line
    try:
        value: Any = json.loads(line)
    except (ValueError, RecursionError) as exc:
        if line.lstrip()[0] != "{":
            return line  # a path may begin with a bracket or a quote
        raise ConfigurationError(f"{where} is not JSON: {exc}.") from None
    if isinstance(value, str):
        return value
    if not isinstance(value, dict):
        raise ConfigurationError(f"{where} must be a path, or an object such as {{'image': 'photo.jpg'}}.")
    fields = cast("dict[str, Any]", value)
    image = next((fields.pop(name) for name in _IMAGE_FIELDS if name in fields), None)
    if not isinstance(image, str):
        raise ConfigurationError(f"{where} has no text 'image': a path, a URL, a data: URI or base64.")
    return fields.pop("id", image if len(image) <= _LONGEST_NAME else where), image, fields


def _is_url(word: str) -> bool:
    return word.lower().startswith(("http://", "https://"))


def _is_lines(word: str) -> bool:
    return Path(word).suffix.lower() in _LINES


def _exists(word: str) -> bool:
    return os.path.exists(word)  # noqa: PTH110 - a name, not a Path
