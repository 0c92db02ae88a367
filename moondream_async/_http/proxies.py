"""Proxies that the environment names, and the hosts that it exempts from them."""

from __future__ import annotations

import fnmatch
import ipaddress
import os
import re
import socket
import urllib.request
from functools import partial
from urllib.parse import urlsplit

import attrs
import httpx

from ..errors import ConfigurationError

_SCHEMES = ("http", "https", "socks5", "socks5h")
_SYSTEM = "the system's settings"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@attrs.frozen
class Proxy:
    """A proxy, and where it was set.

    Attributes:
        url: Its URL; may hold a user name and a password.
        source: The environment variable that names it.
    """

    url: httpx.URL = attrs.field(repr=False)
    source: str

    @property
    def is_socks(self) -> bool:
        """Whether it speaks SOCKS 5."""
        return self.url.scheme.startswith("socks")

    @property
    def auth(self) -> tuple[bytes, bytes] | None:
        """The user name and the password, if there are any."""
        if not self.url.userinfo:
            return None
        return self.url.username.encode("utf-8"), self.url.password.encode("utf-8")

    def __str__(self) -> str:
        return f"the proxy {self.url.scheme}://{self.url.netloc.decode('ascii')} (set in {self.source})"


@attrs.frozen
class _Exemption:
    """One entry of `no_proxy`: a network, or a pattern of names; for one scheme or port, or for all."""

    scheme: str | None
    port: int | None
    network: Network | None = None
    pattern: str = ""

    def covers(self, scheme: str, host: str, address: Address | None, port: int) -> bool:
        if self.scheme not in (None, scheme) or self.port not in (None, port):
            return False
        if self.network is not None:
            return address is not None and address in self.network
        if "*" in self.pattern:
            return fnmatch.fnmatchcase(host, self.pattern)
        return host == self.pattern or host.endswith(f".{self.pattern}")


class EnvironmentProxies:
    """The environment's proxies, as they are now."""

    def __init__(self) -> None:
        self._proxies = urllib.request.getproxies()
        self._from_system = not urllib.request.getproxies_environment()
        self._exemptions = [] if self._from_system else _exemptions(self._proxies.get("no", ""))

    def find(self, scheme: str, host: str, port: int | None) -> Proxy | None:
        """Find the proxy for an origin; None if it is reached directly, as loopback always is.

        Raises:
            ConfigurationError: The proxy's URL cannot be used.
        """
        kind = scheme if scheme in self._proxies else "all"
        if kind not in self._proxies or self._is_exempt(scheme, host, port):
            return None
        return _proxy(self._proxies[kind], _SYSTEM if self._from_system else _variable(kind))

    def _is_exempt(self, scheme: str, host: str, port: int | None) -> bool:
        name = host.lower().strip("[]").rstrip(".")
        address = _address(name)
        if is_loopback(name):
            return True
        if self._from_system and urllib.request.proxy_bypass(host):
            return True
        number = port or (443 if scheme == "https" else 80)
        return any(exemption.covers(scheme, name, address, number) for exemption in self._exemptions)


def is_proxied(url: str) -> bool:
    """Tell whether a request to this URL goes through a proxy of the environment.

    Raises:
        ConfigurationError: The proxy's URL cannot be used.
    """
    parts = urlsplit(url)
    return EnvironmentProxies().find(parts.scheme, parts.hostname or "", parts.port) is not None


def is_loopback(host: str) -> bool:
    """Tell whether a name or an address means this machine: `localhost`, `127.0.0.0/8`, `::1`."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name)
    return address is not None and (address.is_loopback or address.is_unspecified)


def _address(host: str) -> Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return _short_address(host)
    return getattr(address, "ipv4_mapped", None) or address


def _short_address(host: str) -> Address | None:
    """Read `127.1`, `0x7f000001` and the like, as the system's resolver does."""
    if not re.fullmatch(r"[0-9][0-9a-fx]*(\.[0-9][0-9a-fx]*){0,3}", host):
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _exemptions(value: str) -> list[_Exemption]:
    """Read `no_proxy`; an entry that means nothing exempts nothing."""
    found = (_exemption(entry.lower()) for entry in re.split(r"[,;\s]+", value) if entry)
    return [exemption for exemption in found if exemption is not None]


def _exemption(entry: str) -> _Exemption | None:
    scheme, separator, rest = entry.rpartition("://")
    match = re.fullmatch(r"\[([^\[\]]*)\](/\d+)?(?::(\d+))?|([^/]*:[^/]*:.*)|(.*?)(?::(\d+))?", rest)
    if match is None:
        return None
    bracketed, bits, bracketed_port, bare_ipv6, name, name_port = match.groups()
    port = bracketed_port or name_port
    if port is not None and len(port) > 5:
        return None
    make = partial(_Exemption, scheme if separator else None, int(port) if port else None)
    network = _network(bracketed + (bits or "") if bracketed is not None else bare_ipv6 or name or "")
    if network is not None:
        return make(network=network)
    pattern = "*" if name == "*" else (name or "").removeprefix("*").strip(".")
    return make(pattern=_ascii(pattern)) if pattern else None


def _network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(re.sub(r"%[^/]*", "", text), strict=False)
    except ValueError:
        return None


def _ascii(name: str) -> str:
    try:
        return name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        return name


def _variable(kind: str) -> str:
    """Name the environment variable that `urllib` has read."""
    lower = f"{kind}_proxy"
    if os.environ.get(lower):
        return lower
    return next((name for name in os.environ if name.lower() == lower), lower)


def _proxy(value: str, source: str) -> Proxy:
    try:
        url = httpx.URL(value if "://" in value else f"http://{value}")
        host, port = url.host, url.port
    except (httpx.InvalidURL, ValueError):
        problem = "its URL is not valid"
    else:
        if url.scheme not in _SCHEMES:
            problem = f"its scheme is {url.scheme!r}, and must be one of {', '.join(_SCHEMES)}"
        elif not host or (port or 0) > 65_535:
            problem = "its host or port is not valid"
        else:
            return Proxy(url, source)
    shown = value.rpartition("@")[2]
    raise ConfigurationError(f"The proxy {shown!r} (set in {source}) cannot be used: {problem}.")
