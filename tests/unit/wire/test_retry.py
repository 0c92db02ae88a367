"""The retry decision and the parsing of Retry-After."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from moondream_async import ConfigurationError, RetryPolicy, Timeouts
from moondream_async._wire.retry import RetryCause, backoff, next_delay, parse_retry_after

NOW = 1_770_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "3"}, 3.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-5"}, 0.0),
        ({"retry-after-ms": "250"}, 0.25),
        ({"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        ({"retry-after-ms": "soon", "retry-after": "9"}, 9.0),
        ({"retry-after": formatdate(NOW + 7, usegmt=True)}, 7.0),
        ({"retry-after": formatdate(NOW - 7, usegmt=True)}, 0.0),
        ({"retry-after": "tomorrow"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "Mon, 99 Foo 2026 00:00:00 GMT"}, None),
    ],
)
def test_retry_after(headers: dict[str, str], seconds: float | None) -> None:
    assert parse_retry_after(headers, now=NOW) == seconds


def decide(
    policy: RetryPolicy, cause: RetryCause, *, attempt: int = 1, elapsed: float = 0, jitter: float = 1
) -> float | None:
    return next_delay(policy, cause, attempt=attempt, elapsed=elapsed, jitter=jitter)


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524])
def test_statuses_that_are_retried(status: int) -> None:
    assert decide(RetryPolicy(), RetryCause("status", status)) == 0.5


@pytest.mark.parametrize("status", [200, 301, 400, 401, 402, 403, 404, 409, 413, 422, 501, 505, None])
def test_statuses_that_are_not_retried(status: int | None) -> None:
    assert decide(RetryPolicy(), RetryCause("status", status)) is None


@pytest.mark.parametrize(
    ("policy", "cause", "attempt", "elapsed", "delay"),
    [
        (RetryPolicy(), RetryCause("connection"), 1, 0, 0.5),
        (RetryPolicy(), RetryCause("connection"), 2, 0, 1.0),
        (RetryPolicy(), RetryCause("connection"), 3, 0, 2.0),
        (RetryPolicy(), RetryCause("connection"), 4, 0, None),
        (RetryPolicy(attempts=1), RetryCause("connection"), 1, 0, None),
        (RetryPolicy(attempts=99), RetryCause("connection"), 50, 0, 30.0),
        (RetryPolicy(), RetryCause("timeout"), 1, 0, 0.5),
        (RetryPolicy(retry_timeouts=False), RetryCause("timeout"), 1, 0, None),
        (RetryPolicy(retry_timeouts=False), RetryCause("status", 504), 1, 0, None),
        (RetryPolicy(retry_timeouts=False), RetryCause("status", 503), 1, 0, 0.5),
        (RetryPolicy(), RetryCause("status", 429, 3.0), 1, 0, 3.0),
        (RetryPolicy(), RetryCause("status", 429, 0.0), 1, 0, 0.0),
        (RetryPolicy(), RetryCause("status", 429, 120.0), 1, 0, 120.0),
        (RetryPolicy(), RetryCause("status", 429, 120.1), 1, 0, None),
        (RetryPolicy(max_retry_after=5), RetryCause("status", 503, 6.0), 1, 0, None),
        (RetryPolicy(statuses={418}), RetryCause("status", 418), 1, 0, 0.5),
        (RetryPolicy(statuses={418}), RetryCause("status", 429), 1, 0, None),
        (RetryPolicy(deadline=10), RetryCause("connection"), 1, 9.4, 0.5),
        (RetryPolicy(deadline=10), RetryCause("connection"), 1, 9.5, None),
        (RetryPolicy(deadline=10), RetryCause("status", 429, 11.0), 1, 0, None),
    ],
)
def test_decision(policy: RetryPolicy, cause: RetryCause, attempt: int, elapsed: float, delay: float | None) -> None:
    assert decide(policy, cause, attempt=attempt, elapsed=elapsed) == delay


def test_jitter_is_full() -> None:
    assert decide(RetryPolicy(), RetryCause("connection"), jitter=0) == 0
    assert decide(RetryPolicy(), RetryCause("connection"), jitter=0.5) == 0.25


def test_backoff_doubles_up_to_its_maximum_and_never_overflows() -> None:
    policy = RetryPolicy(backoff=0.5, max_backoff=30)
    assert [backoff(policy, n) for n in (1, 2, 3, 7, 8, 5000)] == [0.5, 1, 2, 30, 30, 30]


@pytest.mark.parametrize(
    "fields",
    [
        {"attempts": 0},
        {"attempts": 1.5},
        {"attempts": True},
        {"backoff": -1},
        {"backoff": float("nan")},
        {"max_backoff": "1"},
        {"max_retry_after": float("inf")},
        {"statuses": 429},
        {"statuses": {1}},
        {"deadline": 0},
    ],
)
def test_invalid_policies(fields: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError):
        RetryPolicy(**fields)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [0, -1, float("nan"), float("inf"), "5", True])
def test_invalid_timeouts(value: object) -> None:
    with pytest.raises(ConfigurationError):
        Timeouts.of(value)  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError):
        Timeouts(idle=value)  # type: ignore[arg-type]


def test_shorthands() -> None:
    assert Timeouts.of(None) == Timeouts(connect=10, idle=120, total=600)
    assert Timeouts.of(5) == Timeouts(connect=5, idle=5, total=5)
    assert Timeouts.of(30) == Timeouts(connect=10, idle=30, total=30)
    assert RetryPolicy.of(2) == RetryPolicy(attempts=2)
    with pytest.raises(ConfigurationError):
        RetryPolicy.of(True)
