"""Convert the PPM files that Pillow decodes in Python to 8-bit ones, which it decodes in C.

These are the ASCII formats (P1 to P3), and the binary formats (P5, P6) with a maximum value other than 255. The data is
converted in chunks, so that other threads can run.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import NamedTuple

from PIL import Image

from ..errors import ImageError
from .limits import refused

_MAX_HEADER = 4096  # bytes; size and maximum value must be within them
_MAX_ASCII = 16 * 1024 * 1024  # bytes of an ASCII file, which is converted number by number
_CHUNK_SIZE = 1024 * 1024  # bytes converted at a time
_TOKENS = 65_536  # numbers of an ASCII file converted at a time

_GAP = rb"(?:\s|#[^\r\n]*[\r\n])+"
_SIZE = re.compile(rb"P[1-6]" + _GAP + rb"(\d{1,10})" + _GAP + rb"(\d{1,10})")
_MAX_VALUE = re.compile(_GAP + rb"(\d{1,10})")
_TOKEN = re.compile(rb"#[^\r\n]*|[^\s#]+")
_MAX_DIGITS = 10  # of a sample
_BITS = bytes.maketrans(b"01", b"\xff\x00")  # 1 is black


class _Header(NamedTuple):
    kind: bytes  # P1 to P6
    size: bytes  # width and height as decimal text
    samples: int
    max_value: int
    end: int  # start of the samples, after one whitespace character


def as_8_bit(data: bytes) -> bytes:
    """Return the file as P5 or P6 with a maximum value of 255, or unchanged if Pillow decodes it fast.

    Raises:
        ImageError: The header is damaged or too long, or an ASCII file is too long or contains something else than
            numbers.
    """
    header = _read_header(data)
    is_ascii = header.kind in (b"P1", b"P2", b"P3")
    if header.kind == b"P4" or (not is_ascii and _is_fast(header)):
        return data
    if is_ascii and len(data) > _MAX_ASCII:
        raise refused(f"more than {_MAX_ASCII:,} bytes in an ASCII format of PPM, which is read slowly; save it as PNG")
    kind = b"P6" if header.kind in (b"P3", b"P6") else b"P5"
    return b"%s %s 255\n" % (kind, header.size) + b"".join(_convert(data, header))


def _is_fast(header: _Header) -> bool:
    return header.max_value == 255 or (header.kind == b"P5" and header.max_value == 65_535)


def _read_header(data: bytes) -> _Header:
    head = data[:_MAX_HEADER]
    size = _SIZE.match(head)
    is_bitmap = head[:2] in (b"P1", b"P4")
    last = size if size is None or is_bitmap else _MAX_VALUE.match(head, size.end())
    if size is None or last is None:
        raise ImageError(
            f"The image is a PPM that is damaged, or whose header does not end within the first {_MAX_HEADER:,} bytes."
        )
    max_value = 1 if is_bitmap else int(last[1])
    if not 0 < max_value <= 65_535:
        raise ImageError(f"The image is a PPM whose maximum value is {max_value}; it must be from 1 to 65535.")
    width, height = int(size[1]), int(size[2])
    samples = width * height * (3 if head[:2] in (b"P3", b"P6") else 1)
    return _Header(head[:2], b"%d %d" % (width, height), samples, max_value, last.end() + 1)


def _convert(data: bytes, header: _Header) -> Iterator[bytes]:
    if header.kind == b"P1":
        return _from_bits(data, header)
    if header.kind in (b"P2", b"P3"):
        return _from_numbers(data, header)
    return _from_words(data, header) if header.max_value > 255 else _from_bytes(data, header)


def _scale_table(header: _Header, values: int) -> list[int]:
    """Return the 8-bit value of each of the first `values` sample values."""
    return [min(255, round(value * 255 / header.max_value)) for value in range(values)]


def _from_bytes(data: bytes, header: _Header) -> Iterator[bytes]:
    table = bytes(_scale_table(header, 256))
    end = min(len(data), header.end + header.samples)
    for at in range(header.end, end, _CHUNK_SIZE):
        yield data[at : min(at + _CHUNK_SIZE, end)].translate(table)


def _from_words(data: bytes, header: _Header) -> Iterator[bytes]:
    table = _scale_table(header, 65_536)
    end = min(len(data), header.end + 2 * header.samples)
    for at in range(header.end, end - 1, _CHUNK_SIZE):
        chunk = data[at : min(at + _CHUNK_SIZE, end)]
        words = Image.frombytes("I", (len(chunk) // 2, 1), chunk, "raw", "I;16B")
        yield words.point(table, "L").tobytes()


def _from_numbers(data: bytes, header: _Header) -> Iterator[bytes]:
    scaled = dict(enumerate(_scale_table(header, header.max_value + 1)))
    numbers = itertools.islice(_tokens(data, header.end), header.samples)
    while chunk := list(itertools.islice(numbers, _TOKENS)):
        try:
            yield bytes([scaled[_parse_number(token)] for token in chunk])
        except (ValueError, KeyError):
            break
    else:
        return
    raise ImageError(f"The image is a PPM that contains something other than numbers from 0 to {header.max_value}.")


def _parse_number(token: bytes) -> int:
    if len(token) > _MAX_DIGITS:
        raise ValueError(token[:_MAX_DIGITS])
    return int(token)


def _from_bits(data: bytes, header: _Header) -> Iterator[bytes]:
    left = header.samples
    tokens = _tokens(data, header.end)  # of one or more bits: whitespace between bits is optional
    while bits := b"".join(itertools.islice(tokens, _TOKENS)):
        if bits.strip(b"01"):
            raise ImageError("The image is a PBM that contains something other than 0 and 1.")
        yield bits[:left].translate(_BITS)
        left -= len(bits)
        if left <= 0:
            break


def _tokens(data: bytes, start: int) -> Iterator[bytes]:
    """Yield the tokens between whitespace, without comments."""
    for match in _TOKEN.finditer(data, start):
        if data[match.start()] != ord("#"):
            yield match[0]
