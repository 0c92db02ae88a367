"""Budgets of calls: what is reserved, settled and left."""

from __future__ import annotations

import asyncio

import pytest

from moondream_async import APIConnectionError, ConfigurationError, ImageError, RateLimitError
from moondream_async._bulk.call_budget import BudgetError, CallBudget
from moondream_async.prices import Prices
from moondream_async.types import Metrics

LONGEST = Metrics(input_tokens=1000, output_tokens=1000)  # $0.002
PRICES = Prices(1, 1)


def test_calls_are_reserved_and_counted() -> None:
    budget = CallBudget(2, None, None)
    with budget.reserve(LONGEST), budget.reserve(LONGEST):
        assert budget.calls_left == 0
        with pytest.raises(BudgetError, match=r"no call of 2 is left.*Wait for the 2 calls in flight.*--max-calls"):
            with budget.reserve(LONGEST):
                pass
    assert budget.calls_left == 0
    assert budget.cost_left is None


def test_cost_is_reserved_at_its_longest_and_settled() -> None:
    budget = CallBudget(None, 0.003, PRICES)
    with budget.reserve(LONGEST) as spending:
        assert budget.cost_left == pytest.approx(0.001)
        with pytest.raises(BudgetError, match=r"\$0.001000 of \$0.003 is left.*costs \$0.002000"):
            with budget.reserve(LONGEST):
                pass
        spending.settle(budget.cost_of(Metrics(input_tokens=500, output_tokens=0)))
    assert budget.cost_left == pytest.approx(0.0025)
    with budget.reserve(LONGEST):
        pass  # the server does not say how many tokens it used
    assert budget.cost_left == pytest.approx(0.0005)


@pytest.mark.parametrize(
    ("error", "calls", "cost"),
    [
        (ImageError("no image"), 0, 0.0),  # nothing was sent
        (ConfigurationError("no argument"), 0, 0.0),
        (RateLimitError("no", status=429), 1, 0.0),  # the server refused it
        (APIConnectionError("no answer"), 1, 0.002),  # the server may have charged for it
        (asyncio.CancelledError(), 1, 0.002),
    ],
)
def test_what_failed_calls_count(error: BaseException, calls: int, cost: float) -> None:
    budget = CallBudget(10, 1, PRICES)
    with pytest.raises(type(error)), budget.reserve(LONGEST):
        raise error
    assert budget.calls_left == 10 - calls
    assert budget.cost_left == pytest.approx(1 - cost)


def test_what_is_settled_counts_even_if_the_rest_fails() -> None:
    budget = CallBudget(10, 1, PRICES)
    with pytest.raises(ImageError), budget.reserve(LONGEST, calls=5) as spending:
        spending.settle(0.25, calls=3)
        raise ImageError("the last one")
    assert (budget.calls_left, budget.cost_left) == (7, 0.75)


def test_how_many_are_affordable() -> None:
    assert CallBudget(None, None, None).affordable(7, LONGEST) == 7
    assert CallBudget(3, None, None).affordable(7, LONGEST) == 3
    assert CallBudget(9, 0.01, PRICES).affordable(7, LONGEST) == 5
    assert CallBudget(9, 0.01, Prices(0, 0)).affordable(7, LONGEST) == 7


def test_unknown_tokens_have_no_cost() -> None:
    budget = CallBudget(None, None, PRICES)
    assert budget.cost_of(None) is None
    assert budget.cost_of(Metrics(output_tokens=3)) is None
    assert CallBudget(None, None, None).cost_of(LONGEST) is None


@pytest.mark.parametrize(("calls", "cost", "prices"), [(-1, None, None), (None, 0, PRICES), (None, 1.0, None)])
def test_invalid_limits(calls: int | None, cost: float | None, prices: Prices | None) -> None:
    with pytest.raises(ConfigurationError):
        CallBudget(calls, cost, prices)
