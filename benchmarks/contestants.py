"""The contestants: ours, and what users would otherwise write. Each makes the same call to the same server.

aiohttp (the reference), httpx2, pyreqwest, httpx and the raw protocol send a finished body and parse JSON. Ours and the
official client build the body and return results. `openai` calls the chat endpoint. Contestants that are not installed
are skipped and listed.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from datetime import timedelta
from typing import Any

from moondream_async import AsyncClient, Client
from moondream_async._http import http1
from moondream_async._http.h11_parser import H11Parser

from .harness import KEY, image

Call = Callable[[], Awaitable[object]]
Contestant = Callable[[str, int], AbstractAsyncContextManager[Call]]
"""Takes the base URL and the size of the body, and gives a function that makes one call."""

OURS, OURS_FAST = "moondream-async", "moondream-async, fast"
REFERENCE = "aiohttp"
HEADERS = {"X-Moondream-Auth": KEY, "Content-Type": "application/json"}
_TIMEOUT = 120  # seconds


def ours(parser: Callable[[], AbstractContextManager[object]] = nullcontext, **options: Any) -> Contestant:
    """Return our client as a contestant.

    Args:
        parser: Returns a context in which clients use a certain HTTP parser; by default, the one they choose.
        options: Options of the client.
    """

    @asynccontextmanager
    async def contestant(url: str, size: int) -> AsyncGenerator[Call]:
        encoded = image(size)
        with parser():
            async with AsyncClient(KEY, base_url=url, max_connections=2000, **options) as client:
                yield lambda: client.query(encoded, "what?")

    return contestant


@contextmanager
def h11_parser() -> Generator[None]:
    """Let our clients parse responses with h11, as they do without the extra `fast`."""
    fastest = http1.new_parser
    http1.new_parser = H11Parser
    try:
        yield
    finally:
        http1.new_parser = fastest


def bare_httpx(library: str) -> Contestant:
    """Return a bare client of httpx, or of its fork httpx2, as a contestant."""

    @asynccontextmanager
    async def contestant(url: str, size: int) -> AsyncGenerator[Call]:
        httpx = importlib.import_module(library)
        content = body(size)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx.AsyncClient(timeout=_TIMEOUT, limits=limits) as client:

            async def call() -> None:
                (await client.post(f"{url}/v1/query", content=content, headers=HEADERS)).json()

            yield call

    return contestant


@asynccontextmanager
async def bare_pyreqwest(url: str, size: int) -> AsyncGenerator[Call]:
    from pyreqwest.client import ClientBuilder

    content = body(size)
    async with ClientBuilder().timeout(timedelta(seconds=_TIMEOUT)).build() as client:

        async def call() -> None:
            request = client.post(f"{url}/v1/query").headers(HEADERS).body_bytes(content)
            await (await request.build().send()).json()

        yield call


@asynccontextmanager
async def bare_aiohttp(url: str, size: int) -> AsyncGenerator[Call]:
    import aiohttp

    content = body(size)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

        async def call() -> None:
            async with session.post(f"{url}/v1/query", data=content, headers=HEADERS) as response:
                await response.json()

        yield call


@asynccontextmanager
async def openai_chat(url: str, size: int) -> AsyncGenerator[Call]:
    import httpx2
    import openai

    encoded = image(size).image_url
    content: Any = [
        {"type": "text", "text": "what?"},
        {"type": "image_url", "image_url": {"url": encoded}},
    ]
    http = openai.DefaultAsyncHttpxClient(limits=httpx2.Limits(max_connections=2000, max_keepalive_connections=2000))
    async with openai.AsyncOpenAI(api_key=KEY, base_url=f"{url}/v1", max_retries=0, http_client=http) as client:
        yield lambda: client.chat.completions.create(model="m", messages=[{"role": "user", "content": content}])


@asynccontextmanager
async def raw_protocol(url: str, size: int) -> AsyncGenerator[Call]:
    """Write and read bytes, without a library: the lower bound."""
    host, _, path = url.removeprefix("http://").partition("/")
    content = body(size)
    prefix = f"/{path}" if path else ""
    head = f"POST {prefix}/v1/query HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(content)}\r\n\r\n"
    request, idle = head.encode() + content, list[_RawConnection]()
    connections: list[_RawConnection] = []

    async def call() -> None:
        if idle:
            connection = idle.pop()
        else:
            name, _, port = host.partition(":")
            _, connection = await asyncio.get_running_loop().create_connection(_RawConnection, name, int(port))
            connections.append(connection)
        json.loads(await connection.send(request))
        idle.append(connection)

    yield call
    for connection in connections:
        connection.transport.abort()


class _RawConnection(asyncio.Protocol):
    transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send(self, request: bytes) -> asyncio.Future[bytes]:
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.received = b""
        self.transport.write(request)
        return self.answer

    def data_received(self, data: bytes) -> None:
        self.received += data
        head, separator, rest = self.received.partition(b"\r\n\r\n")
        if separator and len(rest) >= int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0]):
            self.answer.set_result(rest)


@contextmanager
def ours_sync(url: str, size: int) -> Generator[Callable[[], object]]:
    encoded = image(size)
    with Client(KEY, base_url=url, max_connections=2000) as client:
        yield lambda: client.query(encoded, "what?")


@contextmanager
def official(url: str, size: int) -> Generator[Callable[[], object]]:
    import moondream
    from moondream.types import Base64EncodedImage

    encoded = Base64EncodedImage(image_url=image(size).image_url)
    client = moondream.vl(api_key=KEY, endpoint=f"{url}/v1")
    yield lambda: client.query(encoded, "what?")


ASYNC: dict[str, Contestant] = {
    OURS: ours(h11_parser),
    OURS_FAST: ours(),
    REFERENCE: bare_aiohttp,
    "httpx2": bare_httpx("httpx2"),
    "pyreqwest": bare_pyreqwest,
    "openai": openai_chat,
    "raw protocol": raw_protocol,
    "httpx": bare_httpx("httpx"),
}
THREADS = {"moondream-async, sync": ours_sync, "official, threads": official}
_NEEDS = {
    OURS_FAST: "httptools",
    REFERENCE: "aiohttp",
    "httpx2": "httpx2",
    "pyreqwest": "pyreqwest",
    "openai": "openai",
    "official, threads": "moondream",
}


def is_fast() -> bool:
    """Return whether our default client uses the fast parser, whose budgets are stricter."""
    return OURS_FAST in ASYNC and OURS_FAST not in missing()


def missing() -> dict[str, str]:
    """Return the contestants that are not installed, and the module that each needs."""
    return {
        name: module
        for name, module in _NEEDS.items()
        if name in (*ASYNC, *THREADS) and importlib.util.find_spec(module) is None
    }


def body(size: int) -> bytes:
    """Return the body that ours would send."""
    return json.dumps({"image_url": image(size).image_url, "question": "what?", "stream": False}).encode()
