"""Decide whether and when to retry: pure functions of a policy and a cause."""

from __future__ import annotations

import math
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Literal

import attrs

from ..config import RetryPolicy
from ..errors import APIError

NOT_PROCESSED = (425, 429)
"""Statuses after which even a non-idempotent request may be retried: the server did not process it."""


@attrs.frozen
class RetryCause:
    """Why an attempt failed, as far as a retry depends on it.

    Attributes:
        cause: `"status"`: the response's status; `"connection"`: it failed or broke; or `"timeout"`.
        status: The effective status of the response (Station's 200 with "Queue is full" means 429).
        retry_after: Seconds that the server asked to wait.
    """

    cause: Literal["status", "connection", "timeout"]
    status: int | None = None
    retry_after: float | None = None


def next_delay(policy: RetryPolicy, cause: RetryCause, *, attempt: int, elapsed: float, jitter: float) -> float | None:
    """Return the seconds to wait before the next attempt, or None to give up.

    Args:
        policy: The user's policy.
        cause: Why the last attempt failed.
        attempt: Number of attempts so far, including the failed one.
        elapsed: Seconds since the first attempt began.
        jitter: A random number in 0..1.
    """
    if attempt >= policy.attempts or not _is_retryable(policy, cause):
        return None
    if cause.retry_after is not None:
        if cause.retry_after > policy.max_retry_after:
            return None
        delay = cause.retry_after
    else:
        delay = jitter * backoff(policy, attempt)
    if policy.deadline is not None and elapsed + delay >= policy.deadline:
        return None
    return delay


def backoff(policy: RetryPolicy, attempt: int) -> float:
    """Return the maximum wait after an attempt (counted from 1), before jitter: it doubles up to a maximum."""
    exponent = min(attempt - 1, 64)  # the maximum is reached long before
    return min(policy.max_backoff, policy.backoff * 2.0**exponent)


def describe_attempt(attempt: int, attempts: int, error: Exception) -> str:
    """Return `attempt 2 of 4` for the attempt after an error; without the limit where it does not apply.

    Args:
        attempt: The number of the attempt, from 1.
        attempts: The policy's number of attempts.
        error: Why the attempt before failed.
    """
    is_limited = isinstance(error, APIError) and error.status == 429
    of = "" if is_limited or attempt > attempts else f" of {attempts}"  # a reached rate limit uses up no attempts
    return f"attempt {attempt}{of}"


def _is_retryable(policy: RetryPolicy, cause: RetryCause) -> bool:
    if cause.cause == "timeout":
        return policy.retry_timeouts
    if cause.cause == "connection":
        return True
    if cause.status == 504 and not policy.retry_timeouts:
        return False
    return cause.status in policy.statuses


def parse_retry_after(headers: Mapping[str, str], *, now: float) -> float | None:
    """Return the seconds to wait, from `retry-after-ms` or `Retry-After` (seconds or an HTTP date).

    Args:
        headers: Headers, with names in lower case.
        now: The time of day, as `time.time()`.

    Returns:
        Seconds, never negative; None if there is no valid header.
    """
    milliseconds = _parse_number(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _parse_number(value)
    if seconds is not None or value is None:
        return seconds
    try:
        date = parsedate_to_datetime(value.strip())
        return max(0.0, date.timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return None


def _parse_number(text: str | None) -> float | None:
    try:
        value = float(text) if text is not None else math.nan
    except ValueError:
        return None
    return max(0.0, value) if math.isfinite(value) else None
