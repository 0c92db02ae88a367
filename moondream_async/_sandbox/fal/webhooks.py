"""Webhooks, signed as fal.ai signs them, with the sandbox's own key."""

from __future__ import annotations

import base64
import hashlib
import logging
import time
from typing import Any
from urllib.parse import urlsplit

from ..._http.client import HttpClient
from ..._http.request import ErrorDecoder, Request, Response, parse_url, request_headers
from ..._http.retrying import FailedAttempt
from ..._http.session import Session
from ..._wire.redact import Redactor
from ..._wire.retry import RetryCause
from ...config import RetryPolicy, Timeouts
from ...errors import APIError, MoondreamError
from .jobs import Job
from .models import as_json

logger = logging.getLogger("moondream_async.sandbox")

_USER = "sandbox-user"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Webhooks:
    """Posts results to webhooks; to loopback addresses only."""

    def __init__(self) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        self._key = Ed25519PrivateKey.generate()

    def jwks(self) -> dict[str, Any]:
        """Return the public key, as fal publishes its own."""
        raw = self._key.public_key().public_bytes_raw()
        x = base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")
        return {"keys": [{"kty": "OKP", "crv": "Ed25519", "x": x, "kid": "sandbox"}]}

    def signed_headers(self, request_id: str, body: bytes, *, now: int) -> dict[str, str]:
        """Return the headers of a webhook, with its signature."""
        message = "\n".join([request_id, _USER, str(now), hashlib.sha256(body).hexdigest()]).encode()
        return {
            "Content-Type": "application/json",
            "X-Fal-Webhook-Request-Id": request_id,
            "X-Fal-Webhook-User-Id": _USER,
            "X-Fal-Webhook-Timestamp": str(now),
            "X-Fal-Webhook-Signature": self._key.sign(message).hex(),
        }

    async def post(self, job: Job) -> None:
        """Post the result of a request, with up to 4 attempts."""
        url = job.webhook or ""
        if urlsplit(url).hostname not in _LOOPBACK:
            logger.warning("the sandbox posts webhooks to loopback addresses only")
            return
        body = as_json(_message(job))
        session = Session(max_connections=1)
        try:
            parsed = parse_url(url)
            headers = request_headers(parsed, self.signed_headers(job.id, body, now=int(time.time())))
            http = HttpClient(session, Timeouts.of(5), RetryPolicy(attempts=4, backoff=0.1), redactor=Redactor())
            await http.send(Request("webhook", "POST", parsed, headers, _ReceiverErrors(), body))
        except MoondreamError as exc:
            logger.warning("the webhook of %s could not be delivered: %s", job.id, exc)
        finally:
            await session.aclose()


def _message(job: Job) -> dict[str, Any]:
    assert job.reply is not None
    message = {"request_id": job.id, "gateway_request_id": job.id, "payload": job.reply.body}
    if job.reply.status == 200:
        return {**message, "status": "OK"}
    return {**message, "status": "ERROR", "error": f"Invalid status code: {job.reply.status}"}


class _ReceiverErrors(ErrorDecoder):
    """Retry everything but a redirect, which fal treats as a final failure."""

    def find_failure(self, response: Response) -> FailedAttempt | None:
        """Return the failure that a response reports, or None if the webhook was accepted."""
        status = response.status
        if 200 <= status < 300:
            return None
        cause = None if 300 <= status < 400 else RetryCause("status", 503)
        return FailedAttempt(APIError(f"it answered {status}", status=status), cause)
