"""Sandboxes whose servers are kept: a new application for each test, without a new server."""

from __future__ import annotations

from typing import Any, Self

from moondream_async.sandbox import Sandbox


class _Mount:
    """An ASGI application that passes everything on to another."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.requests = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.requests += 1
        await self.app(scope, receive, send)


_idle: list[tuple[Sandbox, _Mount]] = []  # servers that run, and serve no test at present; they end with the process


class PooledSandbox(Sandbox):
    """A `Sandbox` on a server of the pool: state and faults are its own, the start and the stop are instant.

    Requests that are still being answered at its `stop` are not interrupted; test that with a `Sandbox`.
    """

    _lease: tuple[Sandbox, _Mount] | None = None

    def start(self) -> Self:
        self._lease = _idle.pop() if _idle else _server()
        server, mount = self._lease
        mount.app, mount.requests = self._app, 0
        self._port = server.port
        return self

    @property
    def requests(self) -> int:
        """How many have come."""
        return self._lease[1].requests if self._lease else 0

    def stop(self) -> None:
        if self._lease is not None:
            self._lease[1].app = _gone
            _idle.append(self._lease)
            self._lease = None


def _server() -> tuple[Sandbox, _Mount]:
    server = Sandbox()
    mount = _Mount(server._app)
    server._app = mount  # type: ignore[assignment]
    return server.start(), mount


async def _gone(scope: Any, receive: Any, send: Any) -> None:
    """Answer as a server that is shutting down."""
    await send({"type": "http.response.start", "status": 503, "headers": [(b"connection", b"close")]})
    await send({"type": "http.response.body", "body": b""})
