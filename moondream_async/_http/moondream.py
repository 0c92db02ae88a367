"""Requests of Moondream's API: URLs, headers with the key, and how the server reports errors."""

from __future__ import annotations

import time
from collections.abc import Mapping

import attrs
import httpx

from .._hidden import HiddenStr
from .._wire import errors
from .._wire.redact import Redactor, secrets_in_headers
from .._wire.retry import NOT_PROCESSED, RetryCause
from ..config import Secret, Server
from ..errors import APIError
from . import transport_errors
from .payloads import FileBody
from .request import Body, Destination, ErrorDecoder, Request, Response, parse_url, request_headers
from .retrying import FailedAttempt

HOW_TO_SET_KEY = "set MOONDREAM_API_KEY or pass api_key=..."
INVALID_HINT = "Is the base URL that of a Moondream server?"

_JSON = "application/json"


@attrs.frozen(eq=False)
class MoondreamErrors(ErrorDecoder):
    """How Moondream Cloud, Station and compatible servers report errors.

    Args:
        key: The key that is sent, for the hints of 401 and 403.
        retry_statuses: Statuses after which a non-idempotent request may be retried; None for an idempotent one.
        allow_error_field: Treat an `error` field in a 2xx response as data, not as a failure.
        allow_empty: Accept an empty 2xx response.
    """

    key: Secret | None
    retry_statuses: tuple[int, ...] | None = None
    allow_error_field: bool = False
    allow_empty: bool = False

    def find_failure(self, response: Response) -> FailedAttempt | None:
        """Return the failure that a response reports, or None if the request succeeded."""
        status, now = response.status, time.time()
        if not 200 <= status < 300:
            headers, redactor = response.headers, response.redactor
            return self.to_failure(errors.from_response(status, headers, response.body, now=now, redactor=redactor))
        if self.allow_empty and not response.body:
            response.body = b"null"
        try:
            data = response.json()
        except APIError as exc:
            return FailedAttempt(exc, None)
        if not isinstance(data, dict) or "error" not in data or self.allow_error_field:
            return None
        error = errors.from_success(status, response.redactor.headers(response.headers), data, now=now)
        return None if error is None else self.to_failure(error)

    def to_failure(self, error: APIError) -> FailedAttempt:
        """Return the failed attempt for an error that the server reports."""
        errors.explain_refused_key(error, self.key, how_to_set=HOW_TO_SET_KEY)
        status = errors.effective_status(error)
        if self.retry_statuses is None or status in self.retry_statuses:
            return FailedAttempt(error, RetryCause("status", status, error.retry_after))
        # Below 500 the server did not process the request, and a retry would not help.
        return FailedAttempt(error if status < 500 else transport_errors.ambiguous(error), None)


class MoondreamRequests:
    """Builds the requests of one client.

    Args:
        server: Base URL and key.
        headers: Extra headers, with lowercase names.
    """

    def __init__(self, server: Server, headers: Mapping[str, str]) -> None:
        self._base_urls = server.base_urls
        self._key = server.key
        self._parsed = [parse_url(url) for url in server.base_urls]
        self._extra = headers
        self._destinations: dict[tuple[str, int], tuple[Destination, ...]] = {}
        self._errors = MoondreamErrors(server.key)
        # Built once per client: merging headers for each call costs more than sending them.
        self._skill_headers = self._headers(accept=_JSON)
        self._stream_headers = self._headers(accept="text/event-stream")
        self._upload_headers = self._headers(accept=_JSON, content_type="application/octet-stream")
        self._bearer_headers = self._headers(accept=_JSON, bearer=True)
        self._bearer_stream_headers = self._headers(accept="text/event-stream", bearer=True)

    def skill(self, path: str, body: Body, *, stream: bool = False, bearer: bool = False) -> Request:
        """Build a POST request.

        Args:
            path: Path below the base URL.
            body: Request body.
            stream: Ask for an event stream.
            bearer: Send the key as a bearer token, as OpenAI clients do.
        """
        # Keep the headers out of local variables: they contain the key, and a traceback may show locals.
        if bearer:
            return self._post(path, self._bearer_stream_headers if stream else self._bearer_headers, body)
        return self._post(path, self._stream_headers if stream else self._skill_headers, body)

    def get(self, path: str) -> Request:
        """Build a GET request, with the key as a bearer token."""
        first = self._bearer_headers[0]
        return Request(path, "GET", httpx.URL(f"{self._base_urls[0]}/{path}"), first, self._errors, b"")

    def call(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str | int] | None = None,
        body: Body = b"",
        non_idempotent: bool = False,
        retry_statuses: tuple[int, ...] = NOT_PROCESSED,
        allow_error_field: bool = False,
    ) -> Request:
        """Build any other request.

        Args:
            method: HTTP method.
            path: Path below the base URL; its first segment is the operation name in hooks and logs.
            query: Query parameters.
            body: JSON, or a part of a file to upload unchanged.
            non_idempotent: Do not retry once the server may have accepted the request.
            retry_statuses: Statuses after which a non-idempotent request may still be retried.
            allow_error_field: Treat an `error` field in a 2xx response as data, not as a failure.
        """
        return Request(
            path.partition("/")[0],
            method,
            httpx.URL(f"{self._base_urls[0]}/{path}", params=query),
            (self._upload_headers if isinstance(body, FileBody) else self._skill_headers)[0],
            MoondreamErrors(
                self._key,
                retry_statuses if non_idempotent else None,
                allow_error_field=allow_error_field,
                allow_empty=method == "DELETE",
            ),
            body,
            non_idempotent=non_idempotent,
        )

    def redactor(self) -> Redactor:
        """Return the redactor that keeps the key, and credentials in the user's own headers, out of errors."""
        return Redactor([*([] if self._key is None else self._key.parts()), *secrets_in_headers(self._extra)])

    def _post(self, path: str, headers: list[httpx.Headers], body: Body) -> Request:
        destinations = self._destinations.get((path, id(headers)))
        if destinations is None:
            urls = (httpx.URL(f"{base_url}/{path}") for base_url in self._base_urls)
            destinations = tuple(map(Destination, urls, headers))
            self._destinations[path, id(headers)] = destinations
        first = destinations[0]
        several = destinations if len(destinations) > 1 else ()
        return Request(path, "POST", first.url, first.headers, self._errors, body, destinations=several)

    def _headers(self, *, accept: str, content_type: str = _JSON, bearer: bool = False) -> list[httpx.Headers]:
        """Return the headers for each server."""
        headers = {"Accept": accept, "Content-Type": content_type}
        if self._key is not None and bearer:
            headers["authorization"] = HiddenStr(f"Bearer {self._key.reveal()}")
        elif self._key is not None:
            headers["x-moondream-auth"] = HiddenStr(self._key.reveal())
        return [request_headers(url, {**headers, **self._extra}) for url in self._parsed]
