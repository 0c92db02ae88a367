"""httpcore's network backend for asyncio, on our own sockets; only connections through proxies use it."""

from __future__ import annotations

import ssl
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from typing import Any

import httpcore
import httpx

from .asyncio_socket import Socket, connect


class AsyncioStream(httpcore.AsyncNetworkStream):
    """An open socket."""

    def __init__(self, socket: Socket) -> None:
        self._socket = socket

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return received data, waiting until there is some; empty at the end of the stream."""
        with _as_httpcore_errors():
            return await self._socket.read(max_bytes, timeout)

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of the buffer."""
        with _as_httpcore_errors():
            self._socket.write(buffer)
            await self._socket.drain(timeout)

    async def aclose(self) -> None:
        """Close the socket."""
        self._socket.close()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Return the same connection, encrypted from now on."""
        with _as_httpcore_errors():
            await self._socket.start_tls(ssl_context, server_hostname, timeout)
        return AsyncioStream(self._socket)

    def get_extra_info(self, info: str) -> Any:
        """Return information about the socket that is requested."""
        if info == "is_readable":  # on an idle connection: the server closed it, or sent unsolicited data
            return self._socket.has_unread()
        return self._socket if info == "socket" else None


class AsyncioBackend(httpcore.AsyncNetworkBackend):
    """Connects sockets on asyncio, uvloop included."""

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Open a connection."""
        del local_address, socket_options
        with _as_httpcore_errors():
            return AsyncioStream(await connect(host, port, timeout=timeout))


@contextmanager
def _as_httpcore_errors() -> Generator[None]:
    """Raise errors of httpx as those of httpcore with the same names, which httpcore expects."""
    try:
        yield
    except httpx.TransportError as exc:
        name = next(cls.__name__ for cls in type(exc).__mro__ if cls.__module__ == "httpx")
        failure: Exception = getattr(httpcore, name)(str(exc))
    else:
        return
    raise failure
