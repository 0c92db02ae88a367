"""Admit only requests of this machine to an ASGI application, under the rules of the proxy."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from .access import Access
from .refusals import Refusal

_REFUSED = "Only programs of this machine may call this server; no page of another site, and no reverse proxy."


class LocalOnly:
    """Refuses requests that are not known to come from this machine, before the application gets them."""

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._access = app, Access(authorize=None, origins=())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        app: ASGIApp = self._app
        if scope["type"] == "http":
            try:
                await self._access.check(Request(scope))
            except Refusal as exc:
                app = JSONResponse({"error": _REFUSED if exc.status == 403 else exc.message}, exc.status)
        await app(scope, receive, send)
