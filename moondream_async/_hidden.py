"""Strings that hide a credential in their repr, and so in logs and tracebacks that show locals.

The values themselves are hidden, as httpx copies headers into containers of its own, which debuggers show. Slices are
hidden too, as rich and structlog shorten long strings before they show them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, SupportsIndex

_SHOWN = "'***'"
_URL = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*://)?([^/?#]*)([^?#]*)")
_CREDENTIAL_NAME = re.compile(
    r"auth|cookie|token|secret|passw|credential|signature|session|api-?key|-key$|^key$", re.IGNORECASE
)


class HiddenStr(str):
    """A string with a credential, such as a header value that holds the key."""

    __slots__ = ()

    def __repr__(self) -> str:
        return _SHOWN

    def __getitem__(self, index: SupportsIndex | slice, /) -> str:
        part = super().__getitem__(index)
        return HiddenStr(part) if isinstance(index, slice) else part

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Encode the string to hidden bytes."""
        return HiddenBytes(super().encode(encoding, errors))


class HiddenBytes(bytes):
    """The encoded bytes of a `HiddenStr`, as they are sent."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "b" + _SHOWN

    def __getitem__(self, index: SupportsIndex | slice, /) -> Any:
        part = super().__getitem__(index)
        return HiddenBytes(part) if isinstance(part, bytes) else part

    def __bytes__(self) -> bytes:
        # h11 converts subclasses with bytes(value); returning self keeps the value hidden there.
        return self

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Decode the bytes to a hidden string."""
        return HiddenStr(super().decode(encoding, errors))


def is_credential(name: str) -> bool:
    """Return whether a header holds a credential, judging by its name, such as `Authorization` or `X-Api-Key`."""
    return _CREDENTIAL_NAME.search(name) is not None


def hide_credentials(headers: Mapping[str, str]) -> dict[str, str]:
    """Return a copy of headers in which the values of credentials are hidden."""
    return {name: HiddenStr(value) if is_credential(name) else value for name, value in headers.items()}


def without_query(url: object) -> str:
    """Return a URL as `scheme://host:port/path`, without user name, password, query and fragment."""
    scheme, authority, path = _URL.match(str(url)).groups("")  # type: ignore[union-attr]  # it always matches
    return f"{scheme}{authority.rpartition('@')[2]}{path}"
