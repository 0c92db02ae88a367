"""Search folders for images and match glob patterns. Everything left out is counted or raises an error."""

from __future__ import annotations

import fnmatch
import glob
import os
from collections import Counter
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs

from .._images.formats import SUFFIXES
from .._printable import one_line
from ..errors import ConfigurationError

_SHOWN = 5  # file extensions or links listed in a report
_RECURSIVE = "**"


@attrs.define
class Skipped:
    """Files and folders that a search left out.

    Attributes:
        hidden: Number of hidden files.
        extensions: Number of files that are not images, by extension.
        special: Number of files that are not regular files, such as pipes.
        folders: Number of folders that matched a pattern.
        links: Links to folders that were already searched.
    """

    hidden: int = 0
    extensions: Counter[str] = attrs.field(factory=Counter[str])
    special: int = 0
    folders: int = 0
    links: list[str] = attrs.field(factory=list[str])

    def __str__(self) -> str:
        """Describe what was left out in one line; empty if nothing was."""
        parts: list[str] = []
        if self.hidden:
            parts.append(f"{self.hidden:,} hidden")
        if self.extensions:
            parts.append(f"{self.extensions.total():,} not images ({_summarize(self.extensions)})")
        if self.special:
            parts.append(f"{self.special:,} not regular files")
        if self.folders:
            parts.append(f"{self.folders:,} folders that match the pattern")
        if self.links:
            shown = ", ".join(one_line(link) for link in self.links[:_SHOWN])
            more = ", ..." if len(self.links) > _SHOWN else ""
            parts.append(f"{len(self.links):,} links to folders already searched ({shown}{more})")
        return f"skipped: {', '.join(parts)}" if parts else ""


def images_in(top: str, skipped: Skipped) -> Iterator[str]:
    """Search a folder for images. Links to folders are followed; each folder is searched once.

    Args:
        top: The folder.
        skipped: Counts what is left out.

    Raises:
        ConfigurationError: A folder cannot be read.
    """
    for folder in _folders(top, skipped):
        for entry in _entries(folder):
            if entry.name.startswith("."):
                skipped.hidden += 1
            elif not _is_folder(entry):
                extension = Path(entry.name).suffix.lower()
                if extension not in SUFFIXES:
                    skipped.extensions[one_line(extension) or "no extension"] += 1
                elif _is_special(entry):
                    skipped.special += 1
                else:
                    yield _join(folder, entry.name)


def matches(pattern: str, skipped: Skipped) -> Iterator[str]:
    """Find the files that match a pattern with `*`, `?`, `[...]` or `**`, sorted.

    Args:
        pattern: A `glob` pattern; `**` also follows links to folders, each once.
        skipped: Counts what is left out.

    Raises:
        ConfigurationError: A folder on the pattern's path cannot be read.
    """
    if not glob.has_magic(pattern):
        return
    drive, rest = os.path.splitdrive(pattern)
    parts = [part for part in rest.replace(os.altsep or os.sep, os.sep).split(os.sep) if part]  # noqa: PTH206 - keeps `./`
    root = drive + os.sep if rest.startswith((os.sep, os.altsep or os.sep)) else drive
    for path in sorted(set(_matching(root, parts, skipped))):
        if os.path.isfile(path):  # noqa: PTH113 - a name, not a Path
            yield path
        elif os.path.isdir(path):  # noqa: PTH112
            skipped.folders += 1
        else:
            skipped.special += 1


def _matching(start: str, parts: list[str], skipped: Skipped) -> Iterator[str]:
    """Yield the paths below `start` that match the parts of a pattern."""
    if not parts:
        yield start
        return
    part, rest = parts[0], parts[1:]
    if part == _RECURSIVE:
        while rest[:1] == [_RECURSIVE]:
            rest = rest[1:]
        for folder in _folders(start, skipped):
            yield from _matching(folder, rest or ["*"], skipped)
    elif not glob.has_magic(part):
        path = _join(start, part)
        if os.path.isdir(path) if rest else os.path.lexists(path):  # noqa: PTH112
            yield from _matching(path, rest, skipped)
    else:
        for entry in _entries(start):
            is_hidden = entry.name.startswith(".") and not part.startswith(".")
            if not is_hidden and fnmatch.fnmatch(entry.name, part) and (not rest or _is_folder(entry)):
                yield from _matching(_join(start, entry.name), rest, skipped)


def _folders(top: str, skipped: Skipped) -> Iterator[str]:
    """Yield a folder and its subfolders, except hidden ones: first the real ones, then the linked ones."""
    seen: set[tuple[int, int]] = set()
    waiting, linked = [top], list[str]()
    while waiting or linked:
        from_link = not waiting
        folder = waiting.pop() if waiting else linked.pop(0)
        identity = _identity(folder)
        if identity in seen:
            skipped.links += [folder] if from_link else []
            continue
        seen.add(identity)
        yield folder
        below = [entry for entry in _entries(folder) if not entry.name.startswith(".") and _is_folder(entry)]
        linked += [_join(folder, entry.name) for entry in below if entry.is_symlink()]
        waiting += [_join(folder, entry.name) for entry in reversed(below) if not entry.is_symlink()]


def _entries(folder: str) -> list[os.DirEntry[str]]:
    with _os_errors(folder), os.scandir(folder or os.curdir) as scan:
        return sorted(scan, key=lambda entry: entry.name)


def _identity(folder: str) -> tuple[int, int]:
    with _os_errors(folder):
        status = os.stat(folder or os.curdir)  # noqa: PTH116
        return status.st_dev, status.st_ino


@contextmanager
def _os_errors(folder: str) -> Generator[None]:
    """Raise `ConfigurationError` if the folder cannot be read."""
    try:
        yield
    except OSError as exc:
        problem = exc.strerror or exc
        raise ConfigurationError(f"The folder {folder!r} cannot be read: {problem}. Nothing was sent.") from None


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # opening it will report the error
        return False


def _is_special(entry: os.DirEntry[str]) -> bool:
    """Return True for a pipe, socket or device. A broken link is not special: opening it reports its name."""
    try:
        return not entry.is_file() and os.path.exists(entry.path)  # noqa: PTH110
    except OSError:  # opening it reports the error too
        return False


def _join(folder: str, name: str) -> str:
    return os.path.join(folder, name)  # noqa: PTH118 - keeps names that are not UTF-8


def _summarize(extensions: Counter[str]) -> str:
    shown = ", ".join(f"{count:,} {extension}" for extension, count in extensions.most_common(_SHOWN))
    return shown + (", ..." if len(extensions) > _SHOWN else "")
