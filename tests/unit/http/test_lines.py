"""Splitting chunks into lines and decompressing them: the same results for any chunk size, in bounded memory."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib

import pytest

from moondream_async._http import lines
from moondream_async._http.decompression import Decompressor
from moondream_async._http.lines import FileLine, LineSplitter

TEXT = "caf\u00e9\n\n\u4e2d\u6587 \U0001f600\r\nlast".encode()


def split(data: bytes, size: int) -> list[FileLine]:
    splitter = LineSplitter()
    complete = [line for at in range(0, len(data), size) for line in splitter.feed(data[at : at + size])]
    last = splitter.finish()
    return complete if last is None else [*complete, last]


@pytest.mark.parametrize("size", range(1, len(TEXT) + 1))
def test_any_chunk_size(size: int) -> None:
    assert [line.text for line in split(TEXT, size)] == TEXT.split(b"\n")
    assert [line.number for line in split(TEXT, size)] == [0, 1, 2, 3]


def test_last_line() -> None:
    assert split(b"", 1) == []
    assert split(b"a\n", 1) == [FileLine(0, b"a")]
    assert split(b"\n\n", 2) == [FileLine(0, b""), FileLine(1, b"")]


@pytest.mark.parametrize("size", [3, 1_000, 10_000])
def test_a_line_that_is_too_long(size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "MAX_LINE", 5_000)
    whole, cut, last = split(b"a" * 5_000 + b"\n" + b"b" * 5_001 + b"\nc", size)
    assert [(line.number, line.is_whole) for line in (whole, cut, last)] == [(0, True), (1, False), (2, True)]
    assert len(cut.text) == 4096
    assert last.text == b"c"


def test_memory() -> None:
    splitter = LineSplitter()
    tracemalloc.start()
    try:
        for _ in range(400):
            assert list(splitter.feed(b"a" * 100_000)) == []
        assert tracemalloc.get_traced_memory()[1] < 3 * lines.MAX_LINE
        assert tracemalloc.get_traced_memory()[0] < 100_000
    finally:
        tracemalloc.stop()
    assert splitter.skipped == 400 * 100_000 - 4096


def decompress(data: bytes, size: int) -> list[bytes]:
    decompressor = Decompressor()
    pieces = [piece for at in range(0, len(data), size) for piece in decompressor.feed(data[at : at + size])]
    decompressor.finish()
    return pieces


@pytest.mark.parametrize("size", [1, 7, 1_000])
def test_decompression(size: int) -> None:
    compressed = gzip.compress(TEXT)
    assert b"".join(decompress(compressed, size)) == TEXT
    assert b"".join(decompress(compressed + compressed, size)) == TEXT + TEXT  # two members
    assert b"".join(decompress(compressed + bytes(8), size)) == TEXT  # with padding
    assert b"".join(decompress(zlib.compress(TEXT), size)) == TEXT
    assert decompress(b"", size) == []
    for damaged in (compressed[:-9], b"no gzip at all"):
        with pytest.raises(zlib.error):
            decompress(damaged, size)


def test_a_bomb_is_decompressed_in_steps() -> None:
    pieces = decompress(gzip.compress(bytes(20_000_000)), 1 << 20)
    assert sum(map(len, pieces)) == 20_000_000
    assert max(map(len, pieces)) <= 256 * 1024
