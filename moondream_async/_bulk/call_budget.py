"""Keep all calls of a server below limits: calls and dollars, reserved before each call and settled after it (pure)."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import attrs

from ..config import check_whole
from ..errors import APIError, ConfigurationError, ImageError
from ..prices import Prices
from ..types import Metrics
from .budget import NEEDS_PRICES, check_max_cost

_ROUNDING = 1 + 1e-9  # sums of floats are not exact


class BudgetError(ConfigurationError):
    """A call could exceed the budget; nothing was sent."""


@attrs.define(eq=False)
class Spending:
    """Calls and their cost in US dollars: what was reserved or, once it is settled, what was used."""

    calls: int
    cost: float
    is_settled: bool = False

    def settle(self, cost: float | None, *, calls: int | None = None) -> None:
        """Replace what was reserved by what was used, as far as that is known."""
        self.cost = self.cost if cost is None else cost
        self.calls = self.calls if calls is None else calls
        self.is_settled = True


class CallBudget:
    """Limits for calls of a model, however many run at once; None for no limit. Cost is in US dollars."""

    def __init__(self, max_calls: int | None, max_cost: float | None, prices: Prices | None) -> None:
        self.max_calls = None if max_calls is None else check_whole("max_calls", max_calls, least=0)
        self.max_cost = check_max_cost(max_cost)
        if self.max_cost is not None and prices is None:
            raise ConfigurationError(NEEDS_PRICES)
        self._prices = prices
        self._used, self._reserved = Spending(0, 0.0), set[Spending]()

    @property
    def calls_left(self) -> int | None:
        """The calls that may still be made; None for no limit."""
        used = self._used.calls + sum(each.calls for each in self._reserved)
        return None if self.max_calls is None else max(0, self.max_calls - used)

    @property
    def cost_left(self) -> float | None:
        """The dollars that may still be spent; None for no limit."""
        used = self._used.cost + sum(each.cost for each in self._reserved)
        return None if self.max_cost is None else max(0.0, self.max_cost - used)

    def cost_of(self, usage: Metrics | None) -> float | None:
        """Return the cost of some tokens in US dollars; None if it is not known."""
        if self._prices is None or usage is None or usage.input_tokens is None:
            return None
        return self._prices.cost(usage)

    def affordable(self, wanted: int, longest: Metrics) -> int:
        """Return how many of the calls the budget allows, if each has the longest possible answer."""
        limits, each = [wanted], self.cost_of(longest)
        limits += [] if self.calls_left is None else [self.calls_left]
        limits += [] if self.cost_left is None or not each else [int(self.cost_left * _ROUNDING / each)]
        return min(limits)

    @contextmanager
    def reserve(self, longest: Metrics, *, calls: int = 1) -> Generator[Spending]:
        """Reserve calls; at the end of the context, count what they used, or what was reserved if that is not settled.

        A call that failed or was cancelled counts in full, as the server may charge for it, unless the error says that
        nothing was sent, or that the server refused it. Raise `BudgetError` if the calls could exceed a limit.
        """
        if self.affordable(calls, longest) < calls:
            raise self.error(longest)
        spending = Spending(calls, calls * (self.cost_of(longest) or 0.0))
        self._reserved.add(spending)
        try:
            yield spending
        except (ImageError, ConfigurationError, APIError) as exc:
            if not spending.is_settled:
                spending.settle(0.0, calls=calls if isinstance(exc, APIError) else 0)
            raise
        finally:
            self._reserved.discard(spending)
            self._used.calls += spending.calls
            self._used.cost += spending.cost

    def error(self, longest: Metrics) -> BudgetError:
        """Return the error for a call that could exceed a limit, which says what is left."""
        if self.calls_left == 0:
            what, option = f"no call of {self.max_calls:,} is left", "--max-calls"
        else:
            left, each = self.cost_left or 0.0, self.cost_of(longest) or 0.0
            what = f"${left:.6f} of ${self.max_cost:g} is left, and the longest possible answer costs ${each:.6f}"
            option = "--max-cost"
        wait = f"Wait for the {len(self._reserved)} calls in flight, or ask" if self._reserved else "Ask"
        return BudgetError(
            f"The budget does not allow this: {what}. Nothing was sent. {wait} the user to restart this server with a "
            f"higher {option}."
        )
