"""ASGI applications on real sockets."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import uvicorn

from tests.support.loopback import until


def _server(app: Any) -> uvicorn.Server:
    return uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, timeout_graceful_shutdown=1))


def _url(server: uvicorn.Server) -> str:
    return f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"


@asynccontextmanager
async def running(app: Any) -> AsyncGenerator[str]:
    """Run an application in the test's event loop, and yield its URL."""
    server = _server(app)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started)
    try:
        yield _url(server)
    finally:
        server.should_exit = True
        await task


@contextmanager
def running_in_thread(app: Any) -> Generator[str]:
    """Run an application in a thread, and yield its URL."""
    server = _server(app)
    thread = threading.Thread(target=server.run)
    thread.start()
    pause = threading.Event()
    for _ in range(1000):
        if server.started:
            break
        pause.wait(0.01)
    try:
        yield _url(server)
    finally:
        server.should_exit = True
        thread.join()
