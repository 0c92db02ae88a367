"""httpcore's own network backend, with the bounds of ours: for trio."""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from typing import Any, cast

import httpcore

from .response_head import ResponseHead

_PIECE = 64 * 1024  # bytes that are sent without looking whether the server speaks out of turn


class TrioStream(httpcore.AsyncNetworkStream):
    """One open socket of httpcore's.

    Attributes:
        head: Bounds of the answer's head, and what may come before it.
    """

    def __init__(self, inner: httpcore.AsyncNetworkStream) -> None:
        self._inner = inner
        self.head = ResponseHead()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what has arrived, as soon as something has; empty at the end."""
        if not self.head.is_awaited:
            return await self._inner.read(max_bytes, timeout)
        data = await self._inner.read(self.head.limit(max_bytes), timeout)
        self.head.count(data)
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send it all."""
        for start in range(0, len(buffer), _PIECE):
            self.head.check_unsolicited(bool(self._inner.get_extra_info("is_readable")))
            await self._inner.write(buffer[start : start + _PIECE], timeout)

    async def aclose(self) -> None:
        """Close the socket."""
        await self._inner.aclose()

    def abort(self) -> None:
        """Close the socket without awaiting."""
        self._inner.get_extra_info("socket").close()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Return the same connection, encrypted from here on."""
        try:
            return TrioStream(await self._inner.start_tls(ssl_context, server_hostname, timeout))
        except httpcore.ConnectError as exc:  # trio's own has no text
            problem = _tls_problem(exc)
        raise httpcore.ConnectError(problem)

    def get_extra_info(self, info: str) -> Any:
        """Answer what httpcore asks about the socket."""
        return self._inner.get_extra_info(info)

    async def has_unread(self) -> bool:
        """Tell whether bytes are left that were decrypted, or are about to be, where the socket does not show them."""
        if self.get_extra_info("ssl_object") is None:
            return False
        try:
            await self._inner.read(1, timeout=0)
        except httpcore.ReadTimeout:
            return False
        except httpcore.NetworkError:
            pass
        return True


class TrioBackend(httpcore.AsyncNetworkBackend):
    """Connects one TCP socket on trio, and can close it at any moment."""

    def __init__(self) -> None:
        self._inner: httpcore.AsyncNetworkBackend = cast("Any", httpcore).TrioBackend()
        self._stream: TrioStream | None = None

    def abort(self) -> None:
        """Close what was opened, at once; safe to call again."""
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
        self._stream = TrioStream(inner)
        return self._stream

    async def sleep(self, seconds: float) -> None:
        """Sleep, for httpcore's own connect retries (which we do not use)."""
        await self._inner.sleep(seconds)


def _tls_problem(exc: BaseException | None) -> str:
    """Find what OpenSSL said, among the causes of an error."""
    text = str(exc)
    while exc is not None:
        if isinstance(exc, ssl.SSLError):
            return str(exc)
        exc = exc.__cause__ or exc.__context__
    return text
