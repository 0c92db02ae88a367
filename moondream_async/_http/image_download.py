"""Download an image that a user names by its URL: without the key, within limits, from public addresses."""

from __future__ import annotations

import attrs
import httpx

from .._hidden import without_query
from ..errors import ConfigurationError, ImageError, MoondreamError
from .client import HttpClient
from .proxies import is_proxied
from .public_network import NotPublicError
from .request import REDIRECT_STATUSES, ErrorDecoder, Request, Response, Send, request_headers, status_failure
from .retrying import FailedAttempt

HOW_TO_ALLOW_PRIVATE = "download it yourself, or allow any address with ImageOptions(allow_private_urls=True)"
MAX_DOWNLOAD = 64 * 1024 * 1024
"""Maximum size of an image that is downloaded, in bytes."""

MAX_SECONDS = 60.0
"""Time limit of one attempt, redirects included, in seconds; `Timeouts.total` if that is less."""

_MAX_REDIRECTS = 5
_ERROR_HEADERS = ("location", "retry-after", "retry-after-ms")
_MAX_SHOWN = 200  # characters of a URL in an error


async def download_image(http: HttpClient, url: str, *, allow_private: bool) -> bytes:
    """Return the bytes behind an http(s) URL.

    Args:
        http: The client, for its session, timeouts and retry policy.
        url: Where the image is.
        allow_private: Whether the URL may lead to an address that is not public.

    Raises:
        ImageError: It cannot be downloaded, is too large, or leads to an address that is not allowed.
    """
    if http.session.closed:
        raise ConfigurationError("This client is closed; make a new one.")
    target = ImageTarget(allow_private)
    parsed = target.check(url)
    headers = request_headers(parsed, {"Accept": "image/*"})
    request = Request("image", "GET", parsed, headers, ImageErrors(), target=target)
    limited = http.with_limits(http.session.downloads, total=MAX_SECONDS, max_response=MAX_DOWNLOAD)
    try:
        return (await limited.send(request)).body
    except ImageError:
        raise
    except MoondreamError as exc:
        if http.session.closed:
            raise
        error = _download_error(exc.message.removesuffix("."))
        error.attempts = exc.attempts
    raise error


class ImageErrors(ErrorDecoder):
    """How a web server reports that there is no image."""

    def find_failure(self, response: Response) -> FailedAttempt | None:
        """Return the failure that a response reports, or None if it is an image."""
        shown, status = _shown(response.url), response.status
        if status == 200:
            return None
        if status in REDIRECT_STATUSES and "location" in response.headers:
            return FailedAttempt(_download_error(f"{shown} is more than {_MAX_REDIRECTS} redirects away"), None)
        failed = status_failure(status, response.headers, response.url)
        return FailedAttempt(_download_error(f"{shown} answered with status {status}"), failed.cause)


@attrs.frozen
class ImageTarget:
    """The rules for the URL of an image.

    Attributes:
        allow_private: Whether it may lead to addresses that are not public.
        max_redirects: How many redirects are followed.
    """

    allow_private: bool
    max_redirects: int = _MAX_REDIRECTS

    def check(self, url: str, *, from_url: httpx.URL | None = None) -> httpx.URL:
        """Return the parsed URL.

        Raises:
            ImageError: It must not be called.
        """
        del from_url
        try:
            parsed = httpx.URL(url.strip())
            host = parsed.host  # decodes the name, which may fail
        except (httpx.InvalidURL, ValueError) as exc:
            problem = str(exc)
        else:
            if parsed.scheme not in ("http", "https") or not host:
                raise _download_error("it leads to something other than an http(s) URL")
            if parsed.port is not None and parsed.port > 65_535:
                raise _download_error("its URL has an invalid port")
            if parsed.userinfo:
                raise _download_error("its URL has a user name or password; download it yourself and pass the bytes")
            return parsed
        raise _download_error(f"its URL is not valid: {problem}")

    async def send(self, url: httpx.URL, send: Send) -> httpx.Response:
        """Send a request.

        Raises:
            ImageError: The address is not public, or the response is compressed.
        """
        if not self.allow_private and is_proxied(str(url)):
            raise _download_error(
                f"a proxy is set for {_shown(url)}, so that its address cannot be checked; {HOW_TO_ALLOW_PRIVATE}"
            )
        try:
            response = await send(public=not self.allow_private)
        except NotPublicError as exc:
            host = str(exc)
        else:
            if response.status_code != 200:  # its body is not needed
                await response.aclose()
                return httpx.Response(response.status_code, headers=_kept_headers(response), request=response.request)
            encoding = response.headers.get("content-encoding", "identity")
            if encoding.lower() == "identity":
                return response
            # Not requested; and decompression can turn 265 bytes into gigabytes.
            await response.aclose()
            raise _download_error(f"{_shown(url)} is compressed for transport ({encoding[:40]})")
        raise _download_error(
            f"{host} has no public address, and images are not downloaded from private ones; {HOW_TO_ALLOW_PRIVATE}"
        )


def _download_error(problem: str) -> ImageError:
    return ImageError(f"The image cannot be downloaded: {problem}.")


def _kept_headers(response: httpx.Response) -> list[tuple[str, str]]:
    return [(name, value) for name, value in response.headers.items() if name in _ERROR_HEADERS]


def _shown(url: httpx.URL) -> str:
    """Return the URL without its query, which may hold a signature, cut to a length for errors."""
    shown = without_query(url)
    return shown if len(shown) <= _MAX_SHOWN else shown[: _MAX_SHOWN - 1] + "…"
