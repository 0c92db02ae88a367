"""Find the proxy for a URL in the environment or the system's settings, and the hosts exempt from it."""

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
_SYSTEM_SETTINGS = "the system's settings"

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@attrs.frozen
class Proxy:
    """A proxy.

    Attributes:
        url: Its URL; may hold a user name and a password.
        source: Where it was set: the name of an environment variable, or `"the system's settings"`.
    """

    url: httpx.URL = attrs.field(repr=False)
    source: str

    @property
    def is_socks(self) -> bool:
        """Whether it is a SOCKS 5 proxy."""
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
    """An entry of `no_proxy`: a network or a pattern of host names, for all schemes and ports unless it names one."""

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
    """The proxies of the environment at the time of creation."""

    def __init__(self) -> None:
        self._proxies = urllib.request.getproxies()
        self._from_system = not urllib.request.getproxies_environment()
        self._exemptions = [] if self._from_system else _parse_no_proxy(self._proxies.get("no", ""))

    def find(self, scheme: str, host: str, port: int | None) -> Proxy | None:
        """Return the proxy for an origin, or None if it is reached directly, as loopback always is.

        Raises:
            ConfigurationError: The proxy's URL cannot be used.
        """
        kind = scheme if scheme in self._proxies else "all"
        if kind not in self._proxies or self._is_exempt(scheme, host, port):
            return None
        return _parse_proxy(self._proxies[kind], _SYSTEM_SETTINGS if self._from_system else _variable_name(kind))

    def _is_exempt(self, scheme: str, host: str, port: int | None) -> bool:
        name = host.lower().strip("[]").rstrip(".")
        address = _parse_address(name)
        if is_loopback(name):
            return True
        if self._from_system and urllib.request.proxy_bypass(host):
            return True
        port = port or (443 if scheme == "https" else 80)
        return any(exemption.covers(scheme, name, address, port) for exemption in self._exemptions)


def is_proxied(url: str) -> bool:
    """Return whether a request to this URL goes through a proxy of the environment.

    Raises:
        ConfigurationError: The proxy's URL cannot be used.
    """
    parts = urlsplit(url)
    return EnvironmentProxies().find(parts.scheme, parts.hostname or "", parts.port) is not None


def is_loopback(host: str) -> bool:
    """Return whether a host name or address is this machine: `localhost`, `127.0.0.0/8`, `::1`."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _parse_address(name)
    return address is not None and (address.is_loopback or address.is_unspecified)


def _parse_address(host: str) -> Address | None:
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return _parse_short_address(host)
    return getattr(address, "ipv4_mapped", None) or address


def _parse_short_address(host: str) -> Address | None:
    """Parse `127.1`, `0x7f000001` and the like, as the system's resolver does."""
    if not re.fullmatch(r"[0-9][0-9a-fx]*(\.[0-9][0-9a-fx]*){0,3}", host):
        return None
    try:
        return ipaddress.IPv4Address(socket.inet_aton(host))
    except OSError:
        return None


def _parse_no_proxy(value: str) -> list[_Exemption]:
    """Parse `no_proxy`; invalid entries are ignored."""
    exemptions = (_parse_exemption(entry.lower()) for entry in re.split(r"[,;\s]+", value) if entry)
    return [exemption for exemption in exemptions if exemption is not None]


def _parse_exemption(entry: str) -> _Exemption | None:
    scheme, separator, rest = entry.rpartition("://")
    match = re.fullmatch(r"\[([^\[\]]*)\](/\d+)?(?::(\d+))?|([^/]*:[^/]*:.*)|(.*?)(?::(\d+))?", rest)
    if match is None:
        return None
    bracketed, bits, bracketed_port, bare_ipv6, name, name_port = match.groups()
    port = bracketed_port or name_port
    if port is not None and len(port) > 5:
        return None
    build = partial(_Exemption, scheme if separator else None, int(port) if port else None)
    network = _parse_network(bracketed + (bits or "") if bracketed is not None else bare_ipv6 or name or "")
    if network is not None:
        return build(network=network)
    pattern = "*" if name == "*" else (name or "").removeprefix("*").strip(".")
    return build(pattern=_to_ascii(pattern)) if pattern else None


def _parse_network(text: str) -> Network | None:
    try:
        return ipaddress.ip_network(re.sub(r"%[^/]*", "", text), strict=False)
    except ValueError:
        return None


def _to_ascii(name: str) -> str:
    try:
        return name if name.isascii() else name.encode("idna").decode("ascii")
    except UnicodeError:
        return name


def _variable_name(kind: str) -> str:
    """Return the name of the environment variable that `urllib` read."""
    lower = f"{kind}_proxy"
    if os.environ.get(lower):
        return lower
    return next((name for name in os.environ if name.lower() == lower), lower)


def _parse_proxy(value: str, source: str) -> Proxy:
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
