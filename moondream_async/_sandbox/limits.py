"""Size and time limits for request bodies, with and without `Content-Length`."""

from __future__ import annotations

import anyio
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_MB = 1024 * 1024
_MAX_BODY = 24 * _MB
_MAX_UPLOAD = 100_000_000  # of a file or part, which is streamed to disk
_UPLOAD_PATHS = ("/fal/cdn/", "/fal/presigned/", "/v1/batch")
_CLOSE = {"Connection": "close"}  # because the rest of the body is not read
_DISCARD_FACTOR = 4  # of a body that is too large, this multiple of the limit is read before the connection closes
_READ_TIMEOUT = 60.0  # seconds


class BodyLimit:
    """Middleware that rejects bodies that are too large (413) or stall (408) while they are read."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        if scope["type"] == "http":
            receive = _LimitedBody(receive, _limit_for(scope["path"]), _content_length(scope)).receive
        await self._app(scope, receive, send)


class _LimitedBody:
    def __init__(self, receive: Receive, limit: int, content_length: int) -> None:
        self._receive = receive
        self._limit = limit
        self._content_length = content_length
        self._size = 0
        self._ended = False

    async def receive(self) -> Message:
        """Receive the next message; after the end of the body, without a limit."""
        if self._ended:
            return await self._receive()
        if self._content_length > _DISCARD_FACTOR * self._limit:
            raise self._too_large()
        message = await self._receive_piece()
        if self._size <= self._limit:
            return message
        # Keep reading for a while: a client that is still sending may not see the response.
        while not self._ended and self._size < _DISCARD_FACTOR * self._limit:
            await self._receive_piece()
        raise self._too_large()

    async def _receive_piece(self) -> Message:
        with anyio.move_on_after(_READ_TIMEOUT):
            message = await self._receive()
            self._ended = not message.get("more_body", False)
            self._size += len(message.get("body", b""))
            return message
        raise HTTPException(408, f"Nothing of the request came for {_READ_TIMEOUT:g} s", _CLOSE)

    def _too_large(self) -> HTTPException:
        return HTTPException(413, f"The request has more than {self._limit:,} bytes", None if self._ended else _CLOSE)


def _limit_for(path: str) -> int:
    return _MAX_UPLOAD if path.startswith(_UPLOAD_PATHS) else _MAX_BODY


def _content_length(scope: Scope) -> int:
    value = dict(scope["headers"]).get(b"content-length", b"0")
    return int(value) if value.isdigit() and len(value) < 20 else 0
