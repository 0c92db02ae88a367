"""Presigned URLs, which an API names and the client then calls: https only, and public addresses only.

What a server names must not make the client call the network it runs in. An API that is itself called by http, or
that is itself in a private network, may name what is like it.
"""

from __future__ import annotations

from urllib.parse import urlsplit

import attrs
import httpcore
import httpx

from .._hidden import without_query
from .._wire.errors import invalid_response
from .payloads import FileBody
from .public_network import NotPublicError, check_public, is_public
from .session import Session

_CONNECT = 10.0  # seconds to look a name up


@attrs.define(eq=False)
class Presigned:
    """Where the presigned URLs of one API may lead.

    Attributes:
        insecure: Whether they may be http.
        private: Whether they may lead to addresses that are not public.
        base_url: The API's.
    """

    base_url: str
    insecure: bool
    private: bool

    @classmethod
    def of(cls, base_url: str, *, allow_private: bool = False) -> Presigned:
        """Read it from the API's base URL, and what the user allows."""
        parts = urlsplit(base_url)
        private = _is_private(parts.hostname or "")
        return cls(base_url, insecure=parts.scheme == "http" or private, private=private or allow_private)

    def check(self, url: str, *, from_url: httpx.URL | None = None) -> httpx.URL:
        """Return the URL, if it may be called.

        Args:
            url: Absolute.
            from_url: What redirects to it.

        Raises:
            APIError: It may not.
        """
        parsed = _parsed(url)
        if parsed is None:
            raise invalid_response(200, None, "the address of a file in it is no http(s) URL")
        leaves_tls = from_url is not None and from_url.scheme == "https"
        if parsed.scheme == "http" and (leaves_tls or not self.insecure):
            raise invalid_response(200, None, f"it names a file at {without_query(parsed)}, and only https is called")
        return SignedURL(parsed)

    async def send(
        self,
        session: Session,
        method: str,
        url: httpx.URL,
        headers: httpx.Headers,
        body: bytes | FileBody,
        timeout: httpx.Timeout,
        *,
        new_connection: bool = False,
    ) -> httpx.Response:
        """Send a request, as `Session.send` does, with nothing of the user's own in it.

        Raises:
            APIError: The address is not public.
        """
        try:
            return await session.send(
                method, url, headers, body, timeout, new_connection=new_connection, bare=True, public=not self.private
            )
        except NotPublicError as exc:
            host = str(exc)
        if not await self._api_is_private():
            raise invalid_response(
                200,
                None,
                f"it names a file at {without_query(url)}, and {host} has no public address. "
                "ImageOptions(allow_private_urls=True) allows it",
            )
        self.private = self.insecure = True
        return await session.send(method, url, headers, body, timeout, new_connection=new_connection, bare=True)

    async def _api_is_private(self) -> bool:
        parts = urlsplit(self.base_url)
        try:
            await check_public(parts.hostname or "", parts.port or 443, _CONNECT)
        except NotPublicError:
            return True
        except (httpcore.ConnectError, httpcore.ConnectTimeout):
            return False
        return False


class SignedURL(httpx.URL):
    """A URL whose repr does not show its signature."""

    def __repr__(self) -> str:
        return f"URL({without_query(self)!r})"


def _parsed(url: str) -> httpx.URL | None:
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
