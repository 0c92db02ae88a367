"""What tokens cost."""

from __future__ import annotations

from typing import Any

import pytest

from moondream_async import ConfigurationError, Metrics, Prices, Stats
from moondream_async.config import DEFAULT_BASE_URL
from moondream_async.prices import CLOUD_PRICES, prices_of


def test_cost() -> None:
    prices = Prices(0.30, 2.50)
    assert prices.cost(Metrics(input_tokens=1_000_000, output_tokens=100_000)) == pytest.approx(0.55)
    assert prices.cost(Stats(input_tokens=10, output_tokens=0)) == pytest.approx(3e-6)
    assert prices.cost(Metrics()) == 0


@pytest.mark.parametrize("bad", [-1, "0.3", None, True, float("nan"), float("inf")])
def test_prices_are_numbers(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match="output must be US dollars"):
        Prices(1, bad)


def test_known_for_the_cloud_only() -> None:
    assert prices_of(DEFAULT_BASE_URL, None) is CLOUD_PRICES
    assert prices_of(DEFAULT_BASE_URL, "moondream3-preview") is CLOUD_PRICES
    assert prices_of(DEFAULT_BASE_URL, "moondream3-preview/abc@100") is None  # a finetune
    assert prices_of("http://localhost:2020/v1", None) is None
    assert CLOUD_PRICES.as_of
