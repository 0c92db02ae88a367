"""PPM in all formats: values are scaled from any maximum, without a Python loop over the pixels of a binary file."""

from __future__ import annotations

import io
import tracemalloc

import pytest
from PIL import Image

from moondream_async import ImageError
from moondream_async._images import netpbm
from moondream_async._images.prepare import upright


def pixels(data: bytes) -> list[tuple[int, ...]]:
    raw = upright(data).tobytes()
    return [tuple(raw[at : at + 3]) for at in range(0, len(raw), 3)]


@pytest.mark.parametrize(
    ("data", "values"),
    [
        (b"P1 3 1\n1 0 1", [0, 255, 0]),
        (b"P1 3 1\n101", [0, 255, 0]),
        (b"P1 3 1\n1 # 0 0\n01", [0, 255, 0]),
        (b"P4 3 1\n\xa0", [0, 255, 0]),
        (b"P2 3 1 4\n0 2 4", [0, 128, 255]),
        (b"P2 3 1 255\n0 #7\n128\n255", [0, 128, 255]),
        (b"P2 3 1 65535\n0 32768 65535", [0, 128, 255]),
        (b"P5 3 1 254\n\0\x7f\xfe", [0, 128, 255]),
        (b"P5 3 1 1\n\0\1\1", [0, 255, 255]),
        (b"P5 3 1 255\n\0\x80\xff", [0, 128, 255]),
        (b"P5 3 1 1000\n\0\0\x01\xf4\x03\xe8", [0, 128, 255]),
        (b"P5 3 1 100\n\0\x32\xff", [0, 128, 255]),  # beyond the maximum value
    ],
    ids=range(12),
)
def test_gray(data: bytes, values: list[int]) -> None:
    assert pixels(data) == [(value, value, value) for value in values]


@pytest.mark.parametrize(
    "data",
    [
        b"P3 2 1 10\n0 5 10 10 5 0\n",
        b"P6 2 1 10\n\0\5\n\n\5\0",
        b"P6 2 1 1000\n" + bytes.fromhex("0000 01f4 03e8 03e8 01f4 0000"),
        b"P6 2 1 65535\n" + bytes.fromhex("0000 8000 ffff ffff 8000 0000"),
    ],
    ids=range(4),
)
def test_color(data: bytes) -> None:
    assert pixels(data) == [(0, 128, 255), (255, 128, 0)]


@pytest.mark.parametrize("chunk_size", [2, 6, 1024])
@pytest.mark.parametrize("max_value", [254, 1023])
def test_chunks_are_joined(monkeypatch: pytest.MonkeyPatch, chunk_size: int, max_value: int) -> None:
    monkeypatch.setattr(netpbm, "_CHUNK_SIZE", chunk_size)
    size = 2 if max_value > 255 else 1
    samples = [index % (max_value + 1) for index in range(5 * 4 * 3)]
    body = b"".join(sample.to_bytes(size, "big") for sample in samples)
    changed = netpbm.as_8_bit(b"P6 5 4 %d\n" % max_value + body + b"what follows")
    assert changed == b"P6 5 4 255\n" + bytes(round(sample * 255 / max_value) for sample in samples)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"P6 1 1\n", "whose header does not end"),
        (b"P5 1 1 0\n\0", "maximum value is 0"),
        (b"P5 1 1 70000\n\0\0", "maximum value is 70000"),
        (b"P2 1 1 255\n256", "numbers from 0 to 255"),
        (b"P2 1 1 255\n-1", "numbers from 0 to 255"),
        (b"P2 1 1 255\n0000000000255", "numbers from 0 to 255"),
        (b"P3 1 1 255\n1 2 x", "numbers from 0 to 255"),
        (b"P1 1 1\n2", "0 and 1"),
        (b"P6 3 3 254\nabc", "truncated"),
        (b"P2 3 3 255\n1 2 3", "truncated"),
        (b"P2 9 9 255\n" + b"1 " * 9_000_000, "read slowly"),
        (b"P5 99999 99999 254\nabc", "refused undecoded"),
    ],
    ids=range(12),
)
def test_rejected_images(data: bytes, says: str) -> None:
    with pytest.raises(ImageError, match=says):
        upright(data)


def test_pillow_does_not_decode_in_python() -> None:
    for data in (b"P6 1 1 254\nabc", b"P5 1 1 300\nab", b"P2 1 1 7\n1", b"P1 1 1\n1"):
        with Image.open(io.BytesIO(netpbm.as_8_bit(data))) as picture:
            assert [tile[0] for tile in picture.tile] == ["raw"]


@pytest.mark.parametrize("pixel", [b"1 0 ", b"10", b"1\n#\n"])
def test_bits_are_converted_in_chunks(pixel: bytes) -> None:
    data = b"P1 2000 2000\n" + pixel * (1_000_000 // len(pixel))
    tracemalloc.start()
    try:
        netpbm.as_8_bit(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * len(data)
