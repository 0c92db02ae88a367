"""Connect to public addresses only, for URLs from untrusted sources."""

from __future__ import annotations

import ipaddress
import socket
from typing import Any

import anyio
import httpx

_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_NOT_PUBLIC = tuple(  # although `is_global`
    map(
        ipaddress.ip_network,
        (
            "192.88.99.0/24",  # 6to4 relays
            "168.63.129.16/32",  # Azure's internal services
            "3fff::/20",  # documentation
        ),
    )
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class NotPublicError(Exception):
    """The host has no public address."""


def is_public(address: str) -> bool:
    """Return whether an address is on the public internet; of an IPv6 address that embeds an IPv4 one, the latter."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        embedded = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if embedded is None and ip in _NAT64:
            embedded = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if embedded is not None:
            return is_public(str(embedded))
        if ip not in _GLOBAL_UNICAST:
            return False
    if any(ip in network for network in _NOT_PUBLIC):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not ip.is_unspecified


async def check_public(host: str, port: int, timeout: float | None) -> None:
    """Check that a host has a public address.

    Raises:
        NotPublicError: It has none.
        httpx.ConnectError, httpx.ConnectTimeout: Its name cannot be resolved.
    """
    await public_addresses(host, port, timeout)


async def _resolve(host: str, port: int) -> list[Any]:
    try:
        return await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except RuntimeError:  # at interpreter exit there are no threads left to resolve names
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def public_addresses(host: str, port: int, timeout: float | None) -> list[str]:
    """Resolve a host once, and return its public addresses: a second look-up might differ.

    Raises:
        NotPublicError: It has none.
        httpx.ConnectError, httpx.ConnectTimeout: Its name cannot be resolved.
    """
    try:
        with anyio.fail_after(timeout):
            entries = await _resolve(host, port)
    except TimeoutError:
        raise httpx.ConnectTimeout("") from None
    except (OSError, UnicodeError) as exc:
        raise httpx.ConnectError(f"{host} cannot be resolved: {exc}") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in entries))
    public = [address for address in addresses if is_public(address)]
    if addresses and not public:
        raise NotPublicError(host)
    return public
