"""Inputs of `run` and `batch`: paths, patterns, directories, URLs, JSON lines, or lines of standard input."""

from __future__ import annotations

import codecs
import json
import os
import stat
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, cast

from .._extras import check_extra
from .._images.source_names import MAX_PATH_LENGTH
from .._wire.responses import is_object, reject_number
from ..errors import ConfigurationError
from ..video import frames
from .console import show_note
from .folders import Skipped, images_in, matches

STDIN = "-"
_LINE_FILES = (".jsonl", ".ndjson")
_IMAGE_FIELDS = ("image", "image_url")
_NAME_FIELDS = (*_IMAGE_FIELDS, "id")
_STDIN_NAME = "standard input"
_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".wmv", ".flv")
_JSON_STARTS = (b"{", b'"', b"[")

MapItem = Any


class Inputs:
    """The items that command-line words refer to, in a stable order. Iterable repeatedly, except standard input.

    Args:
        words: Image files, directories (searched for images that are not hidden), patterns with `*`, http(s) URLs,
            files of JSON lines (`.jsonl`), or `-` for standard input. A line is a path, a URL or JSON, in UTF-8 with
            or without a byte order mark.
        fps: Frames per second of videos; None if there are none.

    Attributes:
        skipped: What the last iteration left out.

    Raises:
        ConfigurationError: A word matches nothing, or is a video without `fps`, or the extra `video` is missing. While
            iterating: a line or directory cannot be read; the message says which.
    """

    def __init__(self, words: Sequence[str], *, fps: float | None = None) -> None:
        self._words, self._fps = words, fps
        self.skipped = Skipped()
        _check_videos(words, fps)
        for word in words:
            if word == STDIN or _is_url(word):
                continue
            if not _exists(word) and next(matches(word, Skipped()), None) is None:
                raise ConfigurationError(f"No file or directory matches {word!r}.")
            if _exists(word) and not (Path(word).is_file() or Path(word).is_dir()):
                raise ConfigurationError(f"{word!r} is not a regular file. To read from a pipe, use '-'.")

    @property
    def may_bring_arguments(self) -> bool:
        """Whether items may carry their own arguments."""
        return any(word == STDIN or _is_lines(word) for word in self._words)

    def count(self) -> int | None:
        """Count all items. Return None if some come from a pipe or a video, which cannot be counted in advance.

        Raises:
            ConfigurationError: A line or a directory cannot be read.
        """
        self.skipped = Skipped()
        known = [word for word in self._words if word != STDIN]
        total, has_video = 0, False
        for word in known:
            for item in _items(word, self.skipped, fps=None):  # videos are not decoded twice
                total += 1
                has_video = has_video or (isinstance(item, str) and _is_video(item))
        if has_video and self._fps is not None:
            return None
        if len(known) == len(self._words):
            return total
        stdin_items = _count_stdin()
        return None if stdin_items is None else total + stdin_items

    def __iter__(self) -> Iterator[MapItem]:
        self.skipped = skipped = Skipped()
        for word in self._words:
            yield from _items(word, skipped, self._fps)


def print_skipped(inputs: Inputs) -> None:
    """Report on stderr what the last iteration left out."""
    report = str(inputs.skipped)
    if report:
        show_note(f"moondream-async: {report}")


def image_of(item: MapItem) -> Any:
    """Return the image's path, URL or data, or a frame of a video."""
    return cast("Any", item[1] if isinstance(item, tuple) else item)


def nbytes(item: MapItem) -> int:
    """Return the size of an item's file in bytes, or 0 if it is not a file."""
    image = image_of(item)
    try:
        is_path = isinstance(image, str) and len(image) <= MAX_PATH_LENGTH
        return os.stat(image).st_size if is_path else 0  # noqa: PTH116 - a name, not a Path
    except (OSError, ValueError):
        return 0


def _items(word: str, skipped: Skipped, fps: float | None) -> Iterator[MapItem]:
    if word == STDIN:
        yield from _read_lines(_stdin(), _STDIN_NAME)
    elif _is_url(word):
        yield word
    elif Path(word).is_dir():
        yield from images_in(word, skipped)
    elif not _exists(word):
        for name in matches(word, skipped):
            yield from _items(name, skipped, fps)
    elif _is_lines(word):
        yield from _read_file(word)
    elif fps is not None and _is_video(word):
        yield from _read_frames(word, fps)
    else:
        yield word


def _read_file(name: str) -> Iterator[MapItem]:
    try:
        with Path(name).open("rb") as lines:
            yield from _read_lines(lines, name)
    except OSError as exc:
        raise ConfigurationError(f"{name!r} cannot be read: {exc.strerror or exc}.") from None


def _check_videos(words: Sequence[str], fps: float | None) -> None:
    """Check that videos can be read. Without `fps`, a video among images fails like any file that is not an image."""
    videos = [word for word in words if _is_video(word)]
    if videos and len(videos) == len(words) and fps is None:
        raise ConfigurationError(f"{videos[0]!r} is a video. To process a frame of each second, add --fps 1.")
    if fps is not None:
        check_extra("video", "--fps")


def _read_frames(name: str, fps: float) -> Iterator[MapItem]:
    """Yield the frames of a video, with IDs such as `film.mp4#t=1.500`."""
    for frame in frames(Path(name), fps=fps):
        yield f"{name}#t={frame.timestamp:.3f}", frame.image


def _stdin() -> BinaryIO:
    try:
        # Open a separate file: a thread blocked on `sys.stdin` would keep the process from exiting.
        return open(sys.stdin.fileno(), "rb", closefd=False)
    except (OSError, ValueError, AttributeError):
        if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison] - it is, when it was closed
            raise ConfigurationError("Standard input is closed.") from None
        return sys.stdin.buffer


def _count_stdin() -> int | None:
    """Count the items of a file on standard input and rewind it; return None for a pipe or terminal."""
    file = _stdin()
    try:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return None
        start = file.tell()
    except (OSError, ValueError):
        return None
    count = sum(1 for _ in _read_lines(file, _STDIN_NAME))
    os.lseek(file.fileno(), start, os.SEEK_SET)  # the next reader does not share this file's buffer
    return count


def _read_lines(lines: BinaryIO | Iterable[bytes], source: str) -> Iterator[MapItem]:
    for number, raw in enumerate(lines, 1):
        where = f"{source}:{number}"
        line = _decode(raw.removeprefix(codecs.BOM_UTF8).rstrip(b"\r\n"), where)
        if line.strip():
            yield _parse_line(line, where)


def _decode(raw: bytes, where: str) -> str:
    """Decode a line as UTF-8. A bare path may have any encoding if the file exists."""
    if raw.startswith(_UTF_16) or b"\0" in raw:
        raise ConfigurationError(f"{where} is not UTF-8; it looks like UTF-16 or binary data. Save the file as UTF-8.")
    try:
        return raw.decode()
    except UnicodeDecodeError as exc:
        problem = f"byte 0x{raw[exc.start]:02x} at column {exc.start + 1}"
    if raw.lstrip()[:1] not in _JSON_STARTS and _exists(os.fsdecode(raw)):
        return os.fsdecode(raw)
    raise ConfigurationError(f"{where} is not UTF-8 ({problem}); save the file as UTF-8.")


def _parse_line(line: str, where: str) -> MapItem:
    if line.lstrip()[0] not in '{"[':
        return line
    try:
        value: Any = json.loads(line, parse_constant=reject_number)
        has_surrogates = _has_surrogates(value)
    except (ValueError, RecursionError) as exc:
        if line.lstrip()[0] != "{":
            return line  # a path may begin with a bracket or a quote
        raise ConfigurationError(f"{where} is not JSON: {exc}.") from None
    if isinstance(value, str):
        return value
    if not is_object(value):
        raise ConfigurationError(f"{where} must be a path, or an object such as {{'image': 'photo.jpg'}}.")
    image = next((value.pop(name) for name in _IMAGE_FIELDS if name in value), None)
    if not isinstance(image, str):
        raise ConfigurationError(f"{where} needs an 'image' string: a path, a URL, a data: URI or base64.")
    name = value.pop("id", image if len(image) <= MAX_PATH_LENGTH else where)
    if has_surrogates:
        raise ConfigurationError(f"{where} contains an unpaired surrogate, which is not a valid character.")
    return name, image, value


def _has_surrogates(value: Any) -> bool:
    """Return True if an item's text cannot be sent as UTF-8. File names are not checked."""
    arguments = {k: v for k, v in value.items() if k not in _NAME_FIELDS} if is_object(value) else None
    try:
        json.dumps(arguments, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    return False


def _is_url(word: str) -> bool:
    return word.lower().startswith(("http://", "https://"))


def _is_video(word: str) -> bool:
    return Path(word).suffix.lower() in _VIDEO_SUFFIXES and not _is_url(word)


def _is_lines(word: str) -> bool:
    return Path(word).suffix.lower() in _LINE_FILES


def _exists(word: str) -> bool:
    return os.path.exists(word)  # noqa: PTH110 - a name, not a Path
