"""A request, its response, and how the errors in responses are read."""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeAlias, TypeVar

import attrs
import httpx

from .._hidden import without_query
from .._version import __version__
from .._wire import errors
from .._wire.redact import Redactor
from .._wire.responses import PARSE_ERRORS, InvalidResponse, decode
from .._wire.retry import RetryCause, parse_retry_after
from ..errors import APIError, ConfigurationError
from ..types import Meta
from .payloads import FileBody, Payload
from .pooled_request import SharedHeaders, raw_headers_of
from .retrying import FailedAttempt

R = TypeVar("R")

USER_AGENT = f"moondream-async/{__version__}"

REDIRECT_STATUSES = (301, 302, 303, 307, 308)

Send: TypeAlias = Callable[..., Awaitable[httpx.Response]]

Body: TypeAlias = bytes | FileBody | Payload
"""A request body; a `Payload` is built once, after the call has acquired its slot."""


class ErrorDecoder(Protocol):
    """How one service reports errors."""

    def find_failure(self, response: Response) -> FailedAttempt | None:
        """Return the failure that a response reports, or None if the request succeeded."""
        ...

    def to_failure(self, error: APIError) -> FailedAttempt:
        """Return the failed attempt for an error that an event stream reports; by default it is not retried."""
        return FailedAttempt(error, None)


class StatusErrors(ErrorDecoder):
    """A web server whose status says everything; the text of its responses may repeat a signed URL."""

    def find_failure(self, response: Response) -> FailedAttempt | None:
        """Return the failure that a response reports, or None if the request succeeded."""
        if 200 <= response.status < 300:
            return None
        return status_failure(response.status, response.headers, response.url)


def status_failure(status: int, headers: Mapping[str, str], url: httpx.URL) -> FailedAttempt:
    """Return the failed attempt for a status that is not 2xx."""
    wait = parse_retry_after(headers, now=time.time())
    error = errors.from_status(status, f"{without_query(url)} answered with status {status}.", retry_after=wait)
    return FailedAttempt(error, RetryCause("status", status, wait))


class Target(Protocol):
    """The rules for a URL that a user or a server named, and for the redirects it leads to."""

    @property
    def max_redirects(self) -> int:
        """How many redirects of a GET request are followed."""
        ...

    def check(self, url: str, *, from_url: httpx.URL | None = None) -> httpx.URL:
        """Return the parsed URL, or raise if it must not be called.

        Args:
            url: The absolute URL.
            from_url: The URL that redirects to it, if any.
        """
        ...

    async def send(self, url: httpx.URL, send: Send) -> httpx.Response:
        """Send a request, to allowed addresses only.

        Args:
            url: The URL that was checked.
            send: Sends the request; takes the options `bare` and `public` of `Session.send`.
        """
        ...


@attrs.frozen(eq=False)
class Destination:
    """Where one of several servers takes a request.

    Attributes:
        url: Absolute URL.
        headers: All headers but `Content-Length`.
    """

    url: httpx.URL = attrs.field(repr=without_query)
    headers: httpx.Headers = attrs.field(repr=False)


@attrs.define(eq=False)  # not frozen, which would cost as much as the rest of building a request
class Request:
    """A request, ready to be sent any number of times; not to be changed.

    Attributes:
        operation: Name of the call in hooks and logs.
        method: HTTP method.
        url: Absolute URL.
        headers: All headers but `Content-Length`; they may contain a key.
        errors: How the service reports errors.
        body: Request body.
        non_idempotent: Whether it must not be repeated once the server may have accepted it.
        target: Rules for the URL and its redirects, if a user or a server named it. Redirects are not followed
            without one.
        destinations: Where each of several servers takes it; it may be sent to any of them.
    """

    operation: str
    method: str
    url: httpx.URL = attrs.field(repr=without_query)
    headers: httpx.Headers = attrs.field(repr=False)
    errors: ErrorDecoder
    body: Body = attrs.field(default=b"", repr=False)
    non_idempotent: bool = False
    target: Target | None = None
    destinations: tuple[Destination, ...] = ()

    @property
    def address(self) -> str:
        """The URL without its query, for error messages."""
        return without_query(self.url)


@attrs.define(eq=False)
class Response:
    """A complete response.

    Attributes:
        status: HTTP status.
        body: Response body.
        url: The URL that it came from, after redirects.
        request: The request that it answers.
        redactor: Keeps credentials out of what is read from it.
        invalid_hint: What to tell the user about a response that cannot be used.
        attempts: Number of requests it took.
        elapsed: Seconds since the call began.
    """

    status: int
    _raw: httpx.Response = attrs.field(repr=False)
    body: bytes = attrs.field(repr=False)
    url: httpx.URL = attrs.field(repr=without_query)
    request: Request
    redactor: Redactor = attrs.field(repr=False)
    invalid_hint: str = ""
    attempts: int = 1
    elapsed: float = 0.0
    _data: Any = attrs.field(default=..., init=False, repr=False)

    @property
    def headers(self) -> Mapping[str, str]:
        """Response headers; their names are compared case-insensitively."""
        return self._raw.headers

    @property
    def safe_headers(self) -> Callable[[], dict[str, str]]:
        """A function that returns the headers without credentials. It does not refer to the body."""
        return functools.partial(self.redactor.safe_headers, raw_headers_of(self._raw))

    def json(self, *, redacted: bool = True) -> Any:
        """Return the decoded JSON body.

        Args:
            redacted: Whether to replace credentials that the server repeats.

        Raises:
            APIError: It is not JSON.
        """
        if redacted and self._data is not ...:
            return self._data
        try:
            data = decode(self.body)
        except InvalidResponse as exc:
            problem = str(exc)
        else:
            if not redacted:
                return data
            self._data = self.redactor.json(data) if self.redactor.may_be_in(self.body) else data
            return self._data
        raise self.invalid(problem, errors.start_of(self.body, self.redactor))

    def parse(self, read: Callable[[Any, Meta], R]) -> R:
        """Build a result from the JSON body.

        Args:
            read: Builds it from the decoded JSON and the call's `Meta`.

        Raises:
            APIError: The body is not JSON, or not what `read` expects.
        """
        data = self.json()
        try:
            return read(data, Meta(self.status, self.attempts, self.elapsed, headers=self.safe_headers))
        except PARSE_ERRORS as exc:
            problem = str(exc)
        raise self.invalid(problem, data)

    def invalid(self, problem: str, shown: Any = None) -> APIError:
        """Return the error for a response that cannot be used.

        Args:
            problem: What is wrong with it.
            shown: The body, as far as the error may show it.
        """
        error = errors.invalid_response(self.status, shown, self.redactor.text(problem), hint=self.invalid_hint)
        error.attempts, error.url = self.attempts, self.request.address
        return error


def request_headers(url: httpx.URL, headers: Mapping[str, str]) -> SharedHeaders:
    """Return the headers of every request to a URL's host, and these."""
    merged = SharedHeaders(
        {"Host": url.netloc.decode("ascii"), "User-Agent": USER_AGENT, "Accept-Encoding": "identity"}
    )
    for name, value in headers.items():
        merged[name] = value  # replaces a default, whatever its case
    return merged


def parse_url(url: str) -> httpx.URL:
    """Parse the URL of a service.

    Raises:
        ConfigurationError: It is not a valid URL.
    """
    try:
        parsed = httpx.URL(url)
        parsed.netloc.decode("ascii")
    except (httpx.InvalidURL, ValueError) as exc:
        problem = str(exc)
    else:
        return parsed
    raise ConfigurationError(f"{without_query(url)} cannot be called: {problem}.")
