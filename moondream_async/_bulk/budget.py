"""Keep a run below a cost limit: cost so far, and cost reserved for in-flight items (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..config import check_positive
from ..errors import ConfigurationError
from ..prices import Prices, Usage
from .estimates import usage

NEEDS_PRICES = (
    "max_cost needs prices, and those of this model are not known: pass prices=Prices(input, output), "
    "or a model= with known prices (Prices.of)."
)
_ROUNDING = 1 + 1e-9  # sums of floats are not exact


class Budget:
    """A cost limit. An item starts only if the total stays below the limit with it and all other in-flight items.

    Before the first answer, an item is expected to cost as much as its longest possible answer (the first item: a
    typical one); after that, as much as the most expensive item so far.

    Args:
        limit: Limit in US dollars.
        prices: Token prices.
        typical: Estimated cost of an item with a typical answer, in US dollars.
        longest: Estimated cost of an item with the longest possible answer, in US dollars.

    Attributes:
        limit: Limit in US dollars.
        spent: Cost of the finished items in US dollars.
        in_flight: Number of items that have started and not finished.
    """

    def __init__(self, limit: float, prices: Prices, *, typical: float, longest: float) -> None:
        self.limit = limit
        self._prices = prices
        self.spent = 0.0
        self.in_flight = 0
        self._typical = typical
        self._longest = longest
        self._max_item_cost = 0.0

    def begin(self) -> bool:
        """Reserve the cost of another item; return False if that would exceed the limit."""
        is_first = not self.in_flight and not self._max_item_cost
        expected = self._max_item_cost or (self._typical if is_first else self._longest)
        if self.spent + (self.in_flight + 1) * expected > self.limit * _ROUNDING:
            return False
        self.in_flight += 1
        return True

    def spend(self, answers: Iterable[Usage], *, items: int = 1) -> None:
        """Add the cost of all answers about one item, or about `items` items with the same cost."""
        cost = sum(self._prices.cost(answer) for answer in answers)
        self.spent += cost * items
        self._max_item_cost = max(self._max_item_cost, cost)

    def end(self) -> None:
        """Release the reservation of a finished item."""
        self.in_flight -= 1

    def __str__(self) -> str:
        return f"Stopped by max_cost: about ${self.spent:.4f} of ${self.limit:g} spent; the next item could exceed it."


def check_max_cost(value: object) -> float | None:
    """Return `max_cost` as US dollars above 0, or None for no limit.

    Raises:
        ConfigurationError: It is not a number above 0 and below one billion.
    """
    return check_positive("max_cost", value, "US dollars")


def batch_budget(max_cost: object, prices: Prices | None, calls: Mapping[str, Mapping[str, Any]]) -> Budget | None:
    """Return the budget of a batch, whose items are expected to have typical answers; None without a limit.

    Raises:
        ConfigurationError: As in `budget_of`, or the limit is below the estimated cost of one item.
    """
    budget = budget_of(max_cost, prices, calls)
    if budget is None or prices is None:
        return None
    item_cost = prices.batch.cost(usage(calls))
    if item_cost > budget.limit:
        raise ConfigurationError(
            f"max_cost={budget.limit:g} is below the estimated cost of one item, ${item_cost:.6f}."
        )
    return Budget(budget.limit, prices.batch, typical=item_cost, longest=item_cost)


def budget_of(max_cost: object, prices: Prices | None, calls: Mapping[str, Mapping[str, Any]]) -> Budget | None:
    """Return the budget of a run, or None without a limit.

    Args:
        max_cost: The user's argument.
        prices: Token prices of the run's model; None if not known.
        calls: The arguments of each skill, by skill.

    Raises:
        ConfigurationError: The limit is invalid, or the prices are not known.
    """
    limit = check_max_cost(max_cost)
    if limit is None:
        return None
    if prices is None:
        raise ConfigurationError(NEEDS_PRICES)
    return Budget(limit, prices, typical=prices.cost(usage(calls)), longest=prices.cost(usage(calls, longest=True)))
