"""What a client and its `with_options` clones share: connections, slots and pace."""

from __future__ import annotations

import contextlib
import sys
from typing import Literal

import anyio
import httpcore
import httpx

from .._concurrency.loop_local import LoopLocal
from .._wire.progress import Progress
from ..errors import ConfigurationError
from .image_download import Downloads
from .payloads import BytesBody, FileBody
from .proxies import is_proxied
from .public_network import check_public
from .rate_limiter import RateLimiter
from .stats import StatsCounters
from .tracing import trace_extension
from .transport import NEW_CONNECTION, PooledTransport
from .transport_errors import drop_frames, from_transport

HttpClient = httpx.AsyncClient | httpx.AsyncBaseTransport | Literal["aiohttp"]


class Slot:
    """The right to have one request in flight; given up once, from wherever the request ends."""

    def __init__(self, limiter: anyio.CapacityLimiter, counters: StatsCounters, progress: Progress) -> None:
        self._limiter = limiter
        self._counters = counters
        self._progress = progress
        self._held = False
        self._sent = False

    async def acquire(self) -> None:
        """Wait for a free slot; in the order of asking, however many wait."""
        try:
            self._limiter.acquire_on_behalf_of_nowait(self)  # saves a turn of the loop
        except anyio.WouldBlock:
            self._counters.waiting += 1
            try:
                await self._limiter.acquire_on_behalf_of(self)
            finally:
                self._counters.waiting -= 1
        self._held = True
        self._counters.in_flight += 1

    def sent(self) -> None:
        """Note that the request goes out now; it is in transit until the slot is released."""
        self._sent = True
        self._progress.in_transit += 1

    def release(self) -> None:
        """Give the slot back; further calls do nothing."""
        if self._sent:
            self._sent = False
            self._progress.in_transit -= 1
        if self._held:
            self._held = False
            self._counters.in_flight -= 1
            self._limiter.release_on_behalf_of(self)


class Session:
    """Opens exchanges for any number of clients.

    Args:
        max_connections: How many requests may be in flight at once, in one event loop.
        rate_limit: Requests per second, or None to adapt to the server.
        http_client: The user's own httpx client or transport, never closed here; or `"aiohttp"`.
    """

    def __init__(
        self,
        *,
        max_connections: int,
        rate_limit: float | None,
        http_client: HttpClient | None,
    ) -> None:
        self.closed = False
        self.counters = StatsCounters()
        self.pacer = RateLimiter(rate_limit)
        self.downloads = Downloads()
        self._limiters = LoopLocal(lambda: anyio.CapacityLimiter(max_connections))
        self._borrowed = not (http_client is None or isinstance(http_client, str))
        self._own = _transport(http_client)

    def slot(self) -> Slot:
        """A slot of the running loop, not yet acquired."""
        if self.closed:
            raise ConfigurationError("This client is closed; make a new one.")
        return Slot(self._limiters.get(), self.counters, self.pacer.progress)

    async def send(
        self,
        method: str,
        url: httpx.URL,
        headers: httpx.Headers,
        body: bytes | FileBody,
        timeout: httpx.Timeout,
        *,
        new_connection: bool = False,
        bare: bool = False,
        public: bool = False,
    ) -> httpx.Response:
        """Send one request; the answer's body is not read yet. Redirects are not followed.

        Args:
            method: Of HTTP.
            url: Absolute.
            headers: All of them.
            body: Bytes, or (a part of) a file.
            timeout: httpx's.
            new_connection: Whether to open a new connection: a request on a reused one may have to be resent.
            bare: Whether a user's own httpx client adds none of its headers, cookies and credentials.
            public: Whether it may go to public addresses only. A proxy, or a user's own client, looks the name up
                once more.

        Raises:
            NotPublicError: The host has no public address.
        """
        if self.closed:
            raise ConfigurationError("This client was closed while the call waited.")
        self.counters.requests += 1
        self.counters.bytes_sent += len(body)
        http = self._own
        outer = sys.exception()
        try:
            if public and (self._borrowed or is_proxied(str(url))):
                await _refuse_private(url, timeout)
            elif public:
                http = self.downloads.public_transport
            return await self._send(http, method, url, headers, body, timeout, new_connection=new_connection, bare=bare)
        except BaseException as exc:
            failure = from_transport(exc)
            drop_frames(exc, outer)
        try:
            raise failure
        finally:
            del failure, outer  # which would keep each other alive

    async def _send(
        self,
        http: httpx.AsyncClient | httpx.AsyncBaseTransport,
        method: str,
        url: httpx.URL,
        headers: httpx.Headers,
        body: bytes | FileBody,
        timeout: httpx.Timeout,
        *,
        new_connection: bool,
        bare: bool,
    ) -> httpx.Response:
        tracing = trace_extension(headers)
        if isinstance(http, httpx.AsyncClient):
            if http.is_closed:
                raise ConfigurationError("The http_client is closed.")
            if not isinstance(body, bytes):
                headers = headers.copy()
                headers["Content-Length"] = str(len(body))
            if bare:
                request = httpx.Request(method, url, headers=headers, content=body)
                request.extensions = {"timeout": timeout.as_dict(), **tracing}
                return await http.send(request, stream=True, auth=None, follow_redirects=False)
            request = http.build_request(
                method, url, headers=headers, content=body, timeout=timeout, extensions=tracing
            )
            return await http.send(request, stream=True, follow_redirects=False)
        headers = headers.copy()
        headers["Content-Length"] = str(len(body))
        request = httpx.Request(
            method,
            url,
            headers=headers,
            stream=BytesBody(body) if isinstance(body, bytes) else body,
            extensions={"timeout": timeout.as_dict(), NEW_CONNECTION: new_connection, **tracing},
        )
        return await http.handle_async_request(request)

    async def aclose(self) -> None:
        """Close what this session opened; further requests are refused."""
        self.closed = True
        await self.downloads.aclose()
        if self._borrowed:
            return
        await self._own.aclose()


async def _refuse_private(url: httpx.URL, timeout: httpx.Timeout) -> None:
    with contextlib.suppress(httpcore.ConnectError, httpcore.ConnectTimeout):  # a proxy may know the name
        await check_public(url.host, url.port or 443, timeout.connect)


def _transport(http_client: HttpClient | None) -> httpx.AsyncClient | httpx.AsyncBaseTransport:
    if http_client is None:
        return PooledTransport()
    if http_client == "aiohttp":
        from .aiohttp_transport import FastTransport

        return FastTransport()
    if isinstance(http_client, (httpx.AsyncClient, httpx.AsyncBaseTransport)):
        return http_client
    raise ConfigurationError(
        "http_client must be an httpx.AsyncClient, an httpx.AsyncBaseTransport or 'aiohttp', "
        f"not {http_client if isinstance(http_client, str) else type(http_client).__name__}."
    )
