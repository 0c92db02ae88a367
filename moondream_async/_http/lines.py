"""Split chunks of bytes into lines, in linear time and bounded memory (pure)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

MAX_LINE = 16 * 1024 * 1024
"""Maximum size of a line, in bytes; longer ones are cut."""

_CUT_SIZE = 4096  # bytes that are kept of a longer line: enough to identify it


@attrs.frozen
class FileLine:
    """A line of a file, without its line ending.

    Attributes:
        number: Line number in the file, from 0.
        text: The bytes of the line; only the first ones if it is too long.
        is_whole: Whether `text` is the whole line.
    """

    number: int
    text: bytes
    is_whole: bool = True


class LineSplitter:
    """Splits chunks into lines; scans each byte once.

    Attributes:
        skipped: Number of bytes dropped so far from the current line, if it is too long.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self._buffer = bytearray()
        self._number = 0

    def feed(self, chunk: bytes) -> Iterator[FileLine]:
        """Yield the lines that end in a chunk."""
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            self._append(chunk, start, end)
            yield self._pop_line()
            start = end + 1
        self._append(chunk, start, len(chunk))

    def finish(self) -> FileLine | None:
        """Return the last line, if the file does not end with a line ending."""
        return self._pop_line() if self._buffer else None

    def _append(self, chunk: bytes, start: int, end: int) -> None:
        if self.skipped:
            self.skipped += end - start
            return
        self._buffer += chunk if end - start == len(chunk) else memoryview(chunk)[start:end]
        if len(self._buffer) > MAX_LINE:
            self.skipped = len(self._buffer) - _CUT_SIZE
            self._buffer = self._buffer[:_CUT_SIZE]

    def _pop_line(self) -> FileLine:
        line = FileLine(self._number, bytes(self._buffer), not self.skipped)
        self._buffer = bytearray()
        self.skipped, self._number = 0, self._number + 1
        return line
