"""`RequestHandle`: follow a queued request from blocking code."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from .._fal.models import Status
from .._fal.request_handle import AsyncRequestHandle
from .._public import public
from .streams import iterate

if TYPE_CHECKING:
    from .portal import Portal


@public("fal")
class RequestHandle:
    """A request in fal.ai's queue, from `client.submit(...)` or `client.handle(endpoint, request_id)`.

    Attributes:
        endpoint: The endpoint that the request was submitted to.
        request_id: The request's id at fal.
    """

    def __init__(self, portal: Portal, handle: AsyncRequestHandle) -> None:
        self._portal = portal
        self._async = handle
        self.endpoint = handle.endpoint
        self.request_id = handle.request_id

    def status(self, *, logs: bool = False) -> Status:
        """Return the request's current state: `Queued`, `InProgress` or `Completed`.

        Args:
            logs: Whether to include the log lines of the model's process. Default False.

        Raises:
            NotFoundError: The request does not exist, or no longer exists.
            MoondreamError: The call failed.
        """
        return self._portal.call(self._async.status, logs=logs)

    def events(self, *, logs: bool = False) -> Iterator[Status]:
        """Iterate over the request's states until it is `Completed`. Each log line is yielded once.

        fal streams the states. If streaming fails, the status is polled every 0.1 to 5 seconds.

        Args:
            logs: As in `status`.

        Raises:
            MoondreamError: As in `status`.
        """
        return iterate(self._portal, self._async.events(logs=logs))

    def result(self, *, timeout: float | None = None) -> Any:
        """Wait for the request and return the endpoint's response.

        fal keeps the response for at least an hour, but not forever.

        Args:
            timeout: Seconds to wait; None for no limit. The request continues after a timeout.

        Raises:
            APIError: The request failed; the subclass and `.type` say why.
            APITimeoutError: The timeout expired; use `.request_id` to wait again.
        """
        return self._portal.call(self._async.result, timeout=timeout)

    def cancel(self) -> bool:
        """Cancel the request. If it is already running, it may still finish and be billed.

        Returns:
            False if the request was already completed.

        Raises:
            NotFoundError: The request does not exist.
            MoondreamError: The call failed.
        """
        return self._portal.call(self._async.cancel)

    def __repr__(self) -> str:
        return repr(self._async).removeprefix("Async")
