"""Strings that hold a credential and never show it in a repr, and so not in logs or traceback locals.

The values are hidden, not the containers: httpx copies headers into containers of its own, and debuggers look into
those. Slices are hidden too, as rich and structlog shorten long strings before they show them.
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
    """A string such as a header value that holds a key."""

    __slots__ = ()

    def __repr__(self) -> str:
        return _SHOWN

    def __getitem__(self, index: SupportsIndex | slice, /) -> str:
        part = super().__getitem__(index)
        return HiddenStr(part) if isinstance(index, slice) else part

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> bytes:
        """Encode it; the bytes are hidden too."""
        return HiddenBytes(super().encode(encoding, errors))


class HiddenBytes(bytes):
    """The bytes of a `HiddenStr`, as they go into a request."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "b" + _SHOWN

    def __getitem__(self, index: SupportsIndex | slice, /) -> Any:
        part = super().__getitem__(index)
        return HiddenBytes(part) if isinstance(part, bytes) else part

    def __bytes__(self) -> bytes:
        # h11 makes plain bytes of subclasses with bytes(value); this keeps the value hidden there.
        return self

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Decode it; the string is hidden too."""
        return HiddenStr(super().decode(encoding, errors))


def is_credential(name: str) -> bool:
    """Tell whether a header of this name holds a credential: `Authorization`, `Cookie`, `X-Api-Key`, `X-Auth-Token`."""
    return _CREDENTIAL_NAME.search(name) is not None


def hide_credentials(headers: Mapping[str, str]) -> dict[str, str]:
    """Copy headers, with hidden values where they hold credentials."""
    return {name: HiddenStr(value) if is_credential(name) else value for name, value in headers.items()}


def without_query(url: object) -> str:
    """Show a URL as `scheme://host:port/path`: no user name, no password, no signature."""
    scheme, authority, path = _URL.match(str(url)).groups("")  # type: ignore[union-attr]  # it always matches
    return f"{scheme}{authority.rpartition('@')[2]}{path}"
