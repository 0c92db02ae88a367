"""Read the picture sizes that AV1 data declares in its sequence headers (pure).

See the AV1 specification, sections 5.3 to 5.5.
"""

from __future__ import annotations

from collections.abc import Iterator

_SEQUENCE_HEADER = 1
_MAX_UNITS = 64  # OBUs (open bitstream units) searched for sequence headers; a picture has about three
_MAX_HEADER_SIZE = 1024


def max_pixels(data: bytes) -> int:
    """Return the number of pixels of the largest picture that the data declares; 0 if it declares none."""
    return max((_read_pixels(content) for content in _sequence_headers(data)), default=0)


def _sequence_headers(data: bytes) -> Iterator[bytes]:
    at = 0
    for _ in range(_MAX_UNITS):
        if at >= len(data):
            return
        unit_type, has_extension, has_size = data[at] >> 3 & 15, data[at] >> 2 & 1, data[at] >> 1 & 1
        at += 1 + has_extension
        size, at = _read_leb128(data, at) if has_size else (len(data) - at, at)
        if unit_type == _SEQUENCE_HEADER:
            yield data[at : at + min(size, _MAX_HEADER_SIZE)]
        at += size


def _read_leb128(data: bytes, at: int) -> tuple[int, int]:
    """Return a variable-length number, and the position after it."""
    value = 0
    for index in range(8):
        byte = data[at] if at < len(data) else 0
        value, at = value | (byte & 127) << 7 * index, at + 1
        if byte < 128:
            break
    return value, at


class _BitReader:
    """Reads bit by bit; after the end it reads zeros."""

    def __init__(self, data: bytes) -> None:
        self._value, self._left = int.from_bytes(data, "big"), 8 * len(data)

    def read(self, count: int) -> int:
        self._left -= count
        shifted = self._value >> self._left if self._left >= 0 else self._value << -self._left
        return shifted & ((1 << count) - 1)


def _read_pixels(header: bytes) -> int:
    bits = _BitReader(header)
    bits.read(4)  # seq_profile, still_picture
    if bits.read(1):  # reduced_still_picture_header
        bits.read(5)
    else:
        _skip_operating_points(bits)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    return (bits.read(width_bits) + 1) * (bits.read(height_bits) + 1)


def _skip_operating_points(bits: _BitReader) -> None:
    delay_bits = 0
    if bits.read(1):  # timing_info_present_flag
        delay_bits = _skip_timing(bits)
    has_display_delay = bits.read(1)
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:  # seq_level_idx
            bits.read(1)
        if delay_bits and bits.read(1):
            bits.read(2 * delay_bits + 1)
        if has_display_delay and bits.read(1):
            bits.read(4)


def _skip_timing(bits: _BitReader) -> int:
    """Skip the timing info, and return the bits per decoder delay; 0 if there is no decoder model."""
    bits.read(64)
    if bits.read(1):  # equal_picture_interval, followed by a uvlc
        zeros = 0
        while zeros < 32 and not bits.read(1):
            zeros += 1
        bits.read(zeros if zeros < 32 else 0)
    if not bits.read(1):  # decoder_model_info_present_flag
        return 0
    delay_bits = bits.read(5) + 1
    bits.read(32 + 5 + 5)
    return delay_bits
