"""A queued request: where it is, what came of it."""

from __future__ import annotations

import json
import random
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import anyio
import attrs

from ..errors import APIConnectionError, APIError, APITimeoutError, BadRequestError, MoondreamError
from ..net.caller import Answer, Caller, Request, unusable
from ..wire.responses import MALFORMED
from . import wire
from .types import Completed, Queued, Status
from .wire import Endpoint, Hosts, NewLogs

_FIRST_POLL, _SLOWEST_POLL, _SLOWER = 0.1, 5.0, 1.5  # seconds, seconds, times
_STREAM_AGAIN = 0.3  # seconds; just submitted, a request may not have its stream yet
_CANCEL_WITHIN = 5.0  # seconds, when a caller is leaving


@attrs.frozen(eq=False)
class Access:
    """What a handle needs of its client."""

    caller: Caller
    hosts: Hosts
    auth: Mapping[str, str] = attrs.field(repr=False)

    async def send(self, method: str, url: str, *, unrepeatable: bool = False, **more: Any) -> Answer:
        """Send a request to one of fal's own hosts, with the key."""
        assert self.hosts.may_have_key(url)
        headers = {"Accept": "application/json", **self.auth, **more.pop("headers", {})}
        request = Request(method, url, headers, unrepeatable=unrepeatable, **more)
        return await self.caller.send(request, judge(unrepeatable=unrepeatable))


def judge(*, unrepeatable: bool = False) -> Any:
    """Reads fal's errors for the caller."""

    def read(status: int, headers: Mapping[str, str], body: bytes) -> Any:
        error = wire.error_of(status, headers, body, now=time.time())
        return error, wire.failure_of(error, headers, unrepeatable=unrepeatable)

    return read


class AsyncRequestHandle:
    """A request in fal.ai's queue; `client.handle(endpoint, request_id)` makes one of a request of another process.

    Attributes:
        endpoint: What it was submitted to.
        request_id: fal's name for it.
    """

    def __init__(
        self, access: Access, endpoint: Endpoint, request_id: str, urls: Mapping[str, Any] | None = None
    ) -> None:
        self._access = access
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
        answer = await self._get(_with_logs(self._urls["status_url"], logs))
        return self._read(answer.json())

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
        with anyio.move_on_after(timeout):
            async with aclosing(self._all_events(logs=False)) as statuses:
                async for status in statuses:
                    if isinstance(status, Completed):
                        return await self.fetch(status)
        raise self.out_of_time(timeout or 0)

    async def cancel(self) -> bool:
        """Have it taken out of the queue, or its runner told to stop (it may still finish, and be billed).

        Returns:
            False if it was completed already.

        Raises:
            NotFoundError: There is no such request.
        """
        try:
            await self._access.send("PUT", self._urls["cancel_url"])
        except BadRequestError as exc:
            body: Any = exc.body
            if isinstance(body, dict) and body.get("status") == "ALREADY_COMPLETED":  # pyright: ignore[reportUnknownMemberType]
                return False
            raise
        return True

    async def cancel_while_leaving(self) -> None:
        """Cancel, however the caller was interrupted; what goes wrong is not its business any more."""
        with anyio.move_on_after(_CANCEL_WITHIN, shield=True):
            try:
                await self.cancel()
            except MoondreamError:
                return

    async def fetch(self, status: Completed) -> Any:
        """What the endpoint answered to the completed request."""
        answer = (await self._get(self._urls["response_url"])).json()
        if status.error is not None:
            raise wire.failed(status)
        return answer

    def out_of_time(self, seconds: float) -> APITimeoutError:
        """The error for a request that takes longer than its caller waits."""
        error = APITimeoutError(f"Request {self.request_id} was not completed within {seconds:g} s; it goes on.")
        error.request_id = self.request_id
        return error

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.endpoint!r}, {self.request_id!r})"

    async def _all_events(self, *, logs: bool) -> AsyncGenerator[Status]:
        for attempt in range(2):
            if attempt:
                await anyio.sleep(_STREAM_AGAIN)
            try:
                async with aclosing(self._pushed(logs=logs)) as statuses:
                    async for status in statuses:
                        yield status
                        if isinstance(status, Completed):
                            return
            except APIError as exc:
                if exc.status in (401, 403):
                    raise
            except MoondreamError:
                break
        async for status in self._polled(logs=logs):
            yield status

    async def _pushed(self, *, logs: bool) -> AsyncGenerator[Status]:
        url = _with_logs(self._urls["status_url"] + "/stream", logs)
        request = Request("GET", url, {"Accept": "text/event-stream", **self._access.auth})
        async with self._access.caller.events(request, judge()) as events:
            async for data in events:
                try:
                    parsed: Any = json.loads(data)
                except (ValueError, RecursionError):
                    continue
                yield self._read(parsed)

    async def _polled(self, *, logs: bool) -> AsyncGenerator[Status]:
        pause = _FIRST_POLL
        while True:
            status = await self.status(logs=logs)
            yield status
            if isinstance(status, Completed):
                return
            await anyio.sleep(pause * random.uniform(0.8, 1.2))  # noqa: S311 - so that many do not ask at once
            pause = min(_SLOWEST_POLL, pause * _SLOWER)

    async def _get(self, url: str) -> Answer:
        try:
            return await self._access.send("GET", url)
        except (APIError, APIConnectionError) as exc:
            exc.request_id = exc.request_id or self.request_id
            raise

    def _read(self, data: Any) -> Status:
        try:
            return wire.status_of(data, self.request_id)
        except MALFORMED as exc:
            problem = str(exc)
        raise unusable(200, data, problem)


def _with_logs(url: str, logs: bool) -> str:
    return f"{url}{'&' if '?' in url else '?'}logs=1" if logs else url
