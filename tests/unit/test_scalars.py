"""NumPy scalars are taken wherever Python's numbers are."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from moondream_async import AsyncClient, ConfigurationError, Prices, RetryPolicy, Timeouts
from moondream_async._wire.skills import QUERY
from moondream_async.config import check_rate_limit, check_seconds, check_whole


@pytest.mark.parametrize("kind", [np.int32, np.int64, np.uint8, np.float32, np.float64, np.array])
def test_configuration(kind: Any) -> None:
    assert Timeouts(connect=kind(3), idle=kind(4), total=kind(5)) == Timeouts(connect=3, idle=4, total=5)
    assert Timeouts.of(kind(7)) == Timeouts.of(7)
    assert RetryPolicy(backoff=kind(2), deadline=kind(9)) == RetryPolicy(backoff=2, deadline=9)
    assert check_rate_limit(kind(2)) == check_seconds("x", kind(2)) == 2.0
    assert Prices(kind(1), kind(2)).output == 2


@pytest.mark.parametrize("kind", [np.int16, np.int64, np.uint8, np.array])
def test_whole_numbers(kind: Any) -> None:
    assert RetryPolicy.of(kind(3)) == RetryPolicy(attempts=kind(3)) == RetryPolicy(attempts=3)
    assert RetryPolicy(statuses=[kind(100)]).statuses == frozenset({100})
    assert type(check_whole("n", kind(3), least=1)) is int
    with pytest.raises(ConfigurationError):
        RetryPolicy(attempts=kind(0))
    AsyncClient(base_url="http://localhost:2020", max_connections=kind(8), rate_limit=kind(2), retry=kind(2))


def test_flags() -> None:
    assert RetryPolicy(retry_timeouts=np.True_).retry_timeouts is True
    with pytest.raises(ConfigurationError):
        RetryPolicy(attempts=np.True_)
    with pytest.raises(ConfigurationError):
        RetryPolicy(retry_timeouts="yes")


def test_bodies_hold_plain_numbers() -> None:
    settings: Any = {
        "temperature": np.float32(0.5),
        "top_p": np.float64(1),
        "max_tokens": np.int64(5),
        "seed": np.uint8(7),
    }
    arguments = {
        "question": "?",
        "stream": np.False_,
        "settings": settings,
        "reasoning": np.True_,
        "spatial_refs": [[np.float32(0.5), np.float64(0.25)]],
    }
    body = QUERY.body(arguments, model=None, has_image=True)
    sent = json.loads(body)
    assert sent["settings"] == {"temperature": 0.5, "top_p": 1, "max_tokens": 5, "seed": 7}
    assert (sent["stream"], sent["reasoning"], sent["spatial_refs"]) == (False, True, [[0.5, 0.25]])


@pytest.mark.parametrize("value", [np.float64("nan"), np.array([1, 2]), np.complex64(1), "2"])
def test_values_that_are_not_numbers_are_rejected(value: Any) -> None:
    with pytest.raises(ConfigurationError):
        check_rate_limit(value)
    with pytest.raises(ConfigurationError):
        Timeouts(total=value)
