"""Serve one request: admit it, send it on, and pass the response back as it arrives."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import time
import traceback
from typing import Any

import anyio
import attrs
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.types import Message, Receive, Scope, Send

from .._http.forwarding import Forwarded, forward
from ..errors import MoondreamError
from ..web import SSE_HEADERS, error_body, http_status
from .access import Access
from .bodies import read_body
from .refusals import Refusal
from .upstreams import Call, Upstream
from .visitors import Visitors

log = logging.getLogger("moondream_async.proxy")

SAFE_HEADERS = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}
"""Headers of every response."""


_CLIENT_CLOSED = 499
_UNAVAILABLE = 503


def new_id() -> str:
    """Return an ID for a request."""
    return secrets.token_hex(8)


@attrs.frozen
class Gate:
    """What admits requests to all routes of a proxy."""

    access: Access
    visitors: Visitors
    max_body: int


class Endpoint:
    """A route of the proxy, as an ASGI application.

    Args:
        gate: Admits requests.
        upstream: The service behind the route.
    """

    def __init__(self, gate: Gate, upstream: Upstream) -> None:
        self._gate = gate
        self._upstream = upstream

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        exchange = Exchange(Request(scope, receive), send)
        try:
            await self._serve(exchange)
        except Refusal as exc:
            exchange.reason = exc.message
            body = self._upstream.refusal(exc.message, exc.status)
            await exchange.answer(JSONResponse(body, exc.status, {**SAFE_HEADERS, **exc.headers}))
        except MoondreamError as exc:
            exchange.reason = str(exc)
            if exchange.has_begun:
                await exchange.break_off(exc)
                raise  # the connection is cut, so that the browser knows that the response is not complete
            await exchange.answer(JSONResponse(self._upstream.failure(exc), http_status(exc), SAFE_HEADERS))
        except ClientDisconnect:
            exchange.is_abandoned = True
        except asyncio.CancelledError:
            exchange.reason = "the server is stopping"
            await exchange.answer_when_cancelled(self._upstream.refusal("The server is stopping.", _UNAVAILABLE))
            raise
        except Exception as exc:
            exchange.reason = _origin_of(exc)
            if exchange.has_begun or isinstance(exc, HTTPException):
                raise
            await exchange.answer(JSONResponse(self._upstream.refusal("Internal error.", 500), 500, SAFE_HEADERS))
        finally:
            exchange.log()
        if exchange.is_abandoned and not exchange.has_begun:
            await exchange.answer(Response(status_code=_CLIENT_CLOSED))  # middleware may wait for one

    async def _serve(self, exchange: Exchange) -> None:
        request, gate = exchange.request, self._gate
        exchange.visitor = await gate.access.check(request)
        call = self._upstream.find(request)
        exchange.operation = call.operation
        with gate.visitors.admit(exchange.visitor):
            if call.costs:
                gate.visitors.spend(exchange.visitor)
            if not call.has_body and _announces_body(request):
                raise Refusal(400, "This request may have no body.")
            body = await read_body(request, gate.max_body) if call.has_body else b""
            await exchange.forward(self._upstream, call, body)


@attrs.define(eq=False)
class Exchange:
    """One request and its response.

    Attributes:
        request: The request.
        visitor: Who sent it, once it is admitted.
        operation: What it asks for, once that is known.
        has_begun: Whether the response has begun.
        is_abandoned: Whether the client has gone before its end.
        reason: Why it was refused, or failed.
        id: Its ID, in the log and in the response.
    """

    request: Request
    _send: Send
    visitor: str = "-"
    operation: str = "-"
    has_begun: bool = False
    is_abandoned: bool = False
    reason: str = ""
    _is_complete: bool = False
    _is_stream: bool = False
    id: str = attrs.field(factory=new_id)
    _started: float = attrs.field(factory=time.monotonic)
    _status: int = 0
    _upstream_id: str = "-"

    async def forward(self, upstream: Upstream, call: Call, body: bytes) -> None:
        """Send the request on and pass the response back; stop as soon as the client has gone.

        Raises:
            MoondreamError: There was no response, or it broke off.
            Refusal: The body is not allowed.
            ClientDisconnect: The client has gone.
        """
        upstream_request = upstream.build(self.request, call, body)
        error: Exception | None = None
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch, tasks.cancel_scope)
            try:
                async with forward(upstream.http, upstream_request) as response:
                    await self._pass_back(response)
            except (MoondreamError, ClientDisconnect) as exc:
                error = exc
            tasks.cancel_scope.cancel()
        if error is not None:
            raise error

    async def break_off(self, exc: MoondreamError) -> None:
        """Tell the browser why an event stream breaks off."""
        if self._is_stream:
            body = {**error_body(exc), "status": http_status(exc)}
            event = b"event: error\ndata: " + json.dumps(body).encode("ascii") + b"\n\n"
            await self._send_message({"type": "http.response.body", "body": event, "more_body": True})

    async def answer(self, response: Response) -> None:
        """Answer the request without the service."""
        response.headers["x-request-id"] = self.id
        self.has_begun, self._status = True, response.status_code
        await response(self.request.scope, self.request.receive, self._send)

    async def answer_when_cancelled(self, body: Any) -> None:
        """Answer although the server cancels this task to stop, unless a response has begun."""
        if not self.has_begun:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await self.answer(JSONResponse(body, _UNAVAILABLE, SAFE_HEADERS))

    def log(self) -> None:
        """Log the exchange, with the IDs of the request here and at the service."""
        took = (time.monotonic() - self._started) * 1000
        outcome = "client gone" if self.is_abandoned else self._status
        args = (self.request.method, self.operation, outcome, took, self.id, self._upstream_id, self.visitor)
        message = "%s %s: %s in %.0f ms, request %s, upstream request %r, visitor %r"
        log.info(f"{message}: %s" if self.reason else message, *args, *([self.reason] if self.reason else []))

    async def _watch(self, scope: anyio.CancelScope) -> None:
        while (await self.request.receive())["type"] != "http.disconnect":
            pass
        if not self._is_complete:
            self.is_abandoned = True
            scope.cancel()

    async def _pass_back(self, response: Forwarded) -> None:
        headers = {**SAFE_HEADERS, **response.headers, "x-request-id": self.id}
        if (upstream_id := response.headers.get("x-request-id")) is not None:
            headers["x-upstream-request-id"] = upstream_id
        self._is_stream = headers["content-type"] == "text/event-stream"
        if self._is_stream:
            headers |= {name.lower(): value for name, value in SSE_HEADERS.items()}
        async for part in response.parts():
            self._upstream_id = response.request_id or "-"
            if not self.has_begun:
                await self._begin(response.status, headers)
            await self._send_message({"type": "http.response.body", "body": part, "more_body": True})
        if not self.has_begun:
            await self._begin(response.status, headers)
        self._is_complete = True
        await self._send_message({"type": "http.response.body", "body": b"", "more_body": False})

    async def _begin(self, status: int, headers: dict[str, Any]) -> None:
        self.has_begun, self._status = True, status
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1", "replace")) for name, value in headers.items()]
        await self._send_message({"type": "http.response.start", "status": status, "headers": raw})

    async def _send_message(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:  # some servers say so that the client has gone
            raise ClientDisconnect from None


def _origin_of(exc: Exception) -> str:
    """Return where an error comes from, such as the user's `authorize`; its text may hold what no log should."""
    frame = traceback.extract_tb(exc.__traceback__)[-1]
    return f"{type(exc).__name__} in {frame.filename}, line {frame.lineno}"


def _announces_body(request: Request) -> bool:
    return "transfer-encoding" in request.headers or request.headers.get("content-length", "0").strip("0") != ""
