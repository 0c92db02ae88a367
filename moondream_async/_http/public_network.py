"""Which addresses a URL from a stranger may lead to, and connecting to just those."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Iterable
from typing import Any

import anyio
import httpcore

_GLOBAL_UNICAST = ipaddress.ip_network("2000::/3")
_NOT_FOR_STRANGERS = tuple(
    map(
        ipaddress.ip_network,
        (
            "192.88.99.0/24",  # relays of 6to4
            "168.63.129.16/32",  # Azure's own services, seen from its machines
            "3fff::/20",  # documentation
        ),
    )
)
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class NotPublicError(Exception):
    """The host has no public address."""


def is_public(address: str) -> bool:
    """Whether it is an address of the public internet; what is wrapped into an IPv6 address counts."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        if ip not in _GLOBAL_UNICAST:
            return False
    if any(ip in network for network in _NOT_FOR_STRANGERS):
        return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not ip.is_unspecified


async def check_public(host: str, port: int, timeout: float | None) -> None:
    """Look a host up.

    Raises:
        NotPublicError: It has no public address.
        httpcore.ConnectError, httpcore.ConnectTimeout: It cannot be looked up.
    """
    await _public_addresses(host, port, timeout)


class PublicOnly(httpcore.AsyncNetworkBackend):
    """Looks a host up once and connects to one of the addresses it has checked: no second lookup can differ."""

    def __init__(self, inner: httpcore.AsyncNetworkBackend) -> None:
        self._inner = inner

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first public address that answers.

        Raises:
            NotPublicError: The host has no public address.
            httpcore.ConnectError, httpcore.ConnectTimeout: None of them answers.
        """
        problem: Exception | None = None
        for address in await _public_addresses(host, port, timeout):
            try:
                return await self._inner.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                problem = exc
        raise problem or httpcore.ConnectError(f"{host} has no address")

    async def sleep(self, seconds: float) -> None:
        """Sleep, for httpcore's own connect retries (which we do not use)."""
        await self._inner.sleep(seconds)


async def _look_up(host: str, port: int) -> list[Any]:
    try:
        return await anyio.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except RuntimeError:  # at interpreter exit there are no threads left to look names up in
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)


async def _public_addresses(host: str, port: int, timeout: float | None) -> list[str]:
    try:
        with anyio.fail_after(timeout):
            found = await _look_up(host, port)
    except TimeoutError:
        raise httpcore.ConnectTimeout from None
    except (OSError, UnicodeError) as exc:
        raise httpcore.ConnectError(f"{host} is not known: {exc}") from None
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    public = [address for address in addresses if is_public(address)]
    if addresses and not public:
        raise NotPublicError(host)
    return public
