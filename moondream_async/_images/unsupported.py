"""Say why a sound file of a known format is not read (pure)."""

from __future__ import annotations

import re

from . import tiff

_REFUSALS = re.compile("unknown|unsupported|not supported|cannot handle|unable to|not implemented", re.IGNORECASE)
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # markers of a JPEG that begin its frame
_LOSSLESS, _JPEG_LS = (0xC3, 0xC7, 0xCB, 0xCF), 0xF7
_SAMPLES = {1: "integers", tiff.SIGNED: "signed integers", tiff.FLOATS: "floats", 5: "complex numbers"}
_TIFF_COMPRESSIONS = frozenset((*range(1, 9), 32771, 32773, 32809, 32946, 34925, 50000, 50001))


def explain(data: bytes, kind: str, problem: str) -> str | None:
    """Describe what kind of file it is, to end the sentence "The image is ..."; None if it is damaged.

    Args:
        data: The file.
        kind: Its format.
        problem: What its reader says.
    """
    found = _LOOKS[kind](data) if kind in _LOOKS else None
    if found is None and _REFUSALS.search(problem):
        found = f"a {kind} of a sort that is not read here ({problem})"
    return found and f"{found}; convert it to 8-bit RGB, as PNG or JPEG, first"


def _jpeg(data: bytes) -> str | None:
    frame = _frame_of_jpeg(data)
    if frame is None:
        return None
    marker, bits, channels = frame
    if marker == _JPEG_LS or marker in _LOSSLESS:
        return "a lossless JPEG, which is not read here"
    if bits != 8:
        return f"a JPEG of {bits} bits a channel, which is not read here"
    if channels not in (1, 3, 4):
        return f"a JPEG of {channels} channels, which is not read here"
    return None


def _frame_of_jpeg(data: bytes) -> tuple[int, int, int] | None:
    """Find the kind of coding, the bits of a channel and the number of channels."""
    at = 2
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF:  # filling
            at += 1
        elif marker in _FRAMES or marker == _JPEG_LS:
            return marker, data[at + 4], data[at + 9]
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return None


def _tiff(data: bytes) -> str | None:
    found = tiff.directories(data)
    if not found or not found[0].get(tiff.WIDTH) or not found[0].get(tiff.HEIGHT):
        return None
    first = found[0]
    compression = first.get(tiff.COMPRESSION, 1)
    if compression not in _TIFF_COMPRESSIONS:
        return f"a TIFF with compression {compression}, which is not read here"
    bits, channels = first.get(tiff.BITS, 1), first.get(tiff.CHANNELS, 1)
    samples = _SAMPLES.get(first.get(tiff.SAMPLE_FORMAT, 1), "values")
    photometric = first.get(tiff.PHOTOMETRIC)
    if bits == 8 and channels in (1, 3, 4) and samples == "integers" and photometric <= 6:
        return None
    return (
        f"a TIFF of {channels} channel{'s' * (channels != 1)} of {bits}-bit {samples} "
        f"(photometric interpretation {photometric}), which is not read here"
    )


_LOOKS = {"JPEG": _jpeg, "TIFF": _tiff}
