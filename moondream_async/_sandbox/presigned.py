"""Presigned addresses, as an object store has them: they open a path for some time, and take no key besides."""

from __future__ import annotations

import hmac
import secrets
import time

from starlette.requests import Request
from starlette.responses import Response

_ERROR = "<?xml version='1.0'?><Error><Code>{0}</Code></Error>"


class Signer:
    """Makes them, and knows them again."""

    def __init__(self) -> None:
        self._secret = secrets.token_bytes(16)

    def address(self, request: Request, path: str, seconds: float) -> str:
        """The address that opens a path for so long."""
        expires = f"{time.time() + seconds:.3f}"
        query = f"expires={expires}&signature={self._digest(path, expires)}"
        return f"{request.url.scheme}://{request.url.netloc}{path}?{query}"

    def refusal(self, request: Request) -> Response | None:
        """Why a request is refused; None if it is not."""
        if "authorization" in request.headers or "x-moondream-auth" in request.headers:
            return refused("InvalidArgument", 400)
        expires = request.query_params.get("expires", "")
        wanted = self._digest(request.url.path, expires)
        if not hmac.compare_digest(request.query_params.get("signature", "").encode(), wanted.encode()):
            return refused("SignatureDoesNotMatch", 403)
        return refused("AccessDenied", 403) if float(expires) < time.time() else None

    def _digest(self, path: str, expires: str) -> str:
        return hmac.new(self._secret, f"{path} {expires}".encode(), "sha256").hexdigest()


def refused(code: str, status: int) -> Response:
    """An error of the store's."""
    return Response(_ERROR.format(code), status, media_type="application/xml")
