"""Time of the frames of a video (pure)."""

from __future__ import annotations

_MAX_REORDERED = 3  # frames whose timestamps may go back or repeat; after more, the clock has restarted


class Clock:
    """Converts the timestamps of a video's frames, if it has any, to seconds that never decrease.

    Args:
        rate: Frames per second, for frames without a timestamp.
        origin: The timestamp at which the video starts; None if the video does not state it.
        max_gap: Maximum seconds between frames of the same clock.
    """

    def __init__(self, rate: float, origin: float | None, max_gap: float) -> None:
        self._step = 1 / rate
        self._origin = origin
        self._max_gap = max_gap
        self._is_steady = True  # so far, each frame had a timestamp, after that of the last one
        self._last: float | None = None
        self._late = 0  # consecutive frames whose timestamp was not after the last one

    def convert(self, timestamp: float | None) -> float:
        """Return the time of the next frame, in seconds from the start."""
        last, origin = self._last, self._origin
        if self._last is None:
            now = self._first(timestamp)
        elif timestamp is None:
            now = self._last + self._step
        else:
            now = self._next(timestamp, self._last)
        if timestamp is None or (last is not None and (now <= last or self._origin != origin)):
            self._is_steady = False
        self._last = now
        return now

    def peek(self, timestamp: float) -> float | None:
        """Return the time that a later frame will have; None before the first frame, or if it is not certain."""
        return (
            timestamp - self._origin
            if self._is_steady and self._last is not None and self._origin is not None
            else None
        )

    def _first(self, timestamp: float | None) -> float:
        if timestamp is None:
            return 0.0
        if self._origin is None or not 0 <= timestamp - self._origin <= self._max_gap:
            self._origin = timestamp
        return timestamp - self._origin

    def _next(self, timestamp: float, last: float) -> float:
        now = None if self._origin is None else timestamp - self._origin
        self._late = 0 if now is not None and now > last else self._late + 1
        if now is None or self._is_other_clock(now, last):
            now = last + self._step
            self._origin = timestamp - now
        return max(now, last)

    def _is_other_clock(self, now: float, last: float) -> bool:
        is_restarted = last - now > _MAX_REORDERED * self._step or self._late > _MAX_REORDERED
        return is_restarted or now - last > self._max_gap
