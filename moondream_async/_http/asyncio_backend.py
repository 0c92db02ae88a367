"""A network backend of httpcore for asyncio, built directly on a Protocol.

httpcore's own backend uses anyio's streams, with several checkpoints and cancel scopes for each read and write. This
one takes a third less CPU per request (`benchmarks/README.md`).
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

_MAX_BUFFER = 512 * 1024  # unread bytes, above which reading from the socket is paused
_HAPPY_EYEBALLS_DELAY = 0.25  # seconds before the next address is tried in parallel (RFC 8305)


class _Protocol(asyncio.Protocol):
    """Buffers received data; wakes the reader and the writer, of which there is one each."""

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
        if self.size > _MAX_BUFFER and not self._paused_reading:
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

    def read_buffer(self, max_bytes: int) -> bytes:
        data = self.chunks[0] if len(self.chunks) == 1 else b"".join(self.chunks)
        self.chunks.clear()
        if len(data) > max_bytes:
            self.chunks.append(data[max_bytes:])
            data = data[:max_bytes]
        self.size -= len(data)
        if self._paused_reading and self.size <= _MAX_BUFFER:
            self._paused_reading = False
            self.transport.resume_reading()
        return data

    async def wait_readable(self) -> None:
        self._reader = asyncio.get_running_loop().create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    async def drain(self) -> None:
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
    """An open socket.

    Attributes:
        head: Limits on the head of the response and on what precedes it.
        deadline: Time on the monotonic clock at which a read that waits for data times out, regardless of its own
            timeout; None means never. It is free, unlike a cancel scope around every read.
    """

    def __init__(self, protocol: _Protocol) -> None:
        self._protocol = protocol
        self.deadline: float | None = None
        self.head = ResponseHead()

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """Return received data, waiting until there is some; empty at the end of the stream."""
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
                remaining = max(0.0, self.deadline - time.monotonic())
                timeout = remaining if timeout is None else min(timeout, remaining)
            try:
                async with asyncio.timeout(timeout):
                    await protocol.wait_readable()
            except TimeoutError:
                raise httpcore.ReadTimeout from None
        if protocol.chunks:
            return protocol.read_buffer(max_bytes)
        if protocol.error is not None:
            raise httpcore.ReadError(str(protocol.error) or "connection lost")
        return b""

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of the buffer."""
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
                    await protocol.drain()
            except TimeoutError:
                raise httpcore.WriteTimeout from None
            self.head.check_unsolicited(bool(protocol.chunks))

    async def aclose(self) -> None:
        """Close the socket."""
        self._protocol.transport.abort()
        await asyncio.sleep(0)  # lets the loop close the socket before the loop itself may be closed

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        """Return the same connection, encrypted from now on."""
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
        """Return information about the socket that httpcore requests."""
        protocol = self._protocol
        if info == "is_readable":  # on an idle connection: the server closed it, or sent unsolicited data
            return protocol.ended or bool(protocol.chunks) or has_unread(protocol.transport)
        names = {"client_addr": "sockname", "server_addr": "peername"}
        return protocol.transport.get_extra_info(names.get(info, info))


class AsyncioBackend(httpcore.AsyncNetworkBackend):
    """Connects one TCP socket on asyncio, uvloop included, and can close it at any time."""

    def __init__(self) -> None:
        self._protocol: _Protocol | None = None

    def abort(self) -> None:
        """Close the socket immediately, if it is open; further calls do nothing."""
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
        """Open a connection, with Happy Eyeballs if the loop supports it (uvloop does not)."""
        loop = asyncio.get_running_loop()
        options: dict[str, Any] = {}
        # Only if there can be several addresses: asyncio's race can leak a socket that connects as its loop ends.
        if isinstance(loop, asyncio.BaseEventLoop) and not _is_address(host):
            options["happy_eyeballs_delay"] = _HAPPY_EYEBALLS_DELAY
        if local_address is not None:
            options["local_addr"] = (local_address, 0)

        async def connect() -> tuple[asyncio.BaseTransport, _Protocol]:
            async with asyncio.timeout(timeout):
                try:
                    return await loop.create_connection(_Protocol, host, port, **options)
                except RuntimeError:
                    # At interpreter exit asyncio has no thread left to resolve names; `atexit` hooks may still call.
                    return await _connect_to_any(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))

        # asyncio leaks the socket when it is cancelled between connecting and returning. So a cancelled attempt runs
        # to its end, and its connection is closed then.
        attempt = loop.create_task(connect())
        try:
            transport, protocol = await asyncio.shield(attempt)
        except asyncio.CancelledError:
            attempt.add_done_callback(_abort_connection)
            raise
        except (TimeoutError, OSError) as exc:
            _raise_connect_error(exc)
        self._protocol = protocol
        sock = transport.get_extra_info("socket")
        for option in socket_options or ():
            sock.setsockopt(*option)
        return AsyncioStream(protocol)

    async def sleep(self, seconds: float) -> None:
        """Sleep; for httpcore's connect retries, which this package does not use."""
        await asyncio.sleep(seconds)


def has_unread(transport: asyncio.BaseTransport) -> bool:
    """Return whether the socket has data, or its end, that the event loop has not read yet."""
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
    *first, last = [address[4] for address in addresses]
    for host, port, *_ in first:
        with contextlib.suppress(OSError):
            return await loop.create_connection(_Protocol, host, port)
    return await loop.create_connection(_Protocol, last[0], last[1])


def _abort_connection(attempt: asyncio.Task[tuple[asyncio.BaseTransport, _Protocol]]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result()[1].transport.abort()


def _raise_connect_error(exc: BaseException) -> NoReturn:
    if isinstance(exc, TimeoutError) and not exc.args:
        raise httpcore.ConnectTimeout from None
    if isinstance(exc, OSError):  # ssl.SSLError is one
        raise httpcore.ConnectError(str(exc)) from None
    raise exc
