"""Chunks of bytes to lines, in linear time and bounded memory (pure)."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

LONGEST_LINE = 16 * 1024 * 1024
"""Bytes of a line that is kept whole."""

_KEPT = 4096  # bytes of a longer line: enough to see what it is about


@attrs.frozen
class FileLine:
    """A line of a file, without its end.

    Attributes:
        number: Its position in the file, from 0.
        text: Its bytes; only the first ones of a line that is too long.
        is_whole: Whether `text` is the whole line.
    """

    number: int
    text: bytes
    is_whole: bool = True


class LineSplitter:
    """Splits chunks into lines, each byte looked at once.

    Attributes:
        skipped: Bytes dropped so far of the current line, if it is too long.
    """

    def __init__(self) -> None:
        self.skipped = 0
        self._buffer = bytearray()
        self._number = 0

    def feed(self, chunk: bytes) -> Iterator[FileLine]:
        """Yield the lines that end in a chunk."""
        start = 0
        while (end := chunk.find(b"\n", start)) >= 0:
            self._keep(chunk, start, end)
            yield self._take()
            start = end + 1
        self._keep(chunk, start, len(chunk))

    def finish(self) -> FileLine | None:
        """Return the last line, if the file does not end with a line end."""
        return self._take() if self._buffer else None

    def _keep(self, chunk: bytes, start: int, end: int) -> None:
        if self.skipped:
            self.skipped += end - start
            return
        self._buffer += chunk if end - start == len(chunk) else memoryview(chunk)[start:end]
        if len(self._buffer) > LONGEST_LINE:
            self.skipped = len(self._buffer) - _KEPT
            self._buffer = self._buffer[:_KEPT]

    def _take(self) -> FileLine:
        line = FileLine(self._number, bytes(self._buffer), not self.skipped)
        self._buffer = bytearray()
        self.skipped, self._number = 0, self._number + 1
        return line
