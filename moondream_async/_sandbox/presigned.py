"""Presigned URLs, as of an object store: valid for a limited time, and only without an API key."""

from __future__ import annotations

import hmac
import secrets
import time

from starlette.requests import Request
from starlette.responses import Response

_ERROR = "<?xml version='1.0'?><Error><Code>{0}</Code></Error>"


class UrlSigner:
    """Makes and verifies presigned URLs."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(16)

    def sign(self, request: Request, path: str, seconds: float) -> str:
        """Return a URL of the path that is valid for `seconds`."""
        expires = f"{time.time() + seconds:.3f}"
        query = f"expires={expires}&signature={self._digest(path, expires)}"
        return f"{request.url.scheme}://{request.url.netloc}{path}?{query}"

    def check(self, request: Request) -> Response | None:
        """Return the error response for a request whose URL is not valid; None if it is."""
        if "authorization" in request.headers or "x-moondream-auth" in request.headers:
            return store_error("InvalidArgument", 400)
        expires = request.query_params.get("expires", "")
        signature = self._digest(request.url.path, expires)
        if not hmac.compare_digest(request.query_params.get("signature", "").encode(), signature.encode()):
            return store_error("SignatureDoesNotMatch", 403)
        return store_error("AccessDenied", 403) if float(expires) < time.time() else None

    def _digest(self, path: str, expires: str) -> str:
        return hmac.new(self._secret, f"{path} {expires}".encode(), "sha256").hexdigest()


def store_error(code: str, status: int) -> Response:
    """Return an error in the object store's format."""
    return Response(_ERROR.format(code), status, media_type="application/xml")
