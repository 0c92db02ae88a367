"""Presigned URLs, which an API names and the client then calls: https and public addresses only.

A server must not make the client call addresses of the network it runs in. An API that is itself called over http, or
that is itself in a private network, may name URLs of the same kind.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import attrs
import httpx

from .._hidden import without_query
from .._wire.errors import invalid_response
from .public_network import NotPublicError, check_public, is_public
from .request import Send

_LOOKUP_TIMEOUT = 10.0  # seconds


@attrs.define(eq=False)
class PresignedTarget:
    """The rules for the presigned URLs of one API.

    Attributes:
        base_url: The API's base URL.
        allow_http: Whether they may be http.
        allow_private: Whether they may lead to addresses that are not public.
        max_redirects: How many redirects are followed.
    """

    base_url: str
    allow_http: bool
    allow_private: bool
    max_redirects: int = 3

    @classmethod
    def of(cls, base_url: str, *, allow_private: bool = False) -> PresignedTarget:
        """Derive the rules from the API's base URL and the user's settings."""
        parts = urlsplit(base_url)
        is_private = _is_private(parts.hostname or "")
        return cls(base_url, parts.scheme == "http" or is_private, is_private or allow_private)

    def check(self, url: str, *, from_url: httpx.URL | None = None) -> httpx.URL:
        """Return the parsed URL.

        Args:
            url: The absolute URL.
            from_url: The URL that redirects to it, if any.

        Raises:
            APIError: It must not be called.
        """
        parsed = _parse(url)
        if parsed is None:
            raise invalid_response(200, None, "it names a file at an address that is not an http(s) URL")
        leaves_tls = from_url is not None and from_url.scheme == "https"
        if parsed.scheme == "http" and (leaves_tls or not self.allow_http):
            raise invalid_response(200, None, f"it names a file at {without_query(parsed)}, but only https is allowed")
        return SignedURL(parsed)

    async def send(self, url: httpx.URL, send: Send) -> httpx.Response:
        """Send a request without what a user's HTTP client adds, such as cookies.

        Raises:
            APIError: The address is not public.
        """
        try:
            return await send(bare=True, public=not self.allow_private)
        except NotPublicError as exc:
            host = str(exc)
        if not await self._is_api_private():
            raise invalid_response(
                200,
                None,
                f"it names a file at {without_query(url)}, but {host} has no public address",
                hint="ImageOptions(allow_private_urls=True) allows it.",
            )
        self.allow_private = self.allow_http = True
        return await send(bare=True)

    async def _is_api_private(self) -> bool:
        parts = urlsplit(self.base_url)
        try:
            await check_public(parts.hostname or "", parts.port or 443, _LOOKUP_TIMEOUT)
        except NotPublicError:
            return True
        except (httpx.ConnectError, httpx.ConnectTimeout):
            return False
        return False


class SignedURL(httpx.URL):
    """A URL whose repr does not show its signature."""

    def __repr__(self) -> str:
        return f"URL({without_query(self)!r})"


def _parse(url: str) -> httpx.URL | None:
    try:
        parsed = httpx.URL(url)
        valid = bool(parsed.host) and (parsed.port is None or 0 < parsed.port < 65_536)
    except (httpx.InvalidURL, ValueError, TypeError):
        return None
    return parsed if valid and parsed.scheme in ("http", "https") else None


def _is_private(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return not is_public(host)
    except ValueError:  # a name
        return False
