"""Web backends that stream a model's answers to browsers, each in a process of its own, for the benchmark `web`.

`python -m benchmarks.backends NAME URL` serves the backend of that name on loopback; the model's server is at the URL.
It prints its port, and ends when its standard input is closed.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncGenerator, Callable

import httpx
import uvicorn
from httpx_sse import aconnect_sse
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from moondream_async import AsyncClient
from moondream_async.proxy import Proxy
from moondream_async.web import SSE_HEADERS, sse

from . import harness
from .contestants import HEADERS
from .harness import KEY

IMAGE = harness.image(2_000)


def with_sse(url: str) -> ASGIApp:
    """Return a backend of this package: a client, and `sse`."""
    client = AsyncClient(KEY, base_url=f"{url}/v1", max_connections=1000)

    async def stream(_: Request) -> Response:
        return StreamingResponse(sse(await client.query(IMAGE, "what?", stream=True)), headers=SSE_HEADERS)

    return Starlette(routes=[Route("/v1/query", stream, methods=["POST"])])


def with_proxy(url: str) -> ASGIApp:
    """Return this package's proxy."""
    client = AsyncClient(KEY, base_url=f"{url}/v1")
    return Proxy(client=client, rate_limit=None, max_concurrent=None)


def by_hand(url: str) -> ASGIApp:
    """Return what a user writes with httpx and httpx-sse: no image preparation, no typed errors, no heartbeat."""
    client = httpx.AsyncClient(timeout=60, limits=httpx.Limits(max_connections=None))
    body = {"image_url": IMAGE.image_url, "question": "what?", "stream": True}

    async def events() -> AsyncGenerator[str]:
        async with aconnect_sse(client, "POST", f"{url}/v1/query", json=body, headers=HEADERS) as source:
            async for event in source.aiter_sse():
                piece = json.loads(event.data)
                yield f"data: {json.dumps(piece)}\n\n"

    async def stream(_: Request) -> Response:
        return StreamingResponse(events(), media_type="text/event-stream")

    return Starlette(routes=[Route("/v1/query", stream, methods=["POST"])])


BACKENDS: dict[str, Callable[[str], ASGIApp]] = {
    "moondream-async, sse": with_sse,
    "moondream-async, proxy": with_proxy,
    "httpx-sse by hand": by_hand,
}


async def main(name: str, url: str) -> None:
    """Serve until standard input is closed."""
    app = BACKENDS[name](url)
    config = uvicorn.Config(app, port=0, log_level="critical", access_log=False, backlog=4096)
    server = uvicorn.Server(config)
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    server.should_exit = True
    await serving


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
