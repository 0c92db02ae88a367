"""Text for sums of money."""

from __future__ import annotations

import math


def dollars(amount: float) -> str:
    """Format US dollars with two decimals, or for less than 0.10 with two significant digits: `$12.30`, `$0.0042`."""
    decimals = 2 if amount <= 0 else max(2, 1 - math.floor(math.log10(amount)))
    return f"${amount:,.{decimals}f}"
