"""Whether a refusal counts as an attempt, depending on what happened before it."""

from __future__ import annotations

import pytest

from moondream_async import RateLimitError
from moondream_async._wire.progress import Progress


@pytest.mark.parametrize(
    ("in_transit", "accepted_at", "started", "now", "leaves"),
    [
        (0, None, 0.0, 1.0, False),  # the only call; no request was accepted yet
        (1, None, 0.0, 1.0, True),  # another request is in transit
        (0, 0.5, 0.0, 1.0, True),  # another request was accepted meanwhile
        (0, 0.5, 0.6, 1.0, False),  # it was accepted before this call began
        (1, None, 0.0, 59.9, True),
        (1, None, 0.0, 60.0, False),  # no request was accepted for a minute
        (0, 100.0, 0.0, 159.9, True),
        (0, 100.0, 0.0, 160.0, False),
    ],
)
def test_refusals_that_do_not_count_as_attempts(
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
    assert progress.give_up(100.0, started=90.0) is None  # that call has just begun to wait
    progress.accepted(100.0)
    assert progress.give_up(200.0, started=0.0) is None
