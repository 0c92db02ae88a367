"""Open and decode videos with PyAV."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from .._extras import import_extra
from .._images.limits import MAX_PIXELS
from ..errors import ImageError
from .clock import Clock
from .schedule import Schedule
from .skipping import can_skip, skip_packets

_OPEN_TIMEOUT, _READ_TIMEOUT = 30.0, 60.0  # seconds to open a source, and between two packets
_DEFAULT_RATE = 25.0  # frames per second if the video does not state it, as in FFmpeg
_MAX_RATE = 1000  # frames per second; a higher rate is that of a clock, not of the frames
_MAX_BROADCAST_GAP, _MAX_GAP = 10.0, 30 * 3600.0  # seconds; a longer gap means another clock, as in FFmpeg
_PROTOCOL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+[:,]")  # `rtsp://`, `concat:`, `subfile,`; drives have one letter


def decode(source: str | Path, schedule: Schedule) -> Iterator[tuple[float, Any]]:
    """Yield the times and PyAV's frames of a video, from a key frame before the schedule's start.

    Frames that the schedule does not take may be left out.

    Raises:
        ImageError: The video cannot be opened, or has no frames.
    """
    av = import_av()
    try:
        yield from _decode_from(av, source, schedule)
    except ImageError:
        raise
    except av.error.ProtocolNotFoundError:
        problem = "there is no such file, and FFmpeg knows no such protocol"
    except (av.error.FFmpegError, OSError, ValueError) as exc:
        problem = str(exc)
    else:
        return
    raise ImageError(f"{str(source)!r} cannot be read as a video: {problem}.")


def _decode_from(av: Any, source: str | Path, schedule: Schedule) -> Iterator[tuple[float, Any]]:
    start = schedule.start
    if start:
        pictures = _open_at(av, source, start, schedule)
        first = next(pictures, None)
        # In some containers, seeking ends at a key frame after `start`, or fails.
        if first is not None and first[0] <= start:
            yield first
            yield from pictures
            return
        pictures.close()
    is_empty = True
    for timestamp, picture in _open_at(av, source, 0.0, schedule):
        is_empty = False
        yield timestamp, picture
    if is_empty:
        raise ImageError(f"{str(source)!r} has no frames that can be decoded.")


def _open_at(av: Any, source: str | Path, start: float, schedule: Schedule) -> Generator[tuple[float, Any]]:
    """Yield times and pictures from a key frame near `start`; none if seeking there fails."""
    with ExitStack() as stack:
        file = _ffmpeg_source(source, stack)
        container = stack.enter_context(av.open(file, timeout=(_OPEN_TIMEOUT, _READ_TIMEOUT)))
        stream = next(iter(container.streams.video), None)
        if stream is None:
            raise ImageError(f"{str(source)!r} has no pictures in it.")
        if stream.codec_context is None:
            raise ImageError(f"{str(source)!r} uses a video codec that the installed FFmpeg cannot decode.")
        stream.thread_type = "AUTO"
        flags = av.format.Flags
        may_restart = bool(container.format.flags & flags.ts_discont.value)
        # Formats without timestamps, or with repeated ones, are read from the start: seeking would miss the position.
        seeks = bool(start) and not may_restart and not container.format.flags & flags.no_timestamps.value
        if seeks and not _seek(av, container, stream, start):
            return
        origin = None if stream.start_time is None else float(stream.start_time * stream.time_base)
        max_gap = math.inf if seeks else _MAX_BROADCAST_GAP if may_restart else _MAX_GAP
        clock = Clock(_frame_rate(stream), origin, max_gap)
        packets = container.demux(stream)
        if _is_file(source) and can_skip(container, stream):
            packets = skip_packets(packets, stream, schedule, clock)
        for packet in packets:
            for picture in _decode_packet(packet, av):
                if seeks and picture.time is None:
                    return
                yield clock.convert(picture.time), picture


def _ffmpeg_source(source: str | Path, stack: ExitStack) -> Any:
    """Return a source that FFmpeg opens without mistaking a file name for a protocol."""
    name = str(source)
    if not _is_file(source):
        return name
    try:
        name.encode()
    except UnicodeEncodeError:  # FFmpeg only accepts names in UTF-8
        return stack.enter_context(open(name, "rb"))  # noqa: PTH123
    return f"file:{name}" if ":" in name or "," in name else name


def _is_file(source: str | Path) -> bool:
    return isinstance(source, Path) or os.path.lexists(source) or not _PROTOCOL.match(source)


def _seek(av: Any, container: Any, stream: Any, start: float) -> bool:
    """Seek to the key frame before `start`, and return whether that succeeded."""
    try:
        container.seek(int(start / stream.time_base) + (stream.start_time or 0), stream=stream)
    except (av.error.FFmpegError, OverflowError):
        return False
    return True


def _frame_rate(stream: Any) -> float:
    """Return the frames per second that the video states, or the default."""
    rates = (stream.guessed_rate, stream.average_rate, stream.base_rate)
    return next((float(rate) for rate in rates if rate and 0 < rate <= _MAX_RATE), _DEFAULT_RATE)


def _decode_packet(packet: Any, av: Any) -> list[Any]:
    try:
        pictures: list[Any] = packet.decode()
    except av.error.InvalidDataError:  # a damaged packet; the video continues after it
        return []
    for picture in pictures:
        if picture.width * picture.height > MAX_PIXELS:
            raise ImageError(
                f"A frame has {picture.width:,} x {picture.height:,} pixels; at most {MAX_PIXELS:,} are supported."
            )
    return pictures


def import_av() -> Any:
    """Import PyAV.

    Raises:
        ConfigurationError: The extra `video` is not installed.
    """
    return import_extra("av", "video", "Video")
