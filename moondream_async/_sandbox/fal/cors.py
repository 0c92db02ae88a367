"""Let pages upload files and read them back, as fal.ai's file store does; no other route allows it."""

from __future__ import annotations

from starlette.middleware.cors import CORSMiddleware
from starlette.types import ASGIApp, Receive, Scope, Send

_PATHS = ("/fal/presigned/", "/fal/cdn/")


class StorageCors:
    """Middleware that answers preflight requests for the file store, and adds CORS headers to its responses."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._cors = CORSMiddleware(app, allow_origins=["*"], allow_methods=["*"], allow_headers=["*"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request."""
        app = self._cors if scope["type"] == "http" and scope["path"].startswith(_PATHS) else self._app
        await app(scope, receive, send)
