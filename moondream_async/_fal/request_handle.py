"""`AsyncRequestHandle`: follow a queued request and fetch its result."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import anyio
import attrs

from .. import config
from .._concurrency.polling import PollSchedule
from .._http.client import BusyError
from .._http.event_stream import OutOfTimeError
from .._http.request import Response
from .._public import public
from .._wire.errors import invalid_response
from .._wire.responses import PARSE_ERRORS, is_object
from ..errors import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AuthenticationError,
    BadRequestError,
    MoondreamError,
    NotFoundError,
    PermissionDeniedError,
)
from . import wire
from .connection import FalConnection
from .models import Completed, Queued, Status
from .wire import Endpoint, NewLogs

_MAX_STREAMS = 2
_STREAM_RETRY_DELAY = 0.3  # seconds
_STREAM_TIMEOUT = 10.0  # seconds without `Completed` after which the status is polled as well
_INVALID_STATUS_DELAYS = (0.2, 0.5, 1.0, 2.0)  # seconds to wait after invalid responses to a poll
_RESULT_DELAYS = (0.1, 0.3, 1.0)  # seconds to wait when a completed request has no result yet
_CANCEL_TIMEOUT = 5.0  # seconds, while the caller is being cancelled


@public("fal")
class AsyncRequestHandle:
    """A request in fal.ai's queue, from `client.submit(...)` or `client.handle(endpoint, request_id)`."""

    _poll_schedule = PollSchedule(first=0.1, maximum=5.0)

    def __init__(
        self, access: FalConnection, endpoint: Endpoint, request_id: str, urls: Mapping[str, Any] | None = None
    ) -> None:
        self._connection = access
        self._endpoint = endpoint.id
        self._request_id = request_id
        base = endpoint.request_url(access.hosts, request_id)
        built = {"response_url": base, "status_url": f"{base}/status", "cancel_url": f"{base}/cancel"}
        # Prefer the URLs in fal's response, but send the key to fal's hosts only.
        for name, url in (urls or {}).items():
            if name in built and isinstance(url, str) and access.hosts.may_have_key(url):
                built[name] = url
        self._urls = built

    @property
    def endpoint(self) -> str:
        """The endpoint that the request was submitted to."""
        return self._endpoint

    @property
    def request_id(self) -> str:
        """The request's id at fal."""
        return self._request_id

    async def status(self, *, logs: bool = False, with_logs: bool = False) -> Status:
        """Return the request's current state: `Queued`, `InProgress` or `Completed`.

        ```python
        print(await handle.status())
        ```

        Args:
            logs: Whether to include the log lines of the model's process. Default False.
            with_logs: The same, as `fal-client` calls it.

        Raises:
            NotFoundError: The request does not exist, or no longer exists.
            MoondreamError: The call failed.
        """
        url = wire.extend_url(self._urls["status_url"], "", "logs=1" if logs or with_logs else "")
        response = await self._get("status", url)
        return response.parse(lambda data, _: wire.parse_status(data, self.request_id))

    async def events(self, *, logs: bool = False) -> AsyncGenerator[Status]:
        """Iterate over the request's states until it is `Completed`. Each log line is yielded once.

        fal streams the states. If streaming fails, the status is polled every 0.1 to 5 seconds.

        ```python
        async for status in handle.events():
            print(type(status).__name__)
        ```

        Args:
            logs: As in `status`.

        Raises:
            MoondreamError: As in `status`.
        """
        new_logs, last = NewLogs(), None
        async with aclosing(self._all_events(logs=logs)) as statuses:
            async for status in statuses:
                fresh = new_logs.only_new(status)
                if isinstance(fresh, Completed) or fresh != last:
                    yield fresh
                last = fresh if isinstance(fresh, Queued) else attrs.evolve(fresh, logs=())

    async def result(self, *, timeout: float | None = None) -> Any:
        """Wait for the request and return the endpoint's response.

        fal keeps the response for at least an hour, but not forever.

        ```python
        print(await handle.result(timeout=60))
        ```

        Args:
            timeout: Seconds to wait; None for no limit. The request continues after a timeout.

        Raises:
            APIError: The request failed; the subclass and `.type` say why.
            APITimeoutError: The timeout expired; use `.request_id` to wait again.
        """
        seconds = config.check_seconds("timeout", timeout)
        with anyio.move_on_after(seconds):
            return await self.fetch(await self.completed())
        raise self.out_of_time(seconds or 0)

    def iter_events(self, *, with_logs: bool = False, interval: float = 0.1) -> AsyncGenerator[Status]:
        """Iterate over the request's states: `events`, as `fal-client` calls it.

        Args:
            with_logs: `logs` of `events`.
            interval: Ignored, as fal pushes the states.

        Raises:
            MoondreamError: As in `status`.
        """
        del interval
        return self.events(logs=with_logs)

    async def get(self, *, interval: float = 0.1) -> Any:
        """Wait for the request and return the endpoint's response: `result`, as `fal-client` calls it.

        Args:
            interval: Ignored, as fal pushes the states.

        Raises:
            APIError: As in `result`.
        """
        del interval
        return await self.result()

    async def cancel(self) -> bool:
        """Cancel the request. If it is already running, it may still finish and be billed.

        ```python
        await handle.cancel()
        ```

        Returns:
            False if the request was already completed.

        Raises:
            NotFoundError: The request does not exist.
            MoondreamError: The call failed.
        """
        try:
            await self._connection.send("cancel", "PUT", self._urls["cancel_url"])
        except BadRequestError as exc:
            if is_object(exc.body) and exc.body.get("status") == "ALREADY_COMPLETED":
                return False
            raise
        return True

    async def cancel_while_leaving(self) -> None:
        """Cancel the request while the caller is being cancelled; ignore errors and take at most 5 seconds."""
        with anyio.move_on_after(_CANCEL_TIMEOUT, shield=True):
            try:
                await self.cancel()
            except MoondreamError:
                return

    async def completed(self) -> Completed:
        """Wait until the request is completed, then close its stream and return the final state."""
        async with aclosing(self._all_events(logs=False)) as statuses:
            async for status in statuses:
                if isinstance(status, Completed):
                    return status
        raise AssertionError("the events of a request end when it is completed")

    async def fetch(self, status: Completed) -> Any:
        """Return the endpoint's response to a completed request.

        Args:
            status: The final state, from `completed`.

        Raises:
            APIError: The request failed.
        """
        for delay in (*_RESULT_DELAYS, None):
            try:
                result = (await self._get("result", self._urls["response_url"], is_final=True)).json()
            except BadRequestError as exc:
                if delay is None or "still in progress" not in exc.message:
                    raise
                await anyio.sleep(delay)
            except NotFoundError:
                if status.error is not None:
                    break
                raise
            else:
                if status.error is not None:
                    break
                return result
        raise wire.request_error(status)

    def out_of_time(self, seconds: float) -> APITimeoutError:
        """Return the error for a request that was not completed within the caller's timeout."""
        error = APITimeoutError(
            f"Request {self.request_id} was not completed within {seconds:g} s; it continues on the server."
        )
        error.request_id = self.request_id
        return error

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.endpoint!r}, {self.request_id!r})"

    async def _all_events(self, *, logs: bool) -> AsyncGenerator[Status]:
        failures = 0
        while failures < _MAX_STREAMS:
            try:
                async with aclosing(self._stream_statuses(logs=logs)) as statuses:
                    async for status in statuses:
                        yield status
                        if isinstance(status, Completed):
                            return
            except OutOfTimeError:  # a stream can stay silent although the request is completed
                status = await self._poll(logs=logs)
                yield status
                if isinstance(status, Completed):
                    return
                continue
            except BusyError:
                break
            except (AuthenticationError, PermissionDeniedError):
                raise
            except MoondreamError:
                pass
            failures += 1  # a request that was just submitted may have no stream yet
            await anyio.sleep(_STREAM_RETRY_DELAY)
        async with aclosing(self._poll_statuses(logs=logs)) as statuses:
            async for status in statuses:
                yield status

    async def _stream_statuses(self, *, logs: bool) -> AsyncGenerator[Status]:
        url = wire.extend_url(self._urls["status_url"], "/stream", "logs=1" if logs else "")
        request = self._connection.request("status", "GET", url, accept="text/event-stream")
        async with self._connection.http.events(request, seconds=_STREAM_TIMEOUT) as events:
            async for data in events:
                try:
                    parsed: Any = json.loads(data)
                except (ValueError, RecursionError):
                    continue
                yield self._parse(self._connection.http.redactor.json(parsed))

    async def _poll_statuses(self, *, logs: bool) -> AsyncGenerator[Status]:
        for delay in self._poll_schedule.delays():
            status = await self._poll(logs=logs)
            yield status
            if isinstance(status, Completed):
                return
            await anyio.sleep(delay)

    async def _poll(self, *, logs: bool) -> Status:
        """Return the current state, tolerating a few invalid responses in a row."""
        for delay in _INVALID_STATUS_DELAYS:
            try:
                return await self.status(logs=logs)
            except (AuthenticationError, PermissionDeniedError, NotFoundError):
                raise
            except APIError:
                await anyio.sleep(delay)
        return await self.status(logs=logs)

    async def _get(self, operation: str, url: str, *, is_final: bool = False) -> Response:
        try:
            return await self._connection.send(operation, "GET", url, is_final=is_final)
        except (APIError, APIConnectionError) as exc:
            exc.request_id = exc.request_id or self.request_id
            raise

    def _parse(self, data: Any) -> Status:
        """Parse a status from an event."""
        try:
            return wire.parse_status(data, self.request_id)
        except PARSE_ERRORS as exc:
            raise invalid_response(200, data, str(exc)) from None
