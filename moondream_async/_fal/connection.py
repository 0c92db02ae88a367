"""Send requests to fal.ai's own hosts, with the key, and decode fal's errors."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import attrs

from .._http.client import HttpClient
from .._http.request import Body, ErrorDecoder, Request, Response, parse_url, request_headers
from .._http.retrying import FailedAttempt
from .._wire import errors
from ..config import FAL_KEYS_URL, Secret
from ..errors import ConfigurationError
from . import wire
from .wire import Hosts


@attrs.frozen(eq=False)
class FalErrors(ErrorDecoder):
    """Decodes fal.ai's error responses.

    Args:
        key: The key that was sent, for the hints in 401 and 403 errors.
        is_final: Whether the response is the endpoint's own, which a retry would not change.
        non_idempotent: Whether sending the request twice could be billed twice.
        explains_key: Whether the request has the key, so that errors may explain why it was refused.
    """

    key: Secret | None = None
    is_final: bool = False
    non_idempotent: bool = False
    explains_key: bool = True

    def find_failure(self, response: Response) -> FailedAttempt | None:
        """Return the failure that a response reports, or None if the request succeeded."""
        if 200 <= response.status < 300:
            return None
        headers = response.redactor.headers(response.headers)
        error = wire.parse_error(response.status, headers, response.body, now=time.time(), redactor=response.redactor)
        cause = wire.retry_cause(error, headers, is_final=self.is_final, non_idempotent=self.non_idempotent)
        if self.explains_key and "locked" not in error.message.lower():  # "locked" is about the balance
            errors.explain_refused_key(error, self.key, how_to_set="set FAL_KEY or pass key=...", keys_url=FAL_KEYS_URL)
        return FailedAttempt(error, cause)


@attrs.frozen(eq=False)
class FalConnection:
    """The connection that a client shares with its handles and uploads.

    Attributes:
        http: Sends the requests.
        hosts: fal's hosts.
        auth: The headers of every request to fal's API; their values are hidden.
        key: The key; None if there is none.
    """

    http: HttpClient
    hosts: Hosts
    auth: dict[str, str]
    key: Secret | None = None

    async def send(self, operation: str, method: str, url: str, **options: Any) -> Response:
        """Build a request and send it; the arguments are those of `request`."""
        return await self.http.send(self.request(operation, method, url, **options))

    def request(
        self,
        operation: str,
        method: str,
        url: str,
        *,
        is_final: bool = False,
        non_idempotent: bool = False,
        body: Body = b"",
        headers: Mapping[str, str] | None = None,
        accept: str = "application/json",
    ) -> Request:
        """Build a request with the key to one of fal's own hosts.

        Args:
            operation: Name of the call in hooks and logs.
            method: HTTP method.
            url: URL on one of fal's hosts.
            is_final: Whether the response is the endpoint's own, which a retry would not change.
            non_idempotent: Whether sending the request twice could be billed twice.
            body: Request body; JSON, if there is one.
            headers: Extra headers.
            accept: The `Accept` header.

        Raises:
            ConfigurationError: The URL is not on one of fal's hosts.
        """
        parsed = parse_url(url)
        if not self.hosts.may_have_key(url):
            raise ConfigurationError(f"Refusing to send the API key to {parsed.host}: it is not a fal.ai host.")
        content = {"Content-Type": "application/json"} if body else {}
        merged = request_headers(parsed, {"Accept": accept, **content, **self.auth, **(headers or {})})
        fal_errors = FalErrors(self.key, is_final=is_final, non_idempotent=non_idempotent)
        return Request(operation, method, parsed, merged, fal_errors, body, non_idempotent=non_idempotent)
