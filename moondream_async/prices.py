"""Prices of tokens, with their source and date."""

from __future__ import annotations

from types import MappingProxyType
from typing import Any, Protocol, Self

import attrs

from ._scalars import to_python
from .config import DEFAULT_BASE_URL
from .errors import ConfigurationError


class Usage(Protocol):
    """Anything with token counts: `Metrics`, `Stats`, `RunSummary`."""

    @property
    def input_tokens(self) -> int | None:
        """The input tokens, images included."""
        ...

    @property
    def output_tokens(self) -> int | None:
        """The output tokens."""
        ...


def _price(_: Any, field: Any, value: Any) -> None:
    if value is None and field.default is None:
        return
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 1e9:
        raise ConfigurationError(f"{field.name} must be US dollars per million tokens, not {value!r}.")


@attrs.frozen
class Prices:
    """US dollars per million tokens.

    Args:
        input: For input tokens, images included.
        output: For output tokens.
        as_of: The date of the prices, as `YYYY-MM` or `YYYY-MM-DD`; informational.
        batch_input: For input tokens of a batch. Default None: half of `input`.
        batch_output: For output tokens of a batch. Default None: half of `output`.
        training: For training tokens (finetunes). Default None: unknown.
        source: Where the prices are published; informational.

    Raises:
        ConfigurationError: A price is not a number of at least 0.
    """

    input: float = attrs.field(converter=to_python, validator=_price)
    output: float = attrs.field(converter=to_python, validator=_price)
    as_of: str = ""
    batch_input: float | None = attrs.field(default=None, kw_only=True, converter=to_python, validator=_price)
    batch_output: float | None = attrs.field(default=None, kw_only=True, converter=to_python, validator=_price)
    training: float | None = attrs.field(default=None, kw_only=True, converter=to_python, validator=_price)
    source: str = attrs.field(default="", kw_only=True)

    @classmethod
    def of(cls, model: str | None) -> Prices | None:
        """Return Moondream Cloud's published prices for a model.

        ```python
        prices = Prices.of("moondream3-preview")
        ```

        Args:
            model: Its name, such as `"moondream3-preview"`.

        Returns:
            The prices, or None if they are not known: for a finetune, and for the server's default model (None), as it
            is not documented which model that is.
        """
        return MODEL_PRICES.get(model or "")

    @property
    def batch(self) -> Self:
        """The prices of the same tokens in a batch."""
        batch_input = self.input * _BATCH_FACTOR if self.batch_input is None else self.batch_input
        batch_output = self.output * _BATCH_FACTOR if self.batch_output is None else self.batch_output
        return attrs.evolve(self, input=batch_input, output=batch_output)

    def cost(self, usage: Usage) -> float:
        """Return the cost in US dollars of a result's `metrics`, of `client.stats` or of a run's summary.

        ```python
        print(Prices(0.30, 2.50).cost(client.stats), "dollars so far")
        ```
        """
        return ((usage.input_tokens or 0) * self.input + (usage.output_tokens or 0) * self.output) / 1_000_000


_BATCH_FACTOR = 0.5  # of the usual price, where a batch has no price of its own (moondream-api.md 1.6)
_PRICE_LIST = "https://moondream.ai/pricing"

MODEL_PRICES = MappingProxyType(
    {
        "moondream3.1-9B-A2B": Prices(
            0.30, 1.00, "2026-10-07", batch_input=0.15, batch_output=0.50, training=0.60, source=_PRICE_LIST
        ),
        "moondream3-preview": Prices(
            0.30, 2.50, "2026-10-07", batch_input=0.15, batch_output=1.25, training=0.60, source=_PRICE_LIST
        ),
    }
)
"""Moondream Cloud's published prices by model."""


def prices_of(base_url: str, model: str | None) -> Prices | None:
    """Return the prices of a model on a server, or None if they are not known or the server is free."""
    return Prices.of(model) if base_url == DEFAULT_BASE_URL else None
