"""How much a run may cost: what was spent, and what is set aside for the items in flight (pure)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .._scalars import to_python
from ..errors import ConfigurationError
from ..prices import Prices, Usage
from .estimates import usage

_ROUNDING = 1 + 1e-9  # sums of floats are not exact


class Budget:
    """A limit in US dollars. An item begins only if the limit holds when it and all others in flight are paid.

    Until the first answer, an item is expected to cost as much as its longest possible answer; after that, as
    much as the dearest item so far.

    Args:
        limit: US dollars.
        prices: Of the tokens.
        typical: The estimated cost of an item with a typical answer.
        longest: The estimated cost of an item with the longest answer allowed.

    Attributes:
        limit: US dollars.
        spent: US dollars for the items that are done.
        in_flight: Items that have begun and are not done.
    """

    def __init__(self, limit: float, prices: Prices, *, typical: float, longest: float) -> None:
        self.limit = limit
        self._prices = prices
        self.spent = 0.0
        self.in_flight = 0
        self._typical = typical
        self._longest = longest
        self._dearest = 0.0

    def begin(self) -> bool:
        """Set the cost of one more item aside; return False if that would pass the limit."""
        first = not self.in_flight and not self._dearest
        expected = self._dearest or (self._typical if first else self._longest)
        if self.spent + (self.in_flight + 1) * expected > self.limit * _ROUNDING:
            return False
        self.in_flight += 1
        return True

    def spend(self, answers: Iterable[Usage], *, items: int = 1) -> None:
        """Note the tokens of all answers about an item, or about several items that cost the same."""
        cost = sum(self._prices.cost(answer) for answer in answers)
        self.spent += cost * items
        self._dearest = max(self._dearest, cost)

    def end(self) -> None:
        """Note that an item is done."""
        self.in_flight -= 1

    def __str__(self) -> str:
        return f"Stopped by max_cost: about ${self.spent:.4f} of ${self.limit:g} spent; the next item could pass it."


def check_max_cost(value: object) -> float | None:
    """Check `max_cost`: US dollars above 0, or None for no limit."""
    value = to_python(value)
    if value is None:
        return None
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1e9:
        raise ConfigurationError(f"max_cost must be US dollars above 0, not {value!r}.")
    return float(value)


def batch_budget(max_cost: object, prices: Prices | None, calls: Mapping[str, Mapping[str, Any]]) -> Budget | None:
    """Return the budget of a batch, whose items cost what their typical answers do; None without a limit.

    Raises:
        ConfigurationError: As `budget_of`; or the limit is below the cost of a single item.
    """
    budget = budget_of(max_cost, prices, calls)
    if budget is None or prices is None:
        return None
    each = prices.batch.cost(usage(calls))
    if each > budget.limit:
        raise ConfigurationError(f"max_cost={budget.limit:g} is below the estimated cost of one item, ${each:.6f}.")
    return Budget(budget.limit, prices.batch, typical=each, longest=each)


def budget_of(max_cost: object, prices: Prices | None, calls: Mapping[str, Mapping[str, Any]]) -> Budget | None:
    """Return the budget of a run, or None without a limit.

    Args:
        max_cost: As the user gave it.
        prices: Of the run's model.
        calls: The arguments of each skill that an item is given, by skill.

    Raises:
        ConfigurationError: The limit is no number, or the prices are not known.
    """
    limit = check_max_cost(max_cost)
    if limit is None:
        return None
    if prices is None:
        raise ConfigurationError(
            "max_cost needs prices, and those of this model are not known here: pass prices=Prices(input, output), "
            "or a model= whose price is known (Prices.of)."
        )
    return Budget(limit, prices, typical=prices.cost(usage(calls)), longest=prices.cost(usage(calls, longest=True)))
