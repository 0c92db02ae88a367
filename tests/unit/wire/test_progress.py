"""What a refusal means for a call: a table of what happened before it."""

from __future__ import annotations

import pytest

from moondream_async import RateLimitError
from moondream_async._wire.progress import Progress


@pytest.mark.parametrize(
    ("in_transit", "accepted_at", "started", "now", "leaves"),
    [
        (0, None, 0.0, 1.0, False),  # the only call, and nothing ever got through
        (1, None, 0.0, 1.0, True),  # another request is on its way
        (0, 0.5, 0.0, 1.0, True),  # another call got through meanwhile
        (0, 0.5, 0.6, 1.0, False),  # it got through before this call began
        (1, None, 0.0, 59.9, True),
        (1, None, 0.0, 60.0, False),  # nothing got through for a minute
        (0, 100.0, 0.0, 159.9, True),
        (0, 100.0, 0.0, 160.0, False),
    ],
)
def test_refusals_that_leave_the_attempts(
    in_transit: int, accepted_at: float | None, started: float, now: float, leaves: bool
) -> None:
    progress = Progress()
    progress.in_transit = in_transit
    if accepted_at is not None:
        progress.accepted(accepted_at)
    assert progress.leaves_attempts(now, started=started) is leaves


def test_waiting_calls_give_up_with_a_copy_of_the_last_refusal() -> None:
    progress = Progress()
    assert progress.give_up(1000.0, started=0.0) is None  # nothing was refused
    refusal = RateLimitError("slow down", status=429)
    progress.refused(refusal)
    assert progress.give_up(59.0, started=0.0) is None
    error = progress.give_up(60.0, started=0.0)
    assert isinstance(error, RateLimitError)
    assert error is not refusal
    assert (error.status, error.message) == (429, "slow down")
    assert progress.give_up(100.0, started=90.0) is None  # that call has not waited yet
    progress.accepted(100.0)
    assert progress.give_up(200.0, started=0.0) is None
