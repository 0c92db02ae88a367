"""When the failure of items stops a run (pure)."""

from __future__ import annotations

from ..config import check_whole
from ..errors import APIConnectionError, APIError, AuthenticationError, MoondreamError

_PAYMENT_REQUIRED = 402


class StopPolicy:
    """Decides, outcome by outcome, whether a run goes on.

    Args:
        max_failures: How many items may fail; None for any number.
        stop_on_auth_error: Whether a refused key (401) or missing credit (402) stops the run.
        max_connection_failures: How many items in a row may fail for want of a connection, with no answer of the
            server in between; None for any number.

    Attributes:
        unreachable: Whether the run was stopped because the server cannot be reached.

    Raises:
        ConfigurationError: A number is none, or too small.
    """

    def __init__(
        self, *, max_failures: int | None, stop_on_auth_error: bool, max_connection_failures: int | None
    ) -> None:
        if max_failures is not None:
            max_failures = check_whole("max_failures", max_failures, least=0)
        if max_connection_failures is not None:
            max_connection_failures = check_whole("max_connection_failures", max_connection_failures, least=1)
        self.unreachable = False
        self._max_failures = max_failures
        self._max_connection_failures = max_connection_failures
        self._stop_on_auth_error = stop_on_auth_error
        self._failures = 0
        self._in_a_row = 0

    def stops(self, error: MoondreamError | None) -> bool:
        """Note the next outcome, and return whether it stops the run."""
        if isinstance(error, APIConnectionError):
            self._in_a_row += 1
        elif is_answer(error):
            self._in_a_row = 0
        if error is None:
            return False
        self._failures += 1
        limit = self._max_connection_failures
        if limit is not None and self._in_a_row >= limit and isinstance(error, APIConnectionError):
            self.unreachable = True
        too_many = self._max_failures is not None and self._failures > self._max_failures
        return self.unreachable or too_many or (self._stop_on_auth_error and is_auth_error(error))


def is_auth_error(error: MoondreamError) -> bool:
    """Return whether the error says that no other item will do better: a refused key, or missing credit."""
    return isinstance(error, AuthenticationError) or (isinstance(error, APIError) and error.status == _PAYMENT_REQUIRED)


def is_answer(error: MoondreamError | None) -> bool:
    """Return whether an item's outcome shows that the server answers: a result, or its own error."""
    return error is None or isinstance(error, APIError)
