"""Cost limits and estimates."""

from __future__ import annotations

from typing import Any

import pytest

from moondream_async import ConfigurationError, Metrics, Prices
from moondream_async._bulk.budget import Budget, check_max_cost
from moondream_async._bulk.estimates import usage

PRICES = Prices(1, 0)


def tokens(dollars: float) -> Metrics:
    return Metrics(input_tokens=round(dollars * 1e6))


def test_items_start_while_all_in_flight_fit_the_budget() -> None:
    budget = Budget(1.0, PRICES, typical=0.1, longest=0.3)
    assert [budget.begin() for _ in range(4)] == [True, True, True, False]  # each may have the longest answer
    budget.spend([tokens(0.1)])
    budget.end()
    assert [budget.begin() for _ in range(8)] == [True] * 7 + [False]  # 0.1 spent, nine of 0.1 in flight


def test_the_first_item_starts_if_a_typical_answer_fits() -> None:
    budget = Budget(0.1, PRICES, typical=0.1, longest=0.3)
    assert budget.begin()
    assert not budget.begin()
    assert not Budget(0.09, PRICES, typical=0.1, longest=0.3).begin()


def test_the_most_expensive_item_counts() -> None:
    budget = Budget(1.0, PRICES, typical=0.01, longest=0.01)
    for cost in (0.01, 0.5):
        assert budget.begin()
        budget.spend([tokens(cost / 2), tokens(cost / 2)])
        budget.end()
    assert not budget.begin()
    assert budget.spent == pytest.approx(0.51)


@pytest.mark.parametrize("bad", [0, -1, "1", True, float("nan"), float("inf")])
def test_invalid_limits(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_cost"):
        check_max_cost(bad)


@pytest.mark.parametrize(
    ("calls", "typical", "longest"),
    [
        ({"caption": {}}, (730, 120), (730, 768)),
        ({"caption": {"length": "short", "settings": {"max_tokens": 20}}}, (730, 20), (730, 20)),
        ({"query": {"question": "Is it?"}}, (732, 60), (732, 768)),
        ({"detect": {"object": ["a", "b"]}}, (2 * 733, 20), (2 * 733, 2 * 768)),
        ({"caption": {}, "segment": {"object": "cat"}}, (1461, 270), (1461, 1536)),
    ],
)
def test_usage(calls: Any, typical: tuple[int, int], longest: tuple[int, int]) -> None:
    found = usage(calls), usage(calls, longest=True)
    assert [(each.input_tokens, each.output_tokens) for each in found] == [typical, longest]
