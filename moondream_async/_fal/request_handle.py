"""A queued request: where it is, what came of it."""

from __future__ import annotations

import json
import random
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import anyio
import attrs

from .. import config
from .._http.client import BusyError
from .._http.event_stream import OutOfTimeError
from .._http.request import Response
from .._public import public
from .._wire.errors import invalid_response
from .._wire.responses import PARSE_ERRORS
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

_FIRST_POLL, _MAX_POLL_INTERVAL, _POLL_FACTOR = 0.1, 5.0, 1.5  # seconds, seconds, times
_MAX_STREAMS, _STREAM_RETRY_DELAY = 2, 0.3  # times; seconds
_STREAM_TIMEOUT = 10.0  # seconds without `Completed`, after which the status is polled as well
_INVALID_STATUS_DELAYS = (0.2, 0.5, 1.0, 2.0)  # seconds to wait after invalid responses to a poll
_RESULT_DELAYS = (0.1, 0.3, 1.0)  # seconds to wait when a completed request has no result yet
_CANCEL_TIMEOUT = 5.0  # seconds, while the caller is being cancelled


@public("fal")
class AsyncRequestHandle:
    """A request in fal.ai's queue; `client.handle(endpoint, request_id)` makes one of a request of another process.

    Attributes:
        endpoint: What it was submitted to.
        request_id: fal's name for it.
    """

    def __init__(
        self, access: FalConnection, endpoint: Endpoint, request_id: str, urls: Mapping[str, Any] | None = None
    ) -> None:
        self._connection = access
        self.endpoint = endpoint.id
        self.request_id = request_id
        base = endpoint.request_url(access.hosts, request_id)
        built = {"response_url": base, "status_url": f"{base}/status", "cancel_url": f"{base}/cancel"}
        # The answer's own addresses are used, if they are fal's: the key goes nowhere else.
        for name, url in (urls or {}).items():
            if name in built and isinstance(url, str) and access.hosts.may_have_key(url):
                built[name] = url
        self._urls = built

    async def status(self, *, logs: bool = False) -> Status:
        """Ask where it is.

        Args:
            logs: Whether to have the lines that the model's process wrote.

        Raises:
            NotFoundError: There is no such request (any more).
            MoondreamError: As any call.
        """
        url = wire.below(self._urls["status_url"], "", "logs=1" if logs else "")
        response = await self._get("status", url)
        return response.parse(lambda data, _: wire.status_of(data, self.request_id))

    async def events(self, *, logs: bool = False) -> AsyncGenerator[Status]:
        """Where it is, each time that changes, up to `Completed`; lines of its log only once.

        fal pushes them; where that fails, they are asked for, ever less often: every 0.1 to 5 s.

        Args:
            logs: As in `status`.

        Raises:
            MoondreamError: As in `status`.
        """
        told, last = NewLogs(), None
        async with aclosing(self._all_events(logs=logs)) as statuses:
            async for status in statuses:
                fresh = told.only_new(status)
                if isinstance(fresh, Completed) or fresh != last:
                    yield fresh
                last = fresh if isinstance(fresh, Queued) else attrs.evolve(fresh, logs=())

    async def result(self, *, timeout: float | None = None) -> Any:
        """Wait until it is completed, and fetch what the endpoint answered.

        fal keeps it for an hour, often longer; not for ever.

        Args:
            timeout: Seconds to wait; None waits as long as it takes. The request goes on in any case.

        Raises:
            APIError: It failed; its subclasses and `.type` say how.
            APITimeoutError: The timeout ran out; `.request_id` is there to ask again.
        """
        waited = config.check_seconds("timeout", timeout)
        with anyio.move_on_after(waited):
            return await self.fetch(await self.completed())
        raise self.out_of_time(waited or 0)

    async def cancel(self) -> bool:
        """Have it taken out of the queue, or its runner told to stop (it may still finish, and be billed).

        Returns:
            False if it was completed already.

        Raises:
            NotFoundError: There is no such request.
        """
        try:
            await self._connection.send("cancel", "PUT", self._urls["cancel_url"])
        except BadRequestError as exc:
            body: Any = exc.body
            if isinstance(body, dict) and body.get("status") == "ALREADY_COMPLETED":  # pyright: ignore[reportUnknownMemberType]
                return False
            raise
        return True

    async def cancel_while_leaving(self) -> None:
        """Cancel, however the caller was interrupted; what goes wrong is not its business any more."""
        with anyio.move_on_after(_CANCEL_TIMEOUT, shield=True):
            try:
                await self.cancel()
            except MoondreamError:
                return

    async def completed(self) -> Completed:
        """Wait until it is; its stream, if it had one, is closed after that."""
        async with aclosing(self._all_events(logs=False)) as statuses:
            async for status in statuses:
                if isinstance(status, Completed):
                    return status
        raise AssertionError("the events of a request end when it is completed")

    async def fetch(self, status: Completed) -> Any:
        """What the endpoint answered to the completed request."""
        for pause in (*_RESULT_DELAYS, None):
            try:
                answer = (await self._get("result", self._urls["response_url"], is_final=True)).json()
            except BadRequestError as exc:
                if pause is None or "still in progress" not in exc.message:
                    raise
                await anyio.sleep(pause)
            except NotFoundError:
                if status.error is not None:
                    break
                raise
            else:
                if status.error is not None:
                    break
                return answer
        raise wire.failed(status)

    def out_of_time(self, seconds: float) -> APITimeoutError:
        """The error for a request that takes longer than its caller waits."""
        error = APITimeoutError(f"Request {self.request_id} was not completed within {seconds:g} s; it goes on.")
        error.request_id = self.request_id
        return error

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.endpoint!r}, {self.request_id!r})"

    async def _all_events(self, *, logs: bool) -> AsyncGenerator[Status]:
        failures = 0
        while failures < _MAX_STREAMS:
            try:
                async with aclosing(self._pushed(logs=logs)) as statuses:
                    async for status in statuses:
                        yield status
                        if isinstance(status, Completed):
                            return
            except OutOfTimeError:  # a stream can be silent though the request is over
                status = await self._asked(logs=logs)
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
            failures += 1  # just submitted, a request may not have its stream yet
            await anyio.sleep(_STREAM_RETRY_DELAY)
        async with aclosing(self._polled(logs=logs)) as statuses:
            async for status in statuses:
                yield status

    async def _pushed(self, *, logs: bool) -> AsyncGenerator[Status]:
        url = wire.below(self._urls["status_url"], "/stream", "logs=1" if logs else "")
        request = self._connection.request("status", "GET", url, accept="text/event-stream")
        async with self._connection.http.events(request, seconds=_STREAM_TIMEOUT) as events:
            async for data in events:
                try:
                    parsed: Any = json.loads(data)
                except (ValueError, RecursionError):
                    continue
                yield self._parse(self._connection.http.redactor.json(parsed))

    async def _polled(self, *, logs: bool) -> AsyncGenerator[Status]:
        pause = _FIRST_POLL
        while True:
            status = await self._asked(logs=logs)
            yield status
            if isinstance(status, Completed):
                return
            await anyio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - so that many do not ask at once
            pause = min(_MAX_POLL_INTERVAL, pause * _POLL_FACTOR)

    async def _asked(self, *, logs: bool) -> Status:
        """Where it is; an answer that cannot be used now and then ends nothing."""
        for pause in _INVALID_STATUS_DELAYS:
            try:
                return await self.status(logs=logs)
            except (AuthenticationError, PermissionDeniedError, NotFoundError):
                raise
            except APIError:
                await anyio.sleep(pause)
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
            return wire.status_of(data, self.request_id)
        except PARSE_ERRORS as exc:
            problem = str(exc)
        raise invalid_response(200, data, problem)
