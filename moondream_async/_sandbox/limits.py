"""Bounds of a request's body, whether it says how long it is or not."""

from __future__ import annotations

import anyio
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MB = 1024 * 1024
_LARGEST_BODY = 24 * _MB
_LARGEST_PART = 100_000_000  # of a file; it goes to the disk as it comes
_FILES = ("/fal/cdn/", "/fal/presigned/", "/v1/batch")
_CLOSE = {"Connection": "close"}  # the rest of the body is not read
_DISCARDED = 4  # times the limit that is read of a body that is too large, before the connection is closed
_SLOWEST = 60.0  # seconds between two pieces of a body


class BodyLimit:
    """Refuses bodies that are too large (413) or do not go on (408), while they are read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            receive = _Body(receive, _limit_of(scope["path"]), _announced(scope)).receive
        await self._app(scope, receive, send)


class _Body:
    def __init__(self, receive: Receive, limit: int, announced: int) -> None:
        self._receive = receive
        self._limit = limit
        self._announced = announced
        self._size = 0
        self._ended = False

    async def receive(self) -> Message:
        """Receive another piece; after the end of the body, whatever the server has to tell."""
        if self._ended:
            return await self._receive()
        if self._announced > _DISCARDED * self._limit:
            raise self._too_large()
        message = await self._next()
        if self._size <= self._limit:
            return message
        # Read on for a while: a client that is still sending may not see the answer.
        while not self._ended and self._size < _DISCARDED * self._limit:
            await self._next()
        raise self._too_large()

    async def _next(self) -> Message:
        with anyio.move_on_after(_SLOWEST):
            message = await self._receive()
            self._ended = not message.get("more_body", False)
            self._size += len(message.get("body", b""))
            return message
        raise HTTPException(408, f"Nothing of the request came for {_SLOWEST:g} s", _CLOSE)

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"The request has more than {self._limit:,} bytes", None if self._ended else _CLOSE)


def _limit_of(path: str) -> int:
    return _LARGEST_PART if path.startswith(_FILES) else _LARGEST_BODY


def _announced(scope: Scope) -> int:
    value = dict(scope["headers"]).get(b"content-length", b"0")
    return int(value) if value.isdigit() and len(value) < 20 else 0
