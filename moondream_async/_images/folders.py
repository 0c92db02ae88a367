"""Read only files in certain folders, for names from untrusted sources. Links out of the folders are not followed."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Generator, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import attrs

from ..errors import ConfigurationError, ImageError
from .formats import SUFFIXES
from .limits import MAX_FILE_SIZE
from .source_names import MAX_PATH_LENGTH, NamedBytes, format_path

_HAS_DIR_FD = os.open in os.supports_dir_fd and hasattr(os, "O_NOFOLLOW")  # not on Windows


@attrs.frozen
class Place:
    """A file or folder: the allowed folder that it is in, and the names that lead there from it, without any link."""

    root: Path
    names: tuple[str, ...]

    @property
    def path(self) -> Path:
        """The absolute path."""
        return self.root.joinpath(*self.names)


@attrs.frozen
class Folders:
    """Folders that may be read, as absolute paths without links; and single files that may be read, too."""

    paths: tuple[Path, ...]
    files: Collection[Path] = ()

    @classmethod
    def of(cls, names: Iterable[str | os.PathLike[str]]) -> Folders:
        """Return the folders with these names; raise `ConfigurationError` if one is not a folder."""
        paths = tuple(Path(os.path.realpath(Path(name).expanduser())) for name in names)
        for path in paths:
            if not path.is_dir():
                raise ConfigurationError(f"{str(path)!r} is not a folder.")
        return cls(paths)

    @classmethod
    def of_roots(cls, uris: Iterable[str]) -> Folders:
        """Return the folders that a client names as its roots, without those that are not local or do not exist."""
        local = [each for each in map(urlsplit, uris) if each.scheme == "file" and each.netloc in ("", "localhost")]
        return cls.of(path for each in local if os.path.isdir(path := url2pathname(each.path)))  # noqa: PTH112

    @classmethod
    def of_working_directory(cls) -> Folders:
        """Return the working directory; nothing if that is the home directory or the whole disk."""
        path = Path(os.path.realpath(Path.cwd()))
        return cls(() if path in (Path.home().resolve(), Path(path.anchor)) else (path,))

    def read(self, name: str) -> NamedBytes:
        """Read a file; blocking. Raise `ImageError` if that is not allowed, or not possible."""
        return NamedBytes(read_file(self.locate(name)), format_path(name))

    def locate(self, name: str) -> Place:
        """Return where a path leads, absolute or relative to one of the folders.

        Raises:
            ImageError: It leads out of the folders, or to nothing.
        """
        _check_name(name)
        places = [place for start in self.paths or (Path(),) if (place := self._place_of(start, name)) is not None]
        if not places:
            raise ImageError(f"{format_path(name)!r} is not in a folder that may be read ({self}).")
        for place in places:
            if os.path.exists(place.path):  # noqa: PTH110 - raises nothing
                return place
        raise ImageError(f"There is no file {format_path(name)!r} in the folders that may be read ({self}).")

    def _place_of(self, start: Path, name: str) -> Place | None:
        real = Path(os.path.realpath(start / os.path.expanduser(name)))  # noqa: PTH111 - raises nothing
        if real in self.files:
            return Place(real.parent, (real.name,))
        root = next((root for root in self.paths if real.is_relative_to(root)), None)
        return None if root is None else Place(root, real.relative_to(root).parts)

    def __str__(self) -> str:
        shown = ", ".join(format_path(str(path)) for path in self.paths)
        return shown or "there is no such folder"


def _check_name(name: str) -> None:
    """Refuse what is not a local path before the disk or, on Windows, another machine is asked for it."""
    if len(name) > MAX_PATH_LENGTH:
        problem = f"is too long for a path; at most {MAX_PATH_LENGTH:,} characters are accepted"
    elif name.lower().startswith("file:"):
        problem = "is a URL of a file; pass the path itself"
    elif name.lower().startswith("data:") or "://" in name:
        problem = "is neither a path nor an http(s) URL"
    elif name.startswith(("\\\\", "//", "\\/", "/\\")):
        problem = "names another machine or a device; pass the path of a local file"
    elif not name.strip() or "\0" in name or not _is_encodable(name):
        problem = "is not a path"
    else:
        return
    raise ImageError(f"{format_path(name.encode('utf-8', 'backslashreplace').decode())!r} {problem}.")


def _is_encodable(name: str) -> bool:
    try:
        return bool(os.fsencode(name))
    except UnicodeEncodeError:
        return False


def read_file(place: Place) -> bytes:
    """Read a regular file; blocking. Raise `ImageError` if that is not possible.

    Each folder on the way is opened from the one above, and no link is followed, not even one that has replaced a file
    or folder since it was checked.
    """
    name = format_path(str(place.path))
    try:
        with _closing(_open(place)) as descriptor:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise ImageError(f"{name!r} is not a regular file.")
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                data = file.read(MAX_FILE_SIZE + 1)
    except OSError as exc:
        raise ImageError(f"{name!r} cannot be read: {exc.strerror or exc}.") from None
    if len(data) > MAX_FILE_SIZE:
        raise ImageError(f"{name!r} is too large; at most {MAX_FILE_SIZE:,} bytes are supported.")
    return data


@contextmanager
def _closing(descriptor: int) -> Generator[int]:
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _open(place: Place) -> int:
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)  # a pipe may have no writer
    if not _HAS_DIR_FD:
        descriptor = os.open(place.path, flags)
        if os.path.realpath(place.path) == str(place.path):
            return descriptor
        os.close(descriptor)
        raise PermissionError(0, "it has become a link")
    descriptor = os.open(place.root, os.O_RDONLY | os.O_DIRECTORY)
    for name in place.names:
        above = descriptor
        try:
            descriptor = os.open(name, flags | os.O_NOFOLLOW, dir_fd=above)
        finally:
            os.close(above)
    return descriptor


def images_below(folder: Place) -> Iterator[Place]:
    """Yield the images in a folder and below, sorted, without hidden ones and links; blocking."""

    def refuse(exc: OSError) -> None:
        raise ImageError(f"The folder {exc.filename!r} cannot be read: {exc.strerror}.") from None

    for top, folders, files in os.walk(folder.path, onerror=refuse):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for path in (Path(top, name) for name in sorted(files) if not name.startswith(".")):
            if path.suffix.lower() in SUFFIXES and not path.is_symlink():
                yield Place(folder.root, path.relative_to(folder.root).parts)


class LazyFile:
    """A binary file that is read when it is needed, as an image of a run over many."""

    def __init__(self, place: Place) -> None:
        self.name, self._place, self._is_read = str(place.path), place, False

    def read(self, _size: int = -1) -> Any:
        """Return the whole file, and nothing the second time."""
        self._is_read, was_read = True, self._is_read
        return b"" if was_read else read_file(self._place)
