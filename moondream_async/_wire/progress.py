"""Whether the calls of a client get through: pure arithmetic on the times it is given."""

from __future__ import annotations

import copy
import math

from ..errors import APIError

_PATIENCE = 60.0  # seconds without one accepted request, after which refused calls give up


class Progress:
    """What a refusal (429, a full queue) means for a call: "not yet", or "no".

    While other calls of the client get through, or may still, a refusal only means that the server
    is busy. A call gives up when none got through for a minute.

    Attributes:
        in_transit: Requests that were sent and are not answered yet; open streams count.
        last_refusal: The last refusal of any call, if nothing was accepted since.
    """

    def __init__(self) -> None:
        self.in_transit = 0
        self.last_refusal: APIError | None = None
        self._last = -math.inf

    def accepted(self, now: float) -> None:
        """Note a request that was not refused."""
        self._last = now
        self.last_refusal = None

    def refused(self, error: APIError) -> None:
        """Note a refusal."""
        self.last_refusal = error

    def leaves_attempts(self, now: float, *, started: float) -> bool:
        """Return whether a refusal that arrives now does not count as an attempt.

        Args:
            now: The time.
            started: When the call was made.
        """
        gets_through = self.in_transit > 0 or self._last >= started
        return gets_through and not self._stalled(now, started)

    def give_up(self, now: float, *, started: float) -> APIError | None:
        """Return the error for a call that has waited too long for others to get through, else None."""
        if self.last_refusal is None or not self._stalled(now, started):
            return None
        return copy.copy(self.last_refusal)

    def _stalled(self, now: float, started: float) -> bool:
        return now - max(self._last, started) >= _PATIENCE
