"""httpcore's network backends, with limits on what a server may send before its response; closed without awaiting."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any, cast

import httpcore

from .._concurrency.loop_local import is_asyncio
from .asyncio_backend import AsyncioBackend
from .public_network import public_addresses
from .response_head import ResponseHead

_MAX_WRITE = 64 * 1024  # bytes sent between checks for unsolicited data


class NetworkStream(httpcore.AsyncNetworkStream):
    """An open socket.

    Attributes:
        head: Limits on the head of the response and on what precedes it.
    """

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner
        self.head = ResponseHead()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return received data, waiting until there is some; empty at the end of the stream."""
        if not self.head.is_awaited:
            return await self._inner.read(max_bytes, timeout)
        data = await self._inner.read(self.head.limit(max_bytes), timeout)
        self.head.count(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of the buffer."""
        for start in range(0, len(buffer), _MAX_WRITE):
            self.head.check_unsolicited(bool(self._inner.get_extra_info("is_readable")))
            await self._inner.write(buffer[start : start + _MAX_WRITE], timeout)

    async def aclose(self) -> None:
        """Close the socket."""
        await self._inner.aclose()

    def abort(self) -> None:
        """Close the socket without awaiting."""
        self._inner.get_extra_info("socket").close()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Return the same connection, encrypted from now on."""
        try:
            return NetworkStream(await self._inner.start_tls(ssl_context, server_hostname, timeout))
        except httpcore.ConnectError as exc:  # trio's errors have no text
            problem = _tls_problem(exc)
        raise httpcore.ConnectError(problem)

    def get_extra_info(self, info: str) -> Any:
        """Return information about the socket that httpcore requests."""
        return self._inner.get_extra_info(info)

    async def has_unread(self) -> bool:
        """Return whether the TLS layer holds unread data, which trio's socket does not show."""
        if self.get_extra_info("ssl_object") is None:
            return False
        try:
            await self._inner.read(1, timeout=0)
        except httpcore.ReadTimeout:
            return False
        except httpcore.NetworkError:
            pass
        return True


class NetworkBackend(httpcore.AsyncNetworkBackend):
    """Connects one TCP socket on asyncio or trio, and can close it at any time."""

    def __init__(self) -> None:
        self._inner = _backend()
        self._stream: NetworkStream | None = None

    def abort(self) -> None:
        """Close the socket immediately, if it is open; further calls do nothing."""
        if self._stream is not None:
            self._stream.abort()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Open a connection."""
        inner = await self._inner.connect_tcp(host, port, timeout, local_address, socket_options)
        self._stream = NetworkStream(inner)
        return self._stream


class PublicOnly(httpcore.AsyncNetworkBackend):
    """Resolves a host once and connects to one of the checked addresses, so that no second lookup can differ."""

    def __init__(self, inner: httpcore.AsyncNetworkBackend) -> None:
        self._inner = inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first public address that accepts the connection.

        Raises:
            NotPublicError: The host has no public address.
            httpcore.ConnectError, httpcore.ConnectTimeout, httpx.ConnectError, httpx.ConnectTimeout: No address accepts
                it, or the name cannot be resolved.
        """
        problem: Exception | None = None
        for address in await public_addresses(host, port, timeout):
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                problem = exc
        raise problem or httpcore.ConnectError(f"{host} has no address")


def _backend() -> httpcore.AsyncNetworkBackend:
    if is_asyncio():
        return AsyncioBackend()
    return cast("httpcore.AsyncNetworkBackend", cast("Any", httpcore).TrioBackend())


def _tls_problem(exc: BaseException | None) -> str:
    """Return OpenSSL's message, from the causes of an error."""
    text = str(exc)
    while exc is not None:
        if isinstance(exc, ssl.SSLError):
            return str(exc)
        exc = exc.__cause__ or exc.__context__
    return text
