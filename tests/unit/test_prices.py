"""What tokens cost."""

from __future__ import annotations

from typing import Any

import pytest

from moondream_async import ConfigurationError, Metrics, Prices, Stats
from moondream_async.config import DEFAULT_BASE_URL
from moondream_async.prices import MODEL_PRICES, prices_of


def test_cost() -> None:
    prices = Prices(0.30, 2.50)
    assert prices.cost(Metrics(input_tokens=1_000_000, output_tokens=100_000)) == pytest.approx(0.55)
    assert prices.cost(Stats(input_tokens=10, output_tokens=0)) == pytest.approx(3e-6)
    assert prices.cost(Metrics()) == 0


@pytest.mark.parametrize("bad", [-1, "0.3", None, True, float("nan"), float("inf")])
def test_prices_are_numbers(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match="output must be US dollars"):
        Prices(1, bad)


@pytest.mark.parametrize(
    ("model", "usual", "batch"),
    [("moondream3.1-9B-A2B", (0.30, 1.00), (0.15, 0.50)), ("moondream3-preview", (0.30, 2.50), (0.15, 1.25))],
)
def test_published_prices(model: str, usual: tuple[float, float], batch: tuple[float, float]) -> None:
    prices = Prices.of(model)
    assert prices is not None
    assert (prices.input, prices.output) == usual
    assert (prices.batch.input, prices.batch.output) == batch
    assert prices.training == 0.60
    assert prices.as_of.startswith("2026-")
    assert prices.source.startswith("https://")
    assert prices_of(DEFAULT_BASE_URL, model) is prices
    assert prices_of("http://localhost:2020/v1", model) is None


@pytest.mark.parametrize("model", [None, "", "moondream3-preview/abc@100", "moondream2", "gpt"])
def test_an_unknown_model_has_no_price(model: str | None) -> None:
    assert Prices.of(model) is None
    assert prices_of(DEFAULT_BASE_URL, model) is None


def test_prices_of_batches_default_to_half() -> None:
    assert (Prices(1, 2).batch.input, Prices(1, 2).batch.output) == (0.5, 1)
    assert Prices(1, 2, batch_output=0).batch.output == 0


def test_model_prices_are_read_only() -> None:
    with pytest.raises(TypeError):
        MODEL_PRICES["other"] = Prices(1, 2)  # type: ignore[index] # pyright: ignore[reportIndexIssue]
