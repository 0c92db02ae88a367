"""A scripted HTTP server on a loopback socket, for what a mocked transport cannot test."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

from anyio.from_thread import start_blocking_portal

Handler = Callable[["Exchange"], Awaitable[None]]


class Exchange:
    """A request, and methods to respond to it byte by byte."""

    def __init__(
        self, server: Server, head: bytes, body: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.server = server
        self.reader = reader
        self.number = server.requests
        self.head = head.decode("latin-1")
        self.body = body
        self.writer = writer
        self.close_after = False

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self, body: Any, status: int = 200, headers: str = "") -> None:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        kind = "" if "content-type" in headers.lower() else "Content-Type: application/json\r\n"
        head = f"HTTP/1.1 {status} X\r\n{kind}Content-Length: {len(data)}\r\n{headers}\r\n"
        await self.send(head.encode() + data)

    async def start_stream(self) -> None:
        await self.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")

    async def chunk(self, data: bytes) -> None:
        await self.send(b"%x\r\n%s\r\n" % (len(data), data))

    async def event(self, value: Any) -> None:
        await self.chunk(f"data: {json.dumps(value)}\n\n".encode())

    async def end_stream(self) -> None:
        await self.send(b"0\r\n\r\n")

    def cut(self) -> None:
        self.writer.transport.abort()


class Server:
    """The server, and what it has received."""

    def __init__(self, handler: Handler) -> None:
        self.handler = handler
        self.requests = 0
        self.connections = 0
        self.open = 0
        self.base_url = ""
        self.tasks: set[asyncio.Task[None]] = set()

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        self.connections += 1
        self.open += 1
        try:
            while await self._exchange(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            self.open -= 1
            self.tasks.discard(task)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(
            (int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0
        )
        body = await reader.readexactly(length)
        self.requests += 1
        exchange = Exchange(self, head, body, reader, writer)
        await self.handler(exchange)
        return not exchange.close_after and not writer.is_closing()


@asynccontextmanager
async def serve(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Server]:
    """Serve on a free loopback port until the block ends."""
    server = Server(handler)
    listener = await asyncio.start_server(server.connected, "127.0.0.1", 0, ssl=tls, backlog=1024)
    port = listener.sockets[0].getsockname()[1]
    server.base_url = f"{'https' if tls else 'http'}://{'localhost' if tls else '127.0.0.1'}:{port}/v1"
    try:
        yield server
    finally:
        listener.close()
        for _ in range(3):  # a connection may not have reached its handler yet
            for task in list(server.tasks):
                task.cancel()
            await asyncio.sleep(0.001)
        if server.tasks:
            await asyncio.wait(server.tasks, timeout=1)


@contextmanager
def serve_in_thread(handler: Handler, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Serve in an event loop in a thread, for clients on any other loop."""
    with start_blocking_portal() as portal, portal.wrap_async_context_manager(serve(handler, tls)) as server:
        yield server


async def until(condition: Callable[[], bool]) -> None:
    """Wait until the condition is true; fail after 10 seconds."""
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.01)
