"""What tokens cost: prices as data, with their date (pure)."""

from __future__ import annotations

from typing import Any, Protocol

import attrs

from ._scalars import to_python
from .config import DEFAULT_BASE_URL
from .errors import ConfigurationError


class Usage(Protocol):
    """What tells its tokens: `Metrics`, `Stats`, `RunSummary`."""

    @property
    def input_tokens(self) -> int | None:
        """Tokens read, images included."""
        ...

    @property
    def output_tokens(self) -> int | None:
        """Tokens written."""
        ...


def _price(_: Any, field: Any, value: Any) -> None:
    value = to_python(value)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1e9:
        raise ConfigurationError(f"{field.name} must be US dollars per million tokens, not {value!r}.")


@attrs.frozen
class Prices:
    """US dollars per million tokens.

    Args:
        input: Of tokens read, images included.
        output: Of tokens written.
        as_of: When these were the prices, as `YYYY-MM` or `YYYY-MM-DD`; for people.

    Raises:
        ConfigurationError: A price is not a number of at least 0.
    """

    input: float = attrs.field(validator=_price)
    output: float = attrs.field(validator=_price)
    as_of: str = ""

    def cost(self, usage: Usage) -> float:
        """US dollars for the tokens of a result's `metrics`, of `client.stats`, of a run's summary."""
        return ((usage.input_tokens or 0) * self.input + (usage.output_tokens or 0) * self.output) / 1_000_000


CLOUD_PRICES = Prices(0.30, 2.50, as_of="2026-05")
"""Moondream Cloud's for its base models, from its published price list; a finetune has a price of its own."""


BATCH_PART = 0.5
"""What of the prices a batch costs (moondream-api.md 1.6)."""


def prices_of(base_url: str, model: str | None) -> Prices | None:
    """The prices at a server; None where they are not known, or nothing is paid by the token."""
    is_finetune = "@" in (model or "")  # `{base}/{finetune}@{step}`
    return CLOUD_PRICES if base_url == DEFAULT_BASE_URL and not is_finetune else None
