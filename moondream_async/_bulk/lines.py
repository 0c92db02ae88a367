"""Parse the lines of a results file, damaged ones as far as possible."""

from __future__ import annotations

import itertools
import json
import re
import threading
from collections.abc import Iterator
from typing import BinaryIO

import attrs

from . import records
from .records import Entry, NotARecord

MAX_LINE = 64 * 1024 * 1024
"""Maximum length of a line in bytes."""

_BOM = b"\xef\xbb\xbf"
_FILLER = b"\0 \t\r\n"
_FILLER_TEXT = _FILLER.decode()
_MAX_LONG_ATTEMPTS = 8
_CHECKED_LINES = 20  # without a result in this number of lines, the file is not a results file
_VALUE = rb'"(?:[^"\\]|\\.)*"|[-+.0-9eE]+|\[[^\[\]]*\]'
_TORN_VALUE = re.compile(rb'(?:"(?:[^"\\]|\\.)*\\?|\[[^\[\]]*)?', re.DOTALL)
_START = re.compile(r'\{\s*"id"\s*:\s*(?:' + _VALUE.decode() + r')\s*,\s*"skill"\s*:\s*["\[]', re.DOTALL)
_TEMPLATE = (b'{"id": ', b', "skill": ', b', "arguments": {')  # with values between the literals
_VALUE_PATTERN = re.compile(_VALUE, re.DOTALL)
_NOT_JSON = "it is not JSON"
_DECODER = json.JSONDecoder()


@attrs.frozen(eq=False)
class Line:
    """One line of a results file.

    Attributes:
        number: Number of the line, from 1.
        start: Position in the file, in bytes.
        length: Length in bytes, with the line feed.
        entries: The results in the line: one, unless the line is damaged.
        problem: Why the line, or a part of it, cannot be parsed; None if all of it was parsed.
        is_ended: Whether the line ends in a line feed.
        is_blank: Whether the line holds only whitespace or zeros.
        is_ours: Whether the line holds a result or begins like one.
        is_torn: Whether the line is only the beginning of a result.
    """

    number: int
    start: int
    length: int
    entries: list[Entry]
    problem: str | None
    is_ended: bool
    is_blank: bool
    is_ours: bool
    is_torn: bool


class NotAResultsFile(ValueError):
    """The file is not a results file; the message says why."""


def read_lines(file: BinaryIO, size: int) -> Iterator[Line]:
    """Yield the lines of a results file.

    Args:
        file: The file, at its beginning.
        size: Number of bytes to read.

    Raises:
        NotAResultsFile: None of the first lines is a result.
        OSError: The file cannot be read.
    """
    pending: list[Line] = []
    is_ours = False
    for line in _all_lines(file, size):
        if is_ours or line.is_blank:
            yield line
            continue
        pending.append(line)
        is_ours = line.is_ours
        if is_ours:
            yield from pending
            pending = []
        elif len(pending) == _CHECKED_LINES:
            break
    if pending:
        raise NotAResultsFile(f"in line {pending[0].number}, {pending[0].problem}")


def parse_line(data: bytes, *, number: int = 1, start: int = 0, length: int | None = None) -> Line:
    """Parse one line, even if the caller's stack is nearly exhausted."""
    try:
        entries, problem = _parse(data, number, ValueError)
    except RecursionError:
        entries, problem = _parse_on_new_stack(data, number)
    text, is_ended = _strip(data, number), data.endswith(b"\n")
    is_ours = bool(entries) or (problem is not None and _is_start_of_ours(text))
    return Line(
        number=number,
        start=start,
        length=len(data) if length is None else length,
        entries=entries,
        problem=problem,
        is_ended=is_ended,
        is_blank=not text,
        is_ours=is_ours,
        is_torn=is_ours and not entries and not is_ended and problem == _NOT_JSON,
    )


def _all_lines(file: BinaryIO, size: int) -> Iterator[Line]:
    start, number = 0, 0
    while start < size:
        data, length, is_ended = _read_line(file, size - start)
        if not length:
            return
        number += 1
        if data is None:
            problem = f"it is longer than {MAX_LINE:,} bytes"
            yield Line(number, start, length, [], problem, is_ended, is_blank=False, is_ours=False, is_torn=False)
        else:
            yield parse_line(data, number=number, start=start, length=length)
        start += length


def _read_line(file: BinaryIO, left: int) -> tuple[bytes | None, int, bool]:
    """Read a line; return its data (None if it is too long), its length, and whether it has a line feed.

    Leading blocks of zeros count as part of the line, but are not returned.
    """
    data = file.readline(min(MAX_LINE, left))
    length = len(data)
    while len(data) == MAX_LINE and not data.strip(b"\0"):
        data = file.readline(min(MAX_LINE, left - length))
        length += len(data)
    if len(data) < MAX_LINE or data.endswith(b"\n"):
        return data, length, data.endswith(b"\n")
    while not data.endswith(b"\n"):
        more = file.readline(min(MAX_LINE, left - length))
        if not more:
            break
        data, length = more, length + len(more)
    return None, length, data.endswith(b"\n")


def _strip(data: bytes, number: int) -> bytes:
    text = data.strip(_FILLER)
    return text.removeprefix(_BOM).strip(_FILLER) if number == 1 else text


Parsed = tuple[list[Entry], str | None]
Expected = type[Exception] | tuple[type[Exception], ...]


def _parse_on_new_stack(data: bytes, number: int) -> Parsed:
    """Parse in a thread, which has its own stack, because the caller's may be nearly exhausted."""
    results: list[Parsed] = []
    thread = threading.Thread(target=lambda: results.append(_parse(data, number, (ValueError, RecursionError))))
    thread.start()
    thread.join()
    return results[0]


def _parse(data: bytes, number: int, expected: Expected) -> Parsed:
    """Parse a line; `expected` exceptions count as a problem of the line."""
    text = _strip(data, number)
    if not text:
        return [], None
    try:
        value = json.loads(text)
    except expected:
        return _salvage(text, expected)
    try:
        return [records.read(value)], None
    except NotARecord as exc:
        return [], str(exc)
    except expected:
        return [], "it is nested too deeply"


def _salvage(line: bytes, expected: Expected) -> Parsed:
    """Parse the results in a line that is not valid JSON as a whole, such as a torn line followed by others.

    Parsing is tried at each position where a result seems to start; some are false, because a result can contain text
    that looks like the start of another. To bound the work to a few passes over the line, each result is assumed to
    end at the next start after a number of failures.
    """
    text = line.decode(errors="surrogateescape")
    starts = [match.start() for match in _START.finditer(text)]
    entries: list[Entry] = []
    end, failures, is_whole = 0, 0, True
    for start, next_start in itertools.pairwise([*starts, len(text)]):
        if start < end:
            continue
        try:
            if failures < _MAX_LONG_ATTEMPTS:
                value, stop = _DECODER.raw_decode(text, start)
            else:
                value, length = _DECODER.raw_decode(text[start:next_start])
                stop = start + length
            text[start:stop].encode()  # fails if it was not UTF-8
            entries.append(records.read(value))
        except expected:
            failures += 1
            is_whole = False
        else:
            is_whole = is_whole and not text[end:start].strip(_FILLER_TEXT)
            end = stop
    is_whole = is_whole and not text[end:].strip(_FILLER_TEXT)
    return entries, None if is_whole else _NOT_JSON


def _is_start_of_ours(text: bytes) -> bool:
    """Return whether the text is a prefix of a line that `run` writes, or starts like one."""
    position = 0
    for literal in _TEMPLATE:
        if not text.startswith(literal, position):
            return literal.startswith(text[position : position + len(literal)])
        position += len(literal)
        value = _VALUE_PATTERN.match(text, position)
        if literal is _TEMPLATE[-1]:
            return True
        if value is None:
            return _TORN_VALUE.fullmatch(text, position) is not None
        position = value.end()
    return False
