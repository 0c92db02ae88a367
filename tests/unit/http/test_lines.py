"""Chunks to lines: the same lines wherever the chunks end, each byte copied a bounded number of times."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from moondream_async._http import lines
from moondream_async._http.lines import FileLine, LineSplitter
from moondream_async._http.unpacking import Unpacker

TEXT = "caf\u00e9\n\n\u4e2d\u6587 \U0001f600\r\nlast".encode()


def split(data: bytes, size: int) -> list[FileLine]:
    splitter = LineSplitter()
    found = [line for at in range(0, len(data), size) for line in splitter.feed(data[at : at + size])]
    last = splitter.finish()
    return found if last is None else [*found, last]


@pytest.mark.parametrize("size", range(1, len(TEXT) + 1))
def test_wherever_chunks_end(size: int) -> None:
    assert [line.text for line in split(TEXT, size)] == TEXT.split(b"\n")
    assert [line.number for line in split(TEXT, size)] == [0, 1, 2, 3]


def test_the_end() -> None:
    assert split(b"", 1) == []
    assert split(b"a\n", 1) == [FileLine(0, b"a")]
    assert split(b"\n\n", 2) == [FileLine(0, b""), FileLine(1, b"")]


@pytest.mark.parametrize("size", [3, 1_000, 10_000])
def test_a_line_that_is_too_long(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "LONGEST_LINE", 5_000)
    found = split(b"a" * 5_000 + b"\n" + b"b" * 5_001 + b"\nc", size)
    assert [(line.number, line.is_whole) for line in found] == [(0, True), (1, False), (2, True)]
    assert len(found[1].text) == 4096
    assert found[2].text == b"c"


def test_memory() -> None:
    splitter = LineSplitter()
    tracemalloc.start()
    try:
        for _ in range(400):
            assert list(splitter.feed(b"a" * 100_000)) == []
        assert tracemalloc.get_traced_memory()[1] < 3 * lines.LONGEST_LINE
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()
    assert splitter.skipped == 400 * 100_000 - 4096


def unpack(data: bytes, size: int) -> list[bytes]:
    unpacker = Unpacker()
    found = [piece for at in range(0, len(data), size) for piece in unpacker.feed(data[at : at + size])]
    unpacker.finish()
    return found


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_unpacking(size: int) -> None:
    packed = gzip.compress(TEXT)
    assert b"".join(unpack(packed, size)) == TEXT
    assert b"".join(unpack(packed + packed, size)) == TEXT + TEXT  # in two members
    assert b"".join(unpack(packed + bytes(8), size)) == TEXT  # padded
    assert b"".join(unpack(zlib.compress(TEXT), size)) == TEXT
    assert unpack(b"", size) == []
    for damaged in (packed[:-9], b"no gzip at all"):
        with pytest.raises(zlib.error):
            unpack(damaged, size)


def test_a_bomb_comes_in_steps() -> None:
    pieces = unpack(gzip.compress(bytes(20_000_000)), 1 << 20)
    assert sum(map(len, pieces)) == 20_000_000
    assert max(map(len, pieces)) <= 256 * 1024
