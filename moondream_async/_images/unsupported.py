"""Explain why a valid file of a known format is not supported (pure)."""

from __future__ import annotations

import re

from . import tiff

_REFUSALS = re.compile("unknown|unsupported|not supported|cannot handle|unable to|not implemented", re.IGNORECASE)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG markers that start a frame
_LOSSLESS, _JPEG_LS = (0xC3, 0xC7, 0xCB, 0xCF), 0xF7
_SAMPLES = {1: "integers", tiff.SIGNED: "signed integers", tiff.FLOATS: "floats", 5: "complex numbers"}
_TIFF_COMPRESSIONS = frozenset((*range(1, 9), 32771, 32773, 32809, 32946, 34925, 50000, 50001))


def explain(data: bytes, kind: str, problem: str) -> str | None:
    """Describe the kind of file, to complete the sentence "The image is ..."; return None if it is damaged.

    Args:
        data: The file.
        kind: Its format.
        problem: The error text of its reader.
    """
    description = _DESCRIPTIONS[kind](data) if kind in _DESCRIPTIONS else None
    if description is None and _REFUSALS.search(problem):
        description = f"a {kind} of an unsupported kind ({problem})"
    return description and f"{description}; convert it to an 8-bit RGB PNG or JPEG first"


def _describe_jpeg(data: bytes) -> str | None:
    frame = _read_jpeg_frame(data)
    if frame is None:
        return None
    marker, bits, channels = frame
    if marker == _JPEG_LS or marker in _LOSSLESS:
        return "a lossless JPEG, which is not supported"
    if bits != 8:
        return f"a JPEG of {bits} bits a channel, which is not supported"
    if channels not in (1, 3, 4):
        return f"a JPEG of {channels} channels, which is not supported"
    return None


def _read_jpeg_frame(data: bytes) -> tuple[int, int, int] | None:
    """Return the frame's marker, the bits per channel and the number of channels; None if there is no frame."""
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # fill byte
            at += 1
        elif marker in _FRAMES or marker == _JPEG_LS:
            return marker, data[at + 4], data[at + 9]
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _describe_tiff(data: bytes) -> str | None:
    first = next(iter(tiff.directories(data)), None)
    if first is None or not first.get(tiff.WIDTH) or not first.get(tiff.HEIGHT):
        return None
    compression = first.get(tiff.COMPRESSION, 1)
    if compression not in _TIFF_COMPRESSIONS:
        return f"a TIFF with compression {compression}, which is not supported"
    bits, channels = first.get(tiff.BITS, 1), first.get(tiff.CHANNELS, 1)
    samples = _SAMPLES.get(first.get(tiff.SAMPLE_FORMAT, 1), "values")
    photometric = first.get(tiff.PHOTOMETRIC)
    if bits == 8 and channels in (1, 3, 4) and samples == "integers" and photometric <= 6:
        return None
    return (
        f"a TIFF of {channels} channel{'s' * (channels != 1)} of {bits}-bit {samples} "
        f"(photometric interpretation {photometric}), which is not supported"
    )


_DESCRIPTIONS = {"JPEG": _describe_jpeg, "TIFF": _describe_tiff}
