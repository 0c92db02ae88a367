"""Whether to send again, and when: pure functions of a policy and a failure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Literal

import attrs

from ..config import RetryPolicy

NOT_PROCESSED = (425, 429)
"""Statuses after which even a non-idempotent request may be retried: the server did not process it."""


@attrs.frozen
class RetryCause:
    """Why an attempt failed, as far as a retry depends on it.

    Args:
        cause: An answer with a status, a connection that could not be made or broke, a timeout.
        status: The status that the answer meant (Station's 200 with "Queue is full" means 429).
        retry_after: Seconds the server asked to wait.
    """

    cause: Literal["status", "connection", "timeout"]
    status: int | None = None
    retry_after: float | None = None


def next_delay(
    policy: RetryPolicy, failure: RetryCause, *, attempt: int, elapsed: float, jitter: float
) -> float | None:
    """Seconds to wait before the next attempt, or None to give up.

    Args:
        policy: The user's policy.
        failure: How the last attempt failed.
        attempt: How many attempts were made, the failed one included.
        elapsed: Seconds since the first attempt began.
        jitter: A random number in 0..1.
    """
    if attempt >= policy.attempts or not _worth_it(policy, failure):
        return None
    if failure.retry_after is not None:
        if failure.retry_after > policy.max_retry_after:
            return None
        delay = failure.retry_after
    else:
        delay = jitter * backoff(policy, attempt)
    if policy.deadline is not None and elapsed + delay >= policy.deadline:
        return None
    return delay


def backoff(policy: RetryPolicy, attempt: int) -> float:
    """The longest wait after this attempt (1-based): doubling, capped; full jitter comes on top."""
    exponent = min(attempt - 1, 64)  # beyond this the cap has long been reached
    return min(policy.max_backoff, policy.backoff * 2.0**exponent)


def _worth_it(policy: RetryPolicy, failure: RetryCause) -> bool:
    if failure.cause == "timeout":
        return policy.retry_timeouts
    if failure.cause == "connection":
        return True
    if failure.status == 504 and not policy.retry_timeouts:
        return False
    return failure.status in policy.statuses


def parse_retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Seconds to wait, from `retry-after-ms` or `Retry-After` (seconds or an HTTP date).

    Args:
        headers: Names in lower case.
        now: The time of day, as `time.time()`.

    Returns:
        Seconds, never negative; None when neither header is there or can be read.
    """
    milliseconds = _number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _number(value)
    if seconds is not None or value is None:
        return seconds
    try:
        moment = parsedate_to_datetime(value.strip())
        return max(0.0, moment.timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return max(0.0, value) if math.isfinite(value) else None
