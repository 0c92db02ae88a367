"""Who may use the proxy: those whom `authorize` lets in, or else only this machine's own programs and pages."""

from __future__ import annotations

import inspect
import ipaddress
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, TypeAlias
from urllib.parse import urlsplit

from starlette.requests import Request

from ..errors import ConfigurationError
from .refusals import Refusal

Authorize: TypeAlias = Callable[[Request], "bool | str | int | Awaitable[bool | str | int | None] | None"]
"""Decides about a request: True, or the visitor's name or number, admits it."""

_JSON = "application/json"
_FORWARDING = frozenset(
    {
        *("forwarded", "via", "x-real-ip", "x-client-ip", "x-cluster-client-ip", "x-original-forwarded-for"),
        *("x-envoy-external-address", "true-client-ip", "cf-connecting-ip", "fastly-client-ip"),
    }
)
_ORIGIN = re.compile(r"https?://(?:[a-z0-9_-]+(?:\.[a-z0-9_-]+)*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.IGNORECASE)
_OWN_SITES = ("same-origin", "none")


class Access:
    """The checks of a request before its body is read.

    Args:
        authorize: Decides about each request. None admits only requests that are known to come from this machine.
        origins: Other origins whose pages may call the proxy, such as `https://app.example`.

    Raises:
        ConfigurationError: An origin is not valid, or there are some without `authorize`.
    """

    def __init__(self, authorize: Authorize | None, origins: Sequence[str]) -> None:
        if origins and authorize is None:
            raise ConfigurationError("origins need authorize: without it, only pages of the proxy itself may call it.")
        for origin in origins:
            _check_origin(origin)
        if authorize is not None and not callable(authorize):
            raise ConfigurationError(f"authorize must be a function, not {type(authorize).__name__}.")
        self._authorize = authorize
        self._origins = frozenset(origin.lower() for origin in origins)

    async def check(self, request: Request) -> str:
        """Return the visitor's name, for the limits and the log.

        Raises:
            Refusal: The request is not admitted.
            TypeError: `authorize` returned something else than a bool, str, int or None.
        """
        headers = _single_headers(request)
        if self._authorize is None:
            if request.scope.get("http_version") == "1.0":  # as nginx sends it, by default without any header
                raise Refusal(403, "HTTP/1.0, as reverse proxies use it, is refused; the proxy has no `authorize`.")
            check_local(request.client.host if request.client else None, headers)
        self._check_page(request, headers)
        if request.method == "POST" and headers.get("content-type", "").partition(";")[0].strip().lower() != _JSON:
            raise Refusal(415, "The content type must be application/json.")
        peer = request.client.host if request.client else "unknown"
        if self._authorize is None:
            return peer
        admitted: Any = self._authorize(request)
        if inspect.isawaitable(admitted):
            admitted = await admitted
        if not admitted:
            raise Refusal(401, "Unauthorized.")
        if admitted is True:
            return peer
        if not isinstance(admitted, str | int):
            kind = type(admitted).__name__
            raise TypeError(f"authorize must return True, or the visitor's name as a str or int, not {kind}")
        return str(admitted)

    def _check_page(self, request: Request, headers: Mapping[str, str]) -> None:
        origin = headers.get("origin")
        if origin is None:
            is_link = request.method == "GET" and headers.get("sec-fetch-mode") == "navigate"
            is_own = headers.get("sec-fetch-site", "none") in _OWN_SITES
            if self._authorize is None and not is_own and not is_link:
                raise Refusal(403, "Pages of other sites may not call this.")
            return
        if origin.lower() in self._origins or "*" in self._origins:
            return
        if not _ORIGIN.fullmatch(origin):
            raise Refusal(403, "Pages of this origin may not call this.")
        own = urlsplit(origin)
        same_host = own.netloc.lower() == headers.get("host", "").lower() and bool(own.netloc)
        if not same_host or (self._authorize is None and own.scheme != request.url.scheme):
            raise Refusal(403, "Pages of this origin may not call this.")


def check_local(peer: str | None, headers: Mapping[str, str]) -> None:
    """Check that a request comes from this machine, and was made for it.

    A loopback address does not prove that: a reverse proxy, a page of another site, and DNS rebinding also arrive from
    127.0.0.1.

    Args:
        peer: The address of the other side of the connection.
        headers: The request's headers, with lowercase names.

    Raises:
        Refusal: It does not.
    """
    if peer is None or not _is_loopback(peer):
        raise Refusal(403, "Only this machine may call this proxy; it has no `authorize`.")
    if not _is_loopback_host(headers.get("host", "")):
        raise Refusal(403, "The header Host must name this machine, such as localhost; the proxy has no `authorize`.")
    if any(name in _FORWARDING or name.startswith("x-forwarded") for name in headers):
        raise Refusal(403, "Requests through a reverse proxy are refused; the proxy has no `authorize`.")


def _single_headers(request: Request) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name, value in request.headers.items():
        if name in ("host", "origin", "content-type") and name in headers:
            raise Refusal(400, f"The request has two headers {name!r}.")
        headers[name] = value
    return headers


def _is_loopback(host: str) -> bool:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback


def _is_loopback_host(host: str) -> bool:
    try:
        parts = urlsplit(f"//{host}")
        name, _ = parts.hostname or "", parts.port
    except ValueError:
        return False
    is_plain = parts.netloc == host and "@" not in host
    return is_plain and (name == "localhost" or name.endswith(".localhost") or _is_loopback(name))


def _check_origin(origin: object) -> None:
    if origin != "*" and not (isinstance(origin, str) and _ORIGIN.fullmatch(origin)):
        raise ConfigurationError(f"origins must be like 'https://app.example', without a path, not {origin!r}.")
