"""What a client and its `with_options` clones share: connections, slots, rate limiter and counters."""

from __future__ import annotations

import contextlib
import functools
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import anyio
import httpx

from .._concurrency.loop_local import LoopLocal
from .._wire.progress import Progress
from ..errors import ConfigurationError
from .connection_pool import Opening
from .payloads import BytesBody, FileBody
from .pooled_request import PooledRequest
from .proxies import is_proxied
from .public_network import check_public
from .rate_limiter import RateLimiter
from .servers import Lease, Servers
from .stats import StatsCounters
from .tracing import trace_extension
from .transport import NEW_CONNECTION, OPENING, PooledTransport
from .transport_errors import drop_frames, from_transport
from .user_client import ClientAdapter, UserClient, adapt

_MAX_DOWNLOADS = 16  # concurrent image downloads in each event loop


class Slot:
    """The right to have one request in flight. It can be released by any task, any number of times."""

    def __init__(self, limiter: anyio.CapacityLimiter, counters: StatsCounters, progress: Progress) -> None:
        self._limiter = limiter
        self._counters = counters
        self._progress = progress
        self._held = False
        self._sent = False
        self._lease: Lease | None = None

    async def acquire(self) -> None:
        """Wait for a free slot; calls get slots in the order in which they wait."""
        try:
            self._limiter.acquire_on_behalf_of_nowait(self)  # saves an iteration of the event loop
        except anyio.WouldBlock:
            self._counters.waiting += 1
            try:
                await self._limiter.acquire_on_behalf_of(self)
            finally:
                self._counters.waiting -= 1
        self._held = True
        self._counters.in_flight += 1

    def sent(self, lease: Lease | None = None) -> None:
        """Record that the request is being sent; it is in transit until the slot is released.

        Args:
            lease: Its slot on one of several servers, which is released with the slot.
        """
        self._sent = True
        self._lease = lease
        self._progress.in_transit += 1

    def release(self) -> None:
        """Release the slot; further calls do nothing."""
        if self._sent:
            self._sent = False
            self._progress.in_transit -= 1
        if self._lease is not None:
            self._lease.release()
            self._lease = None
        if self._held:
            self._held = False
            self._counters.in_flight -= 1
            self._limiter.release_on_behalf_of(self)


class Session:
    """Connections, slots, rate limiter and counters for any number of clients.

    Args:
        max_connections: Maximum number of requests in flight, per event loop.
        rate_limit: Requests per second, or None to adapt to the server.
        http_client: The user's own client or transport, of httpx or httpx2, never closed here.
        base_urls: The servers, if there are several.

    Attributes:
        closed: Whether `aclose` was called; further requests are refused.
        counters: Counts what the session does.
        rate_limiter: Decides when the next request may start.
        progress: Whether the calls of the session succeed while the server refuses others.
        servers: The servers, if there are several; else None.
    """

    def __init__(
        self,
        *,
        max_connections: int,
        rate_limit: float | None = None,
        http_client: UserClient | None = None,
        base_urls: Sequence[str] = (),
    ) -> None:
        self.closed = False
        self.counters = StatsCounters()
        self.rate_limiter = RateLimiter(rate_limit)
        self.progress = self.rate_limiter.progress
        self.servers = Servers(base_urls, rate_limit, self.progress) if len(base_urls) > 1 else None
        self._limiters = LoopLocal(lambda: anyio.CapacityLimiter(max_connections))
        self._is_borrowed = not (http_client is None or isinstance(http_client, str))
        self._transport = _make_transport(http_client)

    @functools.cached_property
    def downloads(self) -> Session:
        """A session for images on other hosts: with separate slots, and never with the user's HTTP client."""
        return Session(max_connections=_MAX_DOWNLOADS)

    @functools.cached_property
    def _public_transport(self) -> PooledTransport:
        """A transport that connects to public addresses only."""
        return PooledTransport(public_only=True)

    def slot(self) -> Slot:
        """Return a slot of the running event loop, not yet acquired."""
        if self.closed:
            raise ConfigurationError("This client is closed; make a new one.")
        return Slot(self._limiters.get(), self.counters, self.progress)

    async def send(
        self,
        method: str,
        url: httpx.URL,
        headers: httpx.Headers,
        body: bytes | FileBody,
        timeout: Mapping[str, float | None],
        *,
        new_connection: bool = False,
        bare: bool = False,
        public: bool = False,
        opening: Opening | None = None,
    ) -> httpx.Response:
        """Send one request and return the response with its body unread. Redirects are not followed.

        Args:
            method: HTTP method.
            url: Absolute URL.
            headers: All headers but `Content-Length`.
            body: Bytes, or (a part of) a file.
            timeout: httpx's extension `timeout`.
            new_connection: Whether to open a new connection: a request on a reused one may have to be sent again.
            bare: Whether a user's own client must not add its headers, cookies and credentials.
            public: Whether to connect to public addresses only. With a proxy or a user's own client, the address is
                checked before the request, and they resolve the name again.
            opening: A connection from `connect_ahead`, if any.

        Raises:
            NotPublicError: The host has no public address.
        """
        if self.closed:
            raise ConfigurationError("This client was closed while the call waited.")
        self.counters.requests += 1
        self.counters.bytes_sent += len(body)
        http = self._transport
        outer = sys.exception()
        try:
            if public and (self._is_borrowed or is_proxied(str(url))):
                await _check_public(url, timeout["connect"])
            elif public:
                http = self._public_transport
            extensions: dict[str, Any] = {"timeout": timeout, NEW_CONNECTION: new_connection}
            if opening is not None:
                extensions[OPENING] = opening
            if self._is_borrowed:
                extensions.update(trace_extension(headers), timeout=dict(timeout))
            if isinstance(http, ClientAdapter):
                return await http.send(method, url, headers, body, extensions, bare=bare)
            stream = BytesBody(body) if isinstance(body, bytes) else body
            if isinstance(http, PooledTransport):
                request: httpx.Request = PooledRequest(method, url, headers, stream, extensions)
            else:
                request = httpx.Request(method, url, headers=headers, stream=stream, extensions=extensions)
                request.headers["Content-Length"] = str(len(body))
            response = await http.handle_async_request(request)
        except BaseException as exc:
            failure = from_transport(exc)
            drop_frames(exc, outer)
        else:
            response.request = request
            return response
        try:
            raise failure
        finally:
            del failure, outer  # they would keep each other alive

    async def connect_ahead(self, url: httpx.URL, timeout: float | None) -> Opening | None:
        """Begin to connect for a request that will be sent soon, if that is possible and useful.

        Args:
            url: The URL of the request.
            timeout: Seconds that connecting may take.

        Returns:
            The connection, to be passed to `send`, and released in any case.
        """
        if isinstance(self._transport, PooledTransport) and not self.closed:
            return await self._transport.connect_ahead(url, timeout)
        return None

    async def aclose(self) -> None:
        """Close the connections that this session opened; further requests are refused."""
        self.closed = True
        for name in ("downloads", "_public_transport"):
            if name in self.__dict__:
                await getattr(self, name).aclose()
        if not self._is_borrowed and not isinstance(self._transport, ClientAdapter):
            await self._transport.aclose()


async def _check_public(url: httpx.URL, timeout: float | None) -> None:
    with contextlib.suppress(httpx.ConnectError, httpx.ConnectTimeout):  # a proxy may resolve the name
        await check_public(url.host, url.port or 443, timeout)


def _make_transport(http_client: UserClient | None) -> ClientAdapter | httpx.AsyncBaseTransport:
    if http_client is None:
        return PooledTransport()
    adapted = adapt(http_client)
    if adapted is not None:
        return adapted
    raise ConfigurationError(
        "http_client must be an AsyncClient or an AsyncBaseTransport of httpx or httpx2, "
        f"not {http_client if isinstance(http_client, str) else type(http_client).__name__}."
    )
