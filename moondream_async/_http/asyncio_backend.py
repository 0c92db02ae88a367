"""httpcore's network backend for asyncio, straight on a Protocol.

httpcore's own goes through anyio's streams: several checkpoints and cancel scopes for each
read and write. This one costs a third less CPU per request (`benchmarks/README.md`).
"""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import select
import socket
import ssl
import time
from collections.abc import Iterable
from typing import Any, NoReturn

import httpcore

from .response_head import ResponseHead

_PAUSE_ABOVE = 512 * 1024  # bytes read ahead of the consumer, before the socket is left alone
_HAPPY_EYEBALLS = 0.25  # seconds before the next address is tried beside the first (RFC 8305)


class _Protocol(asyncio.Protocol):
    """Collects what is read; wakes the one reader and the one writer."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.size = 0
        self.ended = False
        self.error: Exception | None = None
        self.transport: Any = None
        self._paused_reading = False
        self._writable = True
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.chunks.append(data)
        self.size += len(data)
        if self.size > _PAUSE_ABOVE and not self._paused_reading:
            self._paused_reading = True
            self.transport.pause_reading()
        _wake(self._reader)

    def eof_received(self) -> None:
        self.ended = True
        _wake(self._reader)

    def connection_lost(self, exc: Exception | None) -> None:
        self.ended = True
        self.error = exc
        _wake(self._reader)
        _wake(self._writer)

    def pause_writing(self) -> None:
        self._writable = False

    def resume_writing(self) -> None:
        self._writable = True
        _wake(self._writer)

    def take(self, max_bytes: int) -> bytes:
        data = self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)
        self.chunks.clear()
        if len(data) > max_bytes:
            self.chunks.append(data[max_bytes:])
            data = data[:max_bytes]
        self.size -= len(data)
        if self._paused_reading and self.size <= _PAUSE_ABOVE:
            self._paused_reading = False
            self.transport.resume_reading()
        return data

    async def readable(self) -> None:
        self._reader = asyncio.get_running_loop().create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    async def drained(self) -> None:
        while not self._writable and not self.ended:
            self._writer = asyncio.get_running_loop().create_future()
            try:
                await self._writer
            finally:
                self._writer = None

    @property
    def writable(self) -> bool:
        return self._writable


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


class AsyncioStream(httpcore.AsyncNetworkStream):
    """One open socket.

    Attributes:
        head: Bounds of the answer's head, and what may come before it.
        deadline: The moment, on the monotonic clock, after which a read that has to wait gives up, whatever its own
            timeout; None is never. It costs nothing where a cancel scope around every read would.
    """

    def __init__(self, protocol: _Protocol) -> None:
        self._protocol = protocol
        self.deadline: float | None = None
        self.head = ResponseHead()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return what has arrived, as soon as something has; empty at the end."""
        if self.head.is_awaited:
            if self.head.has_started:
                await asyncio.sleep(0)
            data = await self._read(self.head.limit(max_bytes), timeout)
            self.head.count(data)
            return data
        return await self._read(max_bytes, timeout)

    async def _read(self, max_bytes: int, timeout: float | None) -> bytes:
        protocol = self._protocol
        if not protocol.chunks and not protocol.ended:
            if self.deadline is not None:
                left = max(0.0, self.deadline - time.monotonic())
                timeout = left if timeout is None else min(timeout, left)
            try:
                async with asyncio.timeout(timeout):
                    await protocol.readable()
            except TimeoutError:
                raise httpcore.ReadTimeout from None
        if protocol.chunks:
            return protocol.take(max_bytes)
        if protocol.error is not None:
            raise httpcore.ReadError(str(protocol.error) or "connection lost")
        return b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send it all."""
        protocol = self._protocol
        if not buffer:
            return
        self.head.check_unsolicited(bool(protocol.chunks))
        if protocol.ended:
            raise httpcore.WriteError("the server closed the connection")
        protocol.transport.write(buffer)
        if not protocol.writable:
            try:
                async with asyncio.timeout(timeout):
                    await protocol.drained()
            except TimeoutError:
                raise httpcore.WriteTimeout from None
            self.head.check_unsolicited(bool(protocol.chunks))

    async def aclose(self) -> None:
        """Close the socket."""
        self._protocol.transport.abort()
        await asyncio.sleep(0)  # lets the loop close the socket before it may be closed itself

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """The same connection, encrypted from here on."""
        protocol = self._protocol
        plain = protocol.transport
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(timeout):
                protocol.transport = await loop.start_tls(plain, protocol, ssl_context, server_hostname=server_hostname)
        except BaseException as exc:
            plain.abort()
            _raise_connect_error(exc)
        return AsyncioStream(protocol)

    def get_extra_info(self, info: str) -> Any:
        """What httpcore asks about the socket."""
        protocol = self._protocol
        if info == "is_readable":  # on an idle connection: the server closed it, or talks out of turn
            return protocol.ended or bool(protocol.chunks) or has_unread(protocol.transport)
        names = {"client_addr": "sockname", "server_addr": "peername"}
        return protocol.transport.get_extra_info(names.get(info, info))


class AsyncioBackend(httpcore.AsyncNetworkBackend):
    """Connects one TCP socket on asyncio, uvloop included, and can close it at any moment."""

    def __init__(self) -> None:
        self._protocol: _Protocol | None = None

    def abort(self) -> None:
        """Close what was opened, at once; safe to call again."""
        if self._protocol is not None:
            self._protocol.transport.abort()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Open a connection; happy eyeballs where the loop has them (uvloop has not)."""
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {}
        # Between addresses only: asyncio's race can lose a socket that connects as its loop ends.
        if isinstance(loop, asyncio.BaseEventLoop) and not _is_address(host):
            options["happy_eyeballs_delay"] = _HAPPY_EYEBALLS
        if local_address is not None:
            options["local_addr"] = (local_address, 0)

        async def connect() -> tuple[asyncio.BaseTransport, _Protocol]:
            async with asyncio.timeout(timeout):
                try:
                    return await loop.create_connection(_Protocol, host, port, **options)
                except RuntimeError:
                    # At interpreter exit asyncio has no thread left to look names up in; `atexit` hooks may still call.
                    return await _connect_to_any(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))

        # asyncio loses the socket when it is cancelled between the connect and its return, so the
        # attempt is let run to its end, and its connection closed, when nobody waits for it any more.
        attempt = loop.create_task(connect())
        try:
            transport, protocol = await asyncio.shield(attempt)
        except asyncio.CancelledError:
            attempt.add_done_callback(_abandon)
            raise
        except (TimeoutError, OSError) as exc:
            _raise_connect_error(exc)
        self._protocol = protocol
        sock = transport.get_extra_info("socket")
        for option in socket_options or ():
            sock.setsockopt(*option)
        return AsyncioStream(protocol)

    async def sleep(self, seconds: float) -> None:
        """Sleep, for httpcore's own connect retries (which we do not use)."""
        await asyncio.sleep(seconds)


def has_unread(transport: asyncio.BaseTransport) -> bool:
    """Tell whether the system holds bytes, or the end, that the loop has not read yet."""
    sock = transport.get_extra_info("socket")
    descriptor = sock.fileno() if sock is not None else -1
    if descriptor < 0:
        return True
    if not hasattr(select, "poll"):  # Windows
        return bool(select.select([descriptor], [], [], 0)[0])
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def _connect_to_any(addresses: list[Any]) -> tuple[asyncio.BaseTransport, _Protocol]:
    loop = asyncio.get_running_loop()
    *others, last = [address[4] for address in addresses]
    for host, port, *_ in others:
        with contextlib.suppress(OSError):
            return await loop.create_connection(_Protocol, host, port)
    return await loop.create_connection(_Protocol, last[0], last[1])


def _abandon(attempt: asyncio.Task[tuple[asyncio.BaseTransport, _Protocol]]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result()[1].transport.abort()


def _raise_connect_error(exc: BaseException) -> NoReturn:
    if isinstance(exc, TimeoutError) and not exc.args:
        raise httpcore.ConnectTimeout from None
    if isinstance(exc, OSError):  # ssl.SSLError is one
        raise httpcore.ConnectError(str(exc)) from None
    raise exc
