"""Delays between polls."""

from __future__ import annotations

from itertools import islice

import pytest

from moondream_async._concurrency.polling import PollSchedule


def test_delays_grow_up_to_the_maximum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda low, high: (low + high) / 2)
    schedule = PollSchedule(first=1.0, maximum=5.0, factor=2.0)
    assert list(islice(schedule.delays(), 5)) == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_each_iteration_starts_over_with_jitter() -> None:
    schedule = PollSchedule(first=1.0, maximum=1.0)
    first = {next(schedule.delays()) for _ in range(20)}
    assert len(first) > 1
    assert all(0.8 <= delay <= 1.2 for delay in first)
