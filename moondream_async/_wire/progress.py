"""Track whether calls of a client succeed while others are refused: pure arithmetic on times."""

from __future__ import annotations

import copy
import math

from ..errors import APIError

_STALL_TIMEOUT = 60.0  # seconds without an accepted request, after which refused calls give up


class Progress:
    """Decides whether a refusal (429, a full queue) counts as a failed attempt of a call.

    While other calls of the client succeed, or may still succeed, a refusal only means that the server is busy. Calls
    give up when no request was accepted for a minute.

    Attributes:
        in_transit: Number of requests without a complete response, open streams included.
        last_refusal: The last refusal of any call, if no request was accepted since.
    """

    def __init__(self) -> None:
        self.in_transit = 0
        self.last_refusal: APIError | None = None
        self._last_accepted = -math.inf

    def accepted(self, now: float) -> None:
        """Record a request that was not refused."""
        self._last_accepted = now
        self.last_refusal = None

    def refused(self, error: APIError) -> None:
        """Record a refusal."""
        self.last_refusal = error

    def leaves_attempts(self, now: float, *, started: float) -> bool:
        """Return whether a refusal that arrives now does not count as an attempt.

        Args:
            now: The current time.
            started: When the call was made.
        """
        others_succeed = self.in_transit > 0 or self._last_accepted >= started
        return others_succeed and not self._is_stalled(now, started)

    def give_up(self, now: float, *, started: float) -> APIError | None:
        """Return the error for a call that has waited too long for an accepted request, else None."""
        if self.last_refusal is None or not self._is_stalled(now, started):
            return None
        return copy.copy(self.last_refusal)

    def _is_stalled(self, now: float, started: float) -> bool:
        return now - max(self._last_accepted, started) >= _STALL_TIMEOUT
