"""`RequestHandle`: a queued request, for blocking code."""

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
    """A request in fal.ai's queue; `client.handle(endpoint, request_id)` makes one of a request of another process.

    Attributes:
        endpoint: What it was submitted to.
        request_id: fal's name for it.
    """

    def __init__(self, portal: Portal, handle: AsyncRequestHandle) -> None:
        self._portal = portal
        self._async = handle
        self.endpoint = handle.endpoint
        self.request_id = handle.request_id

    def status(self, *, logs: bool = False) -> Status:
        """Ask where it is, as `AsyncRequestHandle.status` does."""
        return self._portal.call(self._async.status, logs=logs)

    def events(self, *, logs: bool = False) -> Iterator[Status]:
        """Where it is, each time that changes, up to `Completed`, as `AsyncRequestHandle.events` tells."""
        return iterate(self._portal, self._async.events(logs=logs))

    def result(self, *, timeout: float | None = None) -> Any:
        """Wait until it is completed, and fetch what the endpoint answered, as `AsyncRequestHandle.result` does."""
        return self._portal.call(self._async.result, timeout=timeout)

    def cancel(self) -> bool:
        """Cancel it, as `AsyncRequestHandle.cancel` does; False if it was completed already."""
        return self._portal.call(self._async.cancel)

    def __repr__(self) -> str:
        return repr(self._async).removeprefix("Async")
