"""Which frames of a video are taken (pure)."""

from __future__ import annotations

import math

_TOLERANCE = 1e-6  # seconds by which a frame may be early, because timestamps are rounded fractions


class Schedule:
    """Takes the first frame at or after the start, and after each period.

    Args:
        fps: Maximum frames per second; None for all.
        start: Seconds into the video.
    """

    def __init__(self, fps: float | None, start: float) -> None:
        self.start = start
        self._fps = fps
        self._due = start

    def is_early(self, timestamp: float) -> bool:
        """Return whether a frame is before the next one to take."""
        return timestamp < self._due - _TOLERANCE

    def skips_to(self, timestamp: float) -> bool:
        """Return whether all frames before this timestamp are early."""
        return timestamp <= self._due + _TOLERANCE

    def takes(self, timestamp: float) -> bool:
        """Return whether to take a frame; call it once for each, in their order."""
        if self.is_early(timestamp):
            return False
        if self._fps is not None:
            self._due += (math.floor((timestamp - self._due) * self._fps + _TOLERANCE) + 1) / self._fps
        return True
