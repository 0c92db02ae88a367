"""Check how much a JPEG 2000 codestream makes OpenJPEG allocate before it decodes anything (pure).

A few bytes declare how a tile is divided into resolutions, precincts and code-blocks, each of which takes memory
even if the file has no data for it. See ISO/IEC 15444-1, annex A, for the markers.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

from ..errors import ImageError
from . import isobmff
from .limits import check_size, refused

_MAX_TILE_SAMPLES = 400_000_000  # pixels x components per tile, 4 bytes each
_MAX_TILES = 16_384
_MAX_COMPONENTS = 4  # more are not supported by Pillow
_MAX_CODE_BLOCKS = 1_000_000  # per tile, about 600 bytes each
_MAX_ALL_CODE_BLOCKS = 8_000_000
_MAX_PACKETS = 50_000_000  # layers x resolutions x components x precincts per tile, 2 bytes each
_MAX_POSITIONS = 20_000_000  # visited by a progression by position
_MAX_SEGMENTS = 200_000  # in all headers
_MAX_STYLES = 256  # distinct coding styles per file
_MAX_CODESTREAMS = 16
_MIN_TILE_BYTES = 14  # SOT and SOD of a tile-part without data

_START = b"\xff\x4f\xff\x51"  # SOC and SIZ
_SIZ, _COD, _COC, _SOT, _SOD = 0xFF51, 0xFF52, 0xFF53, 0xFF90, 0xFF93
# Markers that OpenJPEG knows. After any other it searches for the next marker, where other decoders skip a segment.
_KNOWN = frozenset(
    {0xFF50, _SIZ, _COD, _COC, 0xFF55, 0xFF57, 0xFF58, 0xFF59, 0xFF5C, 0xFF5D, 0xFF5E, 0xFF5F}
) | frozenset({0xFF60, 0xFF61, 0xFF63, 0xFF64, 0xFF74, 0xFF75, 0xFF77, 0xFF78})


class _Frame(NamedTuple):
    width: int
    height: int
    tile_width: int
    tile_height: int
    tiles: int
    components: int


class _Style(NamedTuple):
    """Coding style: how a tile-component is divided. Sizes are exponents of two."""

    levels: int
    block_width: int
    block_height: int
    precincts: tuple[tuple[int, int], ...]  # per resolution, smallest first


def check(data: bytes) -> None:
    """Check the boxes and codestreams of a file.

    Raises:
        ImageError: The file declares more than an image of its size needs.
    """
    if data.startswith(_START):
        _check_codestream(data, 0)
        return
    codestreams = [box.start for box in isobmff.boxes(data) if box.type == b"jp2c"]
    if len(codestreams) > _MAX_CODESTREAMS:
        raise refused(f"more than {_MAX_CODESTREAMS} codestreams")
    for start in codestreams:
        _check_codestream(data, start)


def _check_codestream(data: bytes, start: int) -> None:
    frame: _Frame | None = None
    layers, styles = 1, set[_Style]()
    for marker, content in _segments(data, start + 2):
        if marker == _SIZ and frame is None:
            frame = _read_frame(content)
            _check_frame(frame, len(data))
        elif marker == _COD and len(content) >= 10:
            layers = max(layers, int.from_bytes(content[2:4], "big"))
            styles.add(_read_style(content[5:], has_precincts=bool(content[0] & 1)))
        elif marker == _COC and len(content) >= 7:
            styles.add(_read_style(content[2:], has_precincts=bool(content[1] & 1)))
        if len(styles) > _MAX_STYLES:
            raise refused(f"more than {_MAX_STYLES} coding styles")
    if frame is not None and styles:
        _check_blocks(frame, styles)
        _check_packets(frame, styles, layers)


def _segments(data: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """Yield the marker segments of the main header and of all tile-part headers."""
    count, tile_part_end = 0, 0
    while at + 4 <= len(data):
        count += 1
        if count > _MAX_SEGMENTS:
            raise refused(f"more than {_MAX_SEGMENTS:,} marker segments")
        marker, length = struct.unpack_from(">HH", data, at)
        if marker == _SOT:
            size = int.from_bytes(data[at + 6 : at + 10], "big")
            tile_part_end = at + size if size >= _MIN_TILE_BYTES else len(data)
        elif marker == _SOD:
            at = max(at + 2, tile_part_end)
            continue
        elif marker in _KNOWN:
            yield marker, data[at + 4 : at + 2 + length]
        elif 0xFF30 <= marker <= 0xFFFF and marker != 0xFFD9:
            raise refused(f"a marker that does not exist in JPEG 2000 ({marker:04X})")
        else:
            return
        at += 2 + max(2, length)


def _read_frame(content: bytes) -> _Frame:
    if len(content) < 36:
        raise ImageError("The image is a JPEG 2000 that is damaged or truncated at its start.")
    right, bottom, left, top, tile_width, tile_height, tile_left, tile_top, components = struct.unpack_from(
        ">8IH", content, 2
    )
    if not (left < right and top < bottom and tile_width and tile_height and tile_left <= left and tile_top <= top):
        raise ImageError("The image is a JPEG 2000 whose size is damaged.")
    tiles = _ceil_div(right - tile_left, tile_width) * _ceil_div(bottom - tile_top, tile_height)
    width, height = right - left, bottom - top
    return _Frame(width, height, min(width, tile_width), min(height, tile_height), tiles, components)


def _read_style(content: bytes, *, has_precincts: bool) -> _Style:
    """Read the fields that COD and COC share: levels, code-blocks, their style, the transformation, precincts."""
    levels = min(content[0], 32)
    sizes = content[5 : 6 + levels] if has_precincts else b""
    precincts = [(size & 15, size >> 4) for size in sizes] or [(15, 15)]
    precincts += [precincts[-1]] * (levels + 1 - len(precincts))
    return _Style(levels, (content[1] & 15) + 2, (content[2] & 15) + 2, tuple(precincts))


def _check_frame(frame: _Frame, nbytes: int) -> None:
    check_size(frame.width, frame.height)
    if frame.components > _MAX_COMPONENTS:
        raise refused(f"{frame.components} components; at most {_MAX_COMPONENTS} are supported")
    if frame.tile_width * frame.tile_height * frame.components > _MAX_TILE_SAMPLES:
        raise refused(f"more than {_MAX_TILE_SAMPLES:,} samples in one tile; save it with smaller tiles")
    if frame.tiles > _MAX_TILES or frame.tiles * _MIN_TILE_BYTES > nbytes:
        raise refused(
            f"{frame.tiles:,} tiles; it has room for {nbytes // _MIN_TILE_BYTES:,}, and at most {_MAX_TILES:,} "
            "are supported"
        )


def _check_blocks(frame: _Frame, styles: set[_Style]) -> None:
    blocks = frame.components * max(_count_code_blocks(frame, style) for style in styles)
    if blocks > _MAX_CODE_BLOCKS or blocks * frame.tiles > _MAX_ALL_CODE_BLOCKS:
        raise refused(f"{blocks:,} code-blocks or precincts in each of {frame.tiles:,} tiles")


def _count_code_blocks(frame: _Frame, style: _Style) -> int:
    """Count the code-blocks of a tile-component, or its precincts times bands if there are more of them."""
    blocks = 0
    for resolution, (precinct_width, precinct_height) in enumerate(style.precincts):
        bands, split = (3, 1) if resolution else (1, 0)  # all but the smallest have three bands of half the size
        level = style.levels - resolution + split
        width = _ceil_shift(frame.tile_width, level + max(0, min(style.block_width, precinct_width - split)))
        height = _ceil_shift(frame.tile_height, level + max(0, min(style.block_height, precinct_height - split)))
        blocks += bands * width * height
    return max(blocks, 3 * sum(_count_precincts(frame, style)))


def _count_precincts(frame: _Frame, style: _Style) -> list[int]:
    """Count the precincts of a tile-component in each resolution."""
    return [
        _ceil_shift(frame.tile_width, style.levels - resolution + x)
        * _ceil_shift(frame.tile_height, style.levels - resolution + y)
        for resolution, (x, y) in enumerate(style.precincts)
    ]


def _check_packets(frame: _Frame, styles: set[_Style], layers: int) -> None:
    resolutions = frame.components * max(len(style.precincts) for style in styles)
    precincts = max(max(_count_precincts(frame, style)) for style in styles)
    if layers * resolutions * precincts > _MAX_PACKETS:
        raise refused(f"{layers:,} layers of {precincts:,} precincts")
    # A progression by position advances by the smallest precinct size, in pixels of the full image.
    step_x = min(style.levels - index + x for style in styles for index, (x, _) in enumerate(style.precincts))
    step_y = min(style.levels - index + y for style in styles for index, (_, y) in enumerate(style.precincts))
    positions = _ceil_shift(frame.tile_width, step_x) * _ceil_shift(frame.tile_height, step_y)
    if positions * resolutions * frame.tiles > _MAX_POSITIONS:
        raise refused("precincts that are narrow in one resolution and flat in another")


def _ceil_div(size: int, divisor: int) -> int:
    return -(-size // divisor)


def _ceil_shift(size: int, exponent: int) -> int:
    return -(-size >> exponent)
