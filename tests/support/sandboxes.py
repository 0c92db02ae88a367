"""Sandboxes with reused servers: each test has a new application, but not a new server."""

from __future__ import annotations

from typing import Any, Self

from moondream_async.sandbox import Sandbox


class _Mount:
    """An ASGI application that passes requests to another."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.requests = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.requests += 1
        await self.app(scope, receive, send)


_idle: list[tuple[Sandbox, _Mount]] = []  # running servers without a test; they end with the process


class PooledSandbox(Sandbox):
    """A `Sandbox` with its own state and faults on a server of the pool, which starts and stops instantly.

    `stop` does not interrupt requests in flight; use a `Sandbox` to test that.
    """

    _lease: tuple[Sandbox, _Mount] | None = None

    def start(self) -> Self:
        self._lease = _idle.pop() if _idle else _start_server()
        server, mount = self._lease
        mount.app, mount.requests = self._app, 0
        self._port = server.port
        return self

    @property
    def requests(self) -> int:
        """The number of requests received."""
        return self._lease[1].requests if self._lease else 0

    def stop(self) -> None:
        if self._lease is not None:
            self._lease[1].app = _refuse
            _idle.append(self._lease)
            self._lease = None


def _start_server() -> tuple[Sandbox, _Mount]:
    server = Sandbox()
    mount = _Mount(server._app)
    server._app = mount  # type: ignore[assignment]
    return server.start(), mount


async def _refuse(scope: Any, receive: Any, send: Any) -> None:
    """Respond like a server that is shutting down."""
    await send({"type": "http.response.start", "status": 503, "headers": [(b"connection", b"close")]})
    await send({"type": "http.response.body", "body": b""})
