"""The lines of a results file: what can be read of each, whatever happened to the others."""

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
"""Bytes. No line that is written is longer."""

_BOM = b"\xef\xbb\xbf"
_FILLER = b"\0 \t\r\n"
_FILLER_TEXT = _FILLER.decode()
_LONG_TRIES = 8
_CHECKED_LINES = 20  # a file without any result in so many lines is something else
_VALUE = rb'"(?:[^"\\]|\\.)*"|[-+.0-9eE]+|\[[^\[\]]*\]'
_TORN_VALUE = re.compile(rb'(?:"(?:[^"\\]|\\.)*\\?|\[[^\[\]]*)?', re.DOTALL)
_START = re.compile(r'\{\s*"id"\s*:\s*(?:' + _VALUE.decode() + r')\s*,\s*"skill"\s*:\s*["\[]', re.DOTALL)
_TEMPLATE = (b'{"id": ', b', "skill": ', b', "arguments": {')  # with a value in between
_VALUE_PATTERN = re.compile(_VALUE, re.DOTALL)
_NOT_JSON = "it is not JSON"
_DECODER = json.JSONDecoder()


@attrs.frozen(eq=False)
class Line:
    """One line of a results file.

    Attributes:
        number: From 1.
        start: Where it begins in the file, in bytes.
        length: In bytes, its end included.
        entries: The results in it: one, unless something went wrong.
        problem: Why it, or a part of it, cannot be read; None if there is no such part.
        is_ended: Whether it ends in a line feed.
        is_blank: Whether it holds nothing but blanks or zeros.
        is_ours: Whether it holds a result, or begins like one.
        is_torn: Whether it is the beginning of one of ours, and nothing else.
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
    """The file is something else; the text says why."""


def read_lines(file: BinaryIO, size: int) -> Iterator[Line]:
    """Read the lines of a results file.

    Args:
        file: At its beginning.
        size: Bytes to read.

    Raises:
        NotAResultsFile: None of the first lines is a result.
        OSError: It cannot be read.
    """
    waiting: list[Line] = []
    is_ours = False
    for line in _all_lines(file, size):
        if is_ours or line.is_blank:
            yield line
            continue
        waiting.append(line)
        is_ours = line.is_ours
        if is_ours:
            yield from waiting
            waiting = []
        elif len(waiting) == _CHECKED_LINES:
            break
    if waiting:
        raise NotAResultsFile(f"in line {waiting[0].number}, {waiting[0].problem}")


def parse_line(data: bytes, *, number: int = 1, start: int = 0, length: int | None = None) -> Line:
    """Read one line, from a stack of any depth."""
    try:
        entries, problem = _parse(data, number, ValueError)
    except RecursionError:
        entries, problem = _parse_on_new_stack(data, number)
    text, is_ended = _text_of(data, number), data.endswith(b"\n")
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
            yield _too_long(number, start, length, is_ended=is_ended)
        else:
            yield parse_line(data, number=number, start=start, length=length)
        start += length


def _too_long(number: int, start: int, length: int, *, is_ended: bool) -> Line:
    problem = f"it is longer than {MAX_LINE:,} bytes"
    return Line(number, start, length, [], problem, is_ended=is_ended, is_blank=False, is_ours=False, is_torn=False)


def _read_line(file: BinaryIO, left: int) -> tuple[bytes | None, int, bool]:
    """Read a line without the zeros before it, or None if it is too long; its length; and whether it is ended."""
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


def _text_of(data: bytes, number: int) -> bytes:
    text = data.strip(_FILLER)
    return text.removeprefix(_BOM).strip(_FILLER) if number == 1 else text


Parsed = tuple[list[Entry], str | None]
Expected = type[Exception] | tuple[type[Exception], ...]


def _parse_on_new_stack(data: bytes, number: int) -> Parsed:
    """Parse in a thread, which has a stack of its own: the caller's can be nearly used up."""
    found: list[Parsed] = []
    thread = threading.Thread(target=lambda: found.append(_parse(data, number, (ValueError, RecursionError))))
    thread.start()
    thread.join()
    return found[0]


def _parse(data: bytes, number: int, expected: Expected) -> Parsed:
    """Parse a line; what is expected to go wrong is a problem of the line."""
    text = _text_of(data, number)
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
    """Read the results in a line that is not JSON as a whole, such as a torn one with others right behind it.

    A result is looked for at each place where one seems to start. Not all need be: a result may hold what looks like
    the start of another. So that this takes no more than some passes over the line, after some failures each is taken
    to end where the next one seems to start.
    """
    text = line.decode(errors="surrogateescape")
    starts = [match.start() for match in _START.finditer(text)]
    entries: list[Entry] = []
    end, failures, is_whole = 0, 0, True
    for start, next_start in itertools.pairwise([*starts, len(text)]):
        if start < end:
            continue
        try:
            if failures < _LONG_TRIES:
                value, stop = _DECODER.raw_decode(text, start)
            else:
                value, length = _DECODER.raw_decode(text[start:next_start])
                stop = start + length
            text[start:stop].encode()  # not all of it was UTF-8, if that fails
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
    """Whether it begins as our lines do, as far as it goes."""
    at = 0
    for literal in _TEMPLATE:
        if not text.startswith(literal, at):
            return literal.startswith(text[at : at + len(literal)])
        at += len(literal)
        value = _VALUE_PATTERN.match(text, at)
        if literal is _TEMPLATE[-1]:
            return True
        if value is None:
            return _TORN_VALUE.fullmatch(text, at) is not None
        at = value.end()
    return False
