"""An HTTP/1.1 connection on asyncio, used for one request after the other as long as it is clean."""

from __future__ import annotations

import asyncio
import functools
import ssl
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, cast

import httpx

from .asyncio_socket import Socket, connect
from .http1_parser import ResponseParser, new_parser
from .payloads import BytesBody
from .pooled_request import PooledResponse, encode_head

KEEPALIVE = 60.0
"""Seconds that a connection may idle. If the server closes it sooner, reuse detects that."""

_MAX_READ = 64 * 1024  # bytes parsed before other tasks may run
_MAX_HEAD_READ = 16 * 1024  # the same before the headers are complete, as interim responses take longer to parse
_MAX_WRITE = 256 * 1024  # bytes given to asyncio at a time, which copies what the socket does not take at once
_MAX_JOINED = 16 * 1024  # bytes of a body that are sent together with the headers; more are not worth copying


class Http1Connection:
    """A connection to one origin. It is closed without awaiting, as awaiting can be interrupted.

    Args:
        host: Host name or address.
        port: Port.
        tls: Returns the TLS context for https, as that may take long to make.
        public_only: Whether to connect to public addresses only.

    Attributes:
        has_answered: Whether a request was answered on it.
    """

    proxy = None

    def __init__(
        self, host: str, port: int, tls: Callable[[], ssl.SSLContext] | None, *, public_only: bool = False
    ) -> None:
        self._connect = functools.partial(connect, host, port, public_only=public_only)
        self._tls = tls
        self._parser = new_parser()
        self._socket: Socket | None = None
        self.has_answered = False
        self._is_closed = False
        self._is_early = False  # whether the response began before its request was sent
        self._has_more = False  # whether the parser holds data that it has not parsed
        self._error: httpx.RemoteProtocolError | None = None  # of data that follows what was parsed
        self._read_timeout: float | None = None
        self._expiry = 0.0

    async def open(self, timeout: float | None) -> Socket:
        """Connect.

        Raises:
            httpx.ConnectError, httpx.ConnectTimeout: There is no connection.
            NotPublicError: The host has no public address.
            ConfigurationError: The certificates that the environment names cannot be used.
        """
        self._socket = await self._connect(timeout=timeout, tls=self._tls() if self._tls is not None else None)
        self._expiry = time.monotonic() + KEEPALIVE
        if self._is_closed:
            self._socket.close()
        return self._socket

    async def handle_async_request(self, request: httpx.Request, give_back: Callable[[], None]) -> httpx.Response:
        """Send a request, and read the head of its response.

        Args:
            request: The request.
            give_back: Called once, when the response is closed.

        Raises:
            httpx.TransportError: There is no response. On a reused connection this may be because a successful response
                began to arrive before the request was sent: it belongs to another request, as a server may refuse
                early, but not succeed.
        """
        timeouts: dict[str, float | None] = request.extensions.get("timeout") or {}
        socket = self._socket or await self.open(timeouts.get("connect"))
        self._parser.start()
        socket.deadline = None
        self._is_early = self._has_more = False
        self._error = None
        self._read_timeout = timeouts.get("read")
        is_sent = await self._send(socket, request, timeouts.get("write"))
        while (head := self._parser.head) is None:
            await self.parse_more(socket, _MAX_HEAD_READ)
        if not is_sent and head.status < 400 and self.has_answered:
            raise httpx.RemoteProtocolError("the server responded before the request was sent")
        return PooledResponse(head.status, head.headers, Http1Body(self, socket, self._parser, give_back))

    def is_reusable(self) -> bool:
        """Return whether its response was read to the end, and nothing follows it; it may idle from now on."""
        parser, socket = self._parser, self._socket
        self.has_answered = True
        self._expiry = time.monotonic() + KEEPALIVE
        return (
            parser.is_complete
            and parser.head is not None
            and parser.head.keeps_connection
            and not parser.has_surplus
            and not self._is_early
            and socket is not None
            and not socket.has_data
            and not socket.ended
        )

    async def prepare_reuse(self) -> bool:
        """Return whether another request may be sent: it was not closed, and has received nothing while idle."""
        return self._socket is not None and not self.has_expired() and not self._socket.has_unread()

    def has_expired(self) -> bool:
        """Return whether it has idled too long, or was closed by the server."""
        return self._socket is None or self._socket.ended or time.monotonic() > self._expiry

    def abort(self) -> None:
        """Close the connection immediately; further calls do nothing."""
        self._is_closed = True
        if self._socket is not None:
            self._socket.close()

    async def aclose(self) -> None:
        """Close the connection."""
        self.abort()
        await asyncio.sleep(0)  # lets the loop close the socket before the loop itself may be closed

    async def _send(self, socket: Socket, request: httpx.Request, timeout: float | None) -> bool:
        """Send a request, and return whether that was completed: a server may refuse it before."""
        if self.has_answered and socket.has_data:
            raise httpx.RemoteProtocolError("the server sent a response without a request")
        head, body = encode_head(request), request.stream
        try:
            if not isinstance(body, BytesBody):
                socket.write(head)
                chunks = aiter(cast("httpx.AsyncByteStream", body))
                async with aclosing(cast("Any", chunks)):
                    async for chunk in chunks:
                        if not await self._send_part(socket, chunk, timeout):
                            return False
                return True
            if len(body.data) <= _MAX_JOINED:
                socket.write(head + body.data)
                return True
            socket.write(head)
            return await self._send_part(socket, body.data, timeout)
        except httpx.WriteError:
            if self._parser.head is None and not socket.has_data:  # otherwise it may have said why
                raise
            return False

    async def _send_part(self, socket: Socket, data: bytes, timeout: float | None) -> bool:
        view = memoryview(data)
        for start in range(0, len(data), _MAX_WRITE):
            if start:
                await asyncio.sleep(0)  # lets other tasks run, and a refusal arrive
            socket.write(view[start : start + _MAX_WRITE])
            expiry = None if timeout is None else time.monotonic() + timeout
            while not await socket.drain(_until(expiry), until_data=not self._is_early):
                if await self._is_refused(socket):
                    return False
        return True

    async def _is_refused(self, socket: Socket) -> bool:
        """Return whether the response that has begun to arrive refuses the request."""
        await self.parse_more(socket, _MAX_HEAD_READ)
        head = self._parser.head
        if head is None:
            return False
        self._is_early = True
        return head.status >= 400 or self.has_answered

    async def parse_more(self, socket: Socket, max_bytes: int) -> None:
        """Parse what has arrived, waiting for data if necessary.

        Raises:
            httpx.TransportError: It is not a response, or not a complete one.
        """
        if self._error is not None:
            raise self._error
        if self._has_more:
            await asyncio.sleep(0)
        data = b"" if self._has_more else await socket.read(max_bytes, self._read_timeout)
        if not data and not self._has_more:
            if not socket.is_clean_end:
                raise httpx.ReadError("the connection was lost")
            self._parser.feed_end()
            return
        try:
            self._has_more = self._parser.feed(data)
        except httpx.RemoteProtocolError as exc:
            if not self._parser.chunks:
                raise
            self._error = exc  # after what was parsed
        if socket.has_data:
            await asyncio.sleep(0)


class Http1Body(httpx.AsyncByteStream):
    """The body of a response, read as it is iterated.

    Args:
        connection: Its connection.
        socket: The connection's socket.
        parser: The connection's parser.
        give_back: Called once, when the body is closed.
    """

    def __init__(
        self, connection: Http1Connection, socket: Socket, parser: ResponseParser, give_back: Callable[[], None]
    ) -> None:
        self._connection = connection
        self._socket = socket
        self._parser = parser
        self._give_back: Callable[[], None] | None = give_back

    def set_deadline(self, seconds: float | None) -> None:
        """Let reads fail with `DeadlineError` from a moment on. It is free, unlike a cancel scope around every read.

        Args:
            seconds: Seconds from now; None for never.
        """
        if self._give_back is not None:  # otherwise the connection may belong to another request
            self._socket.deadline = None if seconds is None else asyncio.get_running_loop().time() + seconds

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        parser = self._parser
        while not parser.chunks:
            if parser.is_complete:
                raise StopAsyncIteration
            await self._connection.parse_more(self._socket, _MAX_READ)
        chunks, parser.chunks = parser.chunks, []
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)

    async def aclose(self) -> None:
        """Give the connection back."""
        if self._give_back is not None:
            give_back, self._give_back = self._give_back, None
            give_back()


def _until(expiry: float | None) -> float | None:
    return None if expiry is None else max(0.0, expiry - time.monotonic())
