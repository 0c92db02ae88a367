"""Leave out packets of a video file whose frames are not taken."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

from .clock import Clock
from .schedule import Schedule

_MAX_HELD = 32 * 1024 * 1024  # bytes of packets that wait for the next key frame
_FORMATS = ("mov,", "matroska,")  # containers whose packets all have the timestamps of their frames
_CODECS = ("h264", "hevc", "vp8", "vp9", "av1")  # which can be decoded from a key frame on, without a loss
_IDR = 5  # the type of H.264's NAL units that refer to nothing before


def can_skip(container: Any, stream: Any) -> bool:
    """Return whether `skip_packets` is exact for a video file."""
    return container.format.name.startswith(_FORMATS) and stream.codec_context.codec.canonical_name in _CODECS


def skip_packets(packets: Iterable[Any], stream: Any, schedule: Schedule, clock: Clock) -> Iterator[Any]:
    """Yield the packets to decode.

    Frames before the next one to take are needed only to decode those after them, up to the next key frame. So packets
    are held back until a frame may be taken, and left out if a key frame comes first.

    Args:
        packets: All packets, in the order of decoding.
        stream: The stream that they belong to.
        schedule: Which frames are taken.
        clock: Converts the timestamps of frames.
    """
    held: list[Any] = []
    size, latest = 0, -math.inf
    for packet in packets:
        if packet.pts is None and not packet.size:  # the end: the decoder returns the frames that it still has
            yield packet
            return
        timestamp = math.inf if packet.pts is None else float(packet.pts * packet.time_base)
        now = clock.peek(timestamp)
        is_next = now is not None and timestamp > latest and schedule.skips_to(now)
        if held and is_next and _starts_anew(packet, stream.codec_context):
            stream.codec_context.flush_buffers()
            held, size = [], 0
        held.append(packet)
        size += packet.size
        latest = max(latest, timestamp)
        if now is None or not schedule.is_early(now) or size > _MAX_HELD:
            yield from held
            held, size = [], 0


def _starts_anew(packet: Any, codec_context: Any) -> bool:
    """Return whether decoding can start with a packet.

    Containers also mark H.264 frames as key frames from which on the picture is only refreshed, bit by bit.
    """
    if not packet.is_keyframe or codec_context.codec.name != "h264":
        return bool(packet.is_keyframe)
    setup = codec_context.extradata or b""
    return setup[:1] == b"\1" and len(setup) > 4 and _has_idr(bytes(packet), (setup[4] & 3) + 1)


def _has_idr(data: bytes, length_size: int) -> bool:
    """Return whether a packet of H.264, whose NAL units follow their lengths, has a picture that refers to no other."""
    at = 0
    while at + length_size < len(data):
        start = at + length_size
        if data[start] & 31 == _IDR:
            return True
        at = start + int.from_bytes(data[at:start], "big")
    return False
