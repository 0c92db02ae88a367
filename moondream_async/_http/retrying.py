"""Trying again: what a failed attempt is, and the loop around attempts."""

from __future__ import annotations

import itertools
import random
from collections.abc import Awaitable, Callable
from contextlib import nullcontext
from typing import TYPE_CHECKING, TypeVar

import anyio
import attrs

from .._wire.retry import RetryCause, backoff, next_delay
from ..config import RetryPolicy
from ..errors import MoondreamError
from . import transport_errors

if TYPE_CHECKING:
    from .observer import CallObserver

T = TypeVar("T")


@attrs.frozen(eq=False)
class FailedAttempt:
    """An attempt that did not succeed: what to raise, and how a retry sees it (None: never again)."""

    error: MoondreamError
    failure: RetryCause | None
    sent: float = 0.0
    """When it was sent, on the monotonic clock, where the pace depends on it."""


def is_refusal(outcome: object) -> bool:
    """Return whether the server said "not now": a rate limit, or a full queue."""
    return isinstance(outcome, FailedAttempt) and outcome.failure is not None and outcome.failure.status == 429


async def run_with_retries(
    once: Callable[[int], Awaitable[T | FailedAttempt]],
    policy: RetryPolicy,
    delay_after: Callable[[FailedAttempt, int], float | None],
    watch: CallObserver | None = None,
    *,
    address: str = "",
) -> tuple[T, int]:
    """Try until it succeeds or is given up; return the outcome and the attempts.

    Args:
        once: One attempt, told its number.
        policy: Its deadline bounds all of them.
        delay_after: Seconds to wait after a failed attempt (of this number), or None to give up.
        watch: Is told of each further attempt.
        address: What is called, for the error when the deadline runs out.
    """
    deadline = policy.deadline
    attempt = 0
    with nullcontext() if deadline is None else anyio.move_on_after(deadline):
        for attempt in itertools.count(1):
            outcome = await once(attempt)
            if not isinstance(outcome, FailedAttempt):
                return outcome, attempt
            delay = delay_after(outcome, attempt)
            if delay is None:
                outcome.error.attempts = attempt
                raise outcome.error
            if watch is not None:
                await watch.retry(attempt, delay, outcome.error)
            await anyio.sleep(delay)
    error = transport_errors.total_timeout(deadline or 0, "RetryPolicy.deadline", address)
    error.attempts = attempt
    raise error


def delay_by_policy(
    policy: RetryPolicy, failed: FailedAttempt, attempt: int, elapsed: float, *, total: int | None = None
) -> float | None:
    """Return the seconds to wait as the policy has it, or None to give up.

    Args:
        policy: The user's.
        failed: The last attempt.
        attempt: How many attempts count against the policy.
        elapsed: Seconds since the first.
        total: How many were made, if the backoff grows with all of them.
    """
    if failed.failure is None:
        return None
    jitter = random.random()  # noqa: S311
    delay = next_delay(policy, failed.failure, attempt=attempt, elapsed=elapsed, jitter=jitter)
    if delay is None or total is None or failed.failure.retry_after is not None:
        return delay
    return jitter * backoff(policy, total)
