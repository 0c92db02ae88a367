"""A TCP or TLS socket on asyncio: buffered reading, back-pressure both ways, timeouts without a scope per read."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import math
import select
import socket
import ssl
from collections.abc import Generator
from typing import Any

import httpx

from .public_network import public_addresses

_MAX_BUFFER = 512 * 1024  # unread bytes, above which reading from the socket is paused
_HAPPY_EYEBALLS_DELAY = 0.25  # seconds before the next address is tried in parallel (RFC 8305)


class DeadlineError(httpx.ReadTimeout):
    """The socket's deadline has passed."""


class Socket(asyncio.Protocol):
    """A connected socket with one reader, which is also its only writer. Made by `connect`.

    Attributes:
        deadline: Time on the event loop's clock after which no read waits any longer; None means never.
        ended: Whether the other side has closed the connection, or it was lost.
        is_clean_end: Whether the other side closed it properly: over TLS, with a `close_notify`.
    """

    def __init__(self) -> None:
        self.deadline: float | None = None
        self.ended = self.is_clean_end = False
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._chunks: list[bytes] = []
        self._size = 0
        self._error: Exception | None = None
        self._is_closed = self._is_paused = False
        self._is_writable = True
        self._waiter: asyncio.Future[None] | None = None
        self._expiry = 0.0  # when the waiter times out
        self._timer: asyncio.TimerHandle | None = None
        self._poll: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Keep data for `read`, and pause the transport if there is too much."""
        self._chunks.append(data)
        self._size += len(data)
        if self._size > _MAX_BUFFER and not self._is_paused:
            self._is_paused = True
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """Record that the other side has closed the connection; asyncio closes it then."""
        self.ended = True
        self.is_clean_end = self._has_end()
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Record that the connection is closed."""
        self.ended = True
        self._error = exc
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._wake()

    def pause_writing(self) -> None:
        """Let `drain` wait."""
        self._is_writable = False

    def resume_writing(self) -> None:
        """Let `drain` return."""
        self._is_writable = True
        self._wake()

    @property
    def has_data(self) -> bool:
        """Whether data has arrived that was not read."""
        return bool(self._chunks)

    async def read(self, max_bytes: int, timeout: float | None) -> bytes:
        """Return data that has arrived, waiting until there is some; empty at the end.

        Raises:
            DeadlineError: None arrived before the deadline.
            httpx.ReadTimeout: None arrived in time.
            httpx.ReadError: The connection was lost.
        """
        while not self._chunks:
            if self.ended:
                if self._error is None:
                    return b""
                raise httpx.ReadError(str(self._error) or "connection lost")
            try:
                await self._event(timeout, self.deadline)
            except TimeoutError:
                is_late = self._expiry == self.deadline
            else:
                continue
            raise DeadlineError("") if is_late else httpx.ReadTimeout("")
        return self._take(max_bytes)

    def write(self, data: bytes | memoryview) -> None:
        """Send data. Large data should be sent in parts, with `drain` between them.

        Raises:
            httpx.WriteError: The connection was closed.
        """
        if self.ended:
            raise httpx.WriteError(str(self._error or "") or "the server closed the connection")
        self._transport.write(data)

    async def drain(self, timeout: float | None, *, until_data: bool = False) -> bool:
        """Wait until more can be sent.

        Args:
            timeout: Seconds to wait.
            until_data: Whether to return as soon as data arrives.

        Returns:
            Whether more can be sent; False if data has arrived first.

        Raises:
            httpx.WriteTimeout: Too little was sent in time.
        """
        while not self.ended:
            if until_data and self._chunks:
                return False
            if self._is_writable:
                break
            try:
                await self._event(timeout, None)
            except TimeoutError:
                raise httpx.WriteTimeout("") from None
        return True

    def has_unread(self) -> bool:
        """Return whether data, or the end, has arrived, including what the event loop has not read yet."""
        return self.ended or bool(self._chunks) or self._is_readable()

    async def start_tls(self, context: ssl.SSLContext, server_hostname: str | None, timeout: float | None) -> None:
        """Encrypt the connection from now on.

        Raises:
            httpx.ConnectError, httpx.ConnectTimeout: The handshake failed, or took too long.
        """
        with _as_connect_errors():
            async with asyncio.timeout(timeout):
                encrypted = await self._loop.start_tls(self._transport, self, context, server_hostname=server_hostname)
        self._transport, self._poll = encrypted, None

    def close(self) -> None:
        """Close the connection immediately; over TLS, after a `close_notify`. Further calls do nothing."""
        if self._transport is None or self._is_closed:
            return
        self._is_closed = True
        if not self._transport.is_closing():
            self._transport.close()
        self._transport.abort()

    def _take(self, max_bytes: int) -> bytes:
        data = self._chunks[0] if len(self._chunks) == 1 else b"".join(self._chunks)
        self._chunks.clear()
        if len(data) > max_bytes:
            self._chunks.append(data[max_bytes:])
            data = data[:max_bytes]
        self._size -= len(data)
        if self._is_paused and self._size <= _MAX_BUFFER:
            self._is_paused = False
            self._transport.resume_reading()
        return data

    def _event(self, timeout: float | None, deadline: float | None) -> asyncio.Future[None]:
        """Return a future of the next event: data arrives, the connection ends, or it can be written to again.

        It raises `TimeoutError` if nothing happens in time. One timer serves many futures: if it ends too early, it is
        set again.
        """
        expiry = math.inf if timeout is None else self._loop.time() + timeout
        self._expiry = expiry = expiry if deadline is None else min(expiry, deadline)
        if expiry < math.inf and (self._timer is None or self._timer.when() > expiry):
            self._set_timer()
        self._waiter = waiter = self._loop.create_future()
        return waiter

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._expiry, self._on_timer)

    def _on_timer(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done() or self._expiry == math.inf:
            return
        if self._expiry > self._loop.time():
            self._set_timer()
        else:
            self._waiter.set_exception(TimeoutError())

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _has_end(self) -> bool:
        """Return whether the other side said that this was all; asyncio reports a TLS connection that was cut alike."""
        tls: ssl.SSLObject | None = self._transport.get_extra_info("ssl_object")
        try:
            return tls is None or not tls.read(1)
        except ssl.SSLError as exc:
            return isinstance(exc, ssl.SSLZeroReturnError)

    def _is_readable(self) -> bool:
        if self._poll is None:
            sock = self._transport.get_extra_info("socket")
            descriptor = sock.fileno() if sock is not None else -1
            if descriptor < 0:
                return True
            if not hasattr(select, "poll"):  # Windows
                return bool(select.select([descriptor], [], [], 0)[0])
            self._poll = select.poll()
            self._poll.register(descriptor, select.POLLIN)
        return bool(self._poll.poll(0))


async def connect(
    host: str, port: int, *, timeout: float | None, tls: ssl.SSLContext | None = None, public_only: bool = False
) -> Socket:
    """Open a connection.

    Args:
        host: Host name or address.
        port: Port.
        timeout: Seconds that connecting, and the TLS handshake, may take for each address.
        tls: TLS context, or None for a plain connection.
        public_only: Whether to resolve the name once, and to connect to public addresses only.

    Raises:
        httpx.ConnectError: No address accepts the connection, or the certificate is not trusted.
        httpx.ConnectTimeout: It took too long.
        NotPublicError: The host has no public address.
    """
    if not public_only:
        return await _connect(host, host, port, timeout, tls)
    problem: Exception | None = None
    for address in await public_addresses(host, port, timeout):
        try:
            return await _connect(address, host, port, timeout, tls)
        except (httpx.ConnectError, httpx.ConnectTimeout) as exc:
            problem = exc
    raise problem or httpx.ConnectError(f"{host} has no address")


async def _connect(address: str, host: str, port: int, timeout: float | None, tls: ssl.SSLContext | None) -> Socket:
    loop = asyncio.get_running_loop()
    started = loop.time()
    # asyncio leaks the socket when it is cancelled between connecting and returning. So a cancelled attempt runs to its
    # end, and its connection is closed then.
    attempt = loop.create_task(_connect_tcp(address, port, timeout))
    try:
        with _as_connect_errors():
            connection = await asyncio.shield(attempt)
    except asyncio.CancelledError:
        attempt.add_done_callback(_close_connection)
        raise
    if tls is None:
        return connection
    try:
        remaining = None if timeout is None else timeout - (loop.time() - started)
        await connection.start_tls(tls, host, remaining)
    except BaseException:
        connection.close()
        raise
    return connection


@contextlib.contextmanager
def _as_connect_errors() -> Generator[None]:
    try:
        yield
    except OSError as exc:  # TimeoutError and ssl.SSLError are some
        problem = None if isinstance(exc, TimeoutError) and not exc.args else str(exc)
    else:
        return
    raise httpx.ConnectTimeout("") if problem is None else httpx.ConnectError(problem)


async def _connect_tcp(address: str, port: int, timeout: float | None) -> Socket:
    loop = asyncio.get_running_loop()
    options: dict[str, Any] = {}
    # Only if there can be several addresses: asyncio's race can leak a socket that connects as its loop ends. uvloop
    # has no such option.
    if isinstance(loop, asyncio.BaseEventLoop) and not _is_address(address):
        options["happy_eyeballs_delay"] = _HAPPY_EYEBALLS_DELAY
    async with asyncio.timeout(timeout):
        try:
            return (await loop.create_connection(Socket, address, port, **options))[1]
        except RuntimeError:
            # At interpreter exit asyncio has no thread left to resolve names; `atexit` hooks may still call.
            return await _connect_to_any(socket.getaddrinfo(address, port, type=socket.SOCK_STREAM))


async def _connect_to_any(addresses: list[Any]) -> Socket:
    loop = asyncio.get_running_loop()
    *first, last = [address[4] for address in addresses]
    for host, port, *_ in first:
        with contextlib.suppress(OSError):
            return (await loop.create_connection(Socket, host, port))[1]
    return (await loop.create_connection(Socket, last[0], last[1]))[1]


def _close_connection(attempt: asyncio.Future[Socket]) -> None:
    if not attempt.cancelled() and attempt.exception() is None:
        attempt.result().close()


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
