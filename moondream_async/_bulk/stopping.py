"""Decide when failed items stop a run (pure)."""

from __future__ import annotations

import attrs

from ..config import check_whole
from ..errors import APIConnectionError, APIError, AuthenticationError, MoondreamError

_PAYMENT_REQUIRED = 402


@attrs.define(eq=False)
class StopPolicy:
    """Decides after each outcome whether the run stops.

    Args:
        max_failures: Number of items that may fail; None for no limit.
        stop_on_auth_error: Whether a rejected API key (401) or missing credit (402) stops the run.
        max_connection_failures: Stop when this number of items in a row fail with a connection error, without a
            response to any other item in between; None for no limit.

    Attributes:
        unreachable: Whether the run stopped because the server cannot be reached.

    Raises:
        ConfigurationError: A number is not an integer, or is too small.
    """

    max_failures: int | None = None
    stop_on_auth_error: bool = attrs.field(default=True, kw_only=True)
    max_connection_failures: int | None = attrs.field(default=None, kw_only=True)
    unreachable: bool = attrs.field(default=False, init=False)
    _failures: int = attrs.field(default=0, init=False)
    _connection_failures: int = attrs.field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        if self.max_failures is not None:
            self.max_failures = check_whole("max_failures", self.max_failures, least=0)
        if self.max_connection_failures is not None:
            limit = self.max_connection_failures
            self.max_connection_failures = check_whole("max_connection_failures", limit, least=1)

    def stops(self, error: MoondreamError | None) -> bool:
        """Count the next outcome; return whether it stops the run."""
        if isinstance(error, APIConnectionError):
            self._connection_failures += 1
        elif is_answer(error):
            self._connection_failures = 0
        if error is None:
            return False
        self._failures += 1
        limit = self.max_connection_failures
        if limit is not None and self._connection_failures >= limit and isinstance(error, APIConnectionError):
            self.unreachable = True
        too_many = self.max_failures is not None and self._failures > self.max_failures
        return self.unreachable or too_many or (self.stop_on_auth_error and is_auth_error(error))


def is_auth_error(error: MoondreamError) -> bool:
    """Return whether every item would fail with this error: a rejected API key, or missing credit."""
    return isinstance(error, AuthenticationError) or (isinstance(error, APIError) and error.status == _PAYMENT_REQUIRED)


def is_answer(error: MoondreamError | None) -> bool:
    """Return whether the server responded to an item, with a result or an error."""
    return error is None or isinstance(error, APIError)
