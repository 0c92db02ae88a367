"""Make attempts until one succeeds or the retry policy gives up."""

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
    from .request import Request

T = TypeVar("T")


@attrs.define(eq=False)
class FailedAttempt:
    """A failed attempt.

    Attributes:
        error: The error to raise.
        cause: The cause of the failure, for the retry policy; None: do not retry.
        sent: When it was sent, on the monotonic clock.
    """

    error: MoondreamError
    cause: RetryCause | None
    sent: float = 0.0


def is_refusal(outcome: object) -> bool:
    """Return whether the server refused the request with 429: a rate limit or a full queue."""
    return isinstance(outcome, FailedAttempt) and outcome.cause is not None and outcome.cause.status == 429


async def run_with_retries(
    attempt_once: Callable[[int], Awaitable[T | FailedAttempt]],
    policy: RetryPolicy,
    delay_after: Callable[[FailedAttempt, int], float | None],
    observer: CallObserver | None,
    request: Request,
) -> tuple[T, int]:
    """Run attempts until one succeeds or the policy gives up; return the outcome and the number of attempts.

    Args:
        attempt_once: Makes one attempt; receives its number, from 1.
        policy: Its deadline limits all attempts together.
        delay_after: Returns the seconds to wait after the failed attempt of this number, or None to give up.
        observer: Notified of each retry.
        request: Named in the error when the deadline expires.
    """
    deadline = policy.deadline
    attempt = 0
    with nullcontext() if deadline is None else anyio.move_on_after(deadline):
        for attempt in itertools.count(1):
            outcome = await attempt_once(attempt)
            if not isinstance(outcome, FailedAttempt):
                return outcome, attempt
            delay = delay_after(outcome, attempt)
            if delay is None:
                outcome.error.attempts = attempt
                raise outcome.error
            if observer is not None:
                await observer.retry(attempt, delay, outcome.error, policy.attempts)
            await anyio.sleep(delay)
    error = transport_errors.total_timeout(deadline or 0, "RetryPolicy.deadline", request.address)
    error.attempts = attempt
    raise error


def delay_by_policy(
    policy: RetryPolicy, failed: FailedAttempt, attempt: int, elapsed: float, *, total: int | None = None
) -> float | None:
    """Return the seconds to wait before a retry under the policy, or None to give up.

    Args:
        policy: The user's retry policy.
        failed: The last failed attempt.
        attempt: Number of attempts that count against the policy.
        elapsed: Seconds since the first attempt.
        total: Number of all attempts, if the backoff is to grow with all of them.
    """
    if failed.cause is None:
        return None
    jitter = random.random()  # noqa: S311
    delay = next_delay(policy, failed.cause, attempt=attempt, elapsed=elapsed, jitter=jitter)
    if delay is None or total is None or failed.cause.retry_after is not None:
        return delay
    return jitter * backoff(policy, total)
