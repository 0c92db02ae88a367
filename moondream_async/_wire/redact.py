"""Redact credentials in what a server sends: errors, headers, events, responses (pure)."""

from __future__ import annotations

import base64
import html.entities
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, cast

from .._hidden import HiddenBytes, HiddenStr, is_credential
from ..config import SHORTEST_SECRET

_MASK = "***"
_MAX_ESCAPE_LEVELS = 4  # nested escapes that are decoded
_MAX_UNESCAPED = 64 * 1024  # characters of a text or body that are searched for escaped forms
_ESCAPE = re.compile(
    r"%u(?P<iis>[0-9a-fA-F]{4})|%(?P<percent>[0-9a-fA-F]{2})"
    r"|&#0{0,8}(?P<decimal>[1-9][0-9]{0,2});?|&#[xX]0{0,8}(?P<entity>[1-9a-fA-F][0-9a-fA-F]?);?"
    r"|&(?P<name>[A-Za-z]{2,8});"
    r"|\\+(?:u\{?(?P<unicode>00[0-9a-fA-F]{2})\}?|x(?P<hex>[0-9a-fA-F]{2})|(?P<octal>[01][0-7]{2})|(?P<plain>[^\\])|\Z)"
)


class Redactor:
    """Replaces secrets by `***` in decoded text, in any form.

    It finds the secret itself, its base64 encoding (also as part of a longer one) and its hexadecimal digits; and each
    of these with JSON, percent, HTML or backslash escapes. A text with an escaped secret is returned unescaped.

    Args:
        secrets: The secrets. Those with fewer than 8 characters are ignored, as they may be ordinary words.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms: tuple[str, ...] = ()
        self._raw_forms: tuple[bytes, ...] = ()
        self.add(*secrets)

    def add(self, *secrets: str) -> None:
        """Add secrets."""
        long = [secret for secret in secrets if len(secret) >= SHORTEST_SECRET]
        new = dict.fromkeys(form for secret in long for form in _forms_of(secret) if form not in self._forms)
        self._forms = (*self._forms, *map(HiddenStr, new))
        self._raw_forms = (*self._raw_forms, *(HiddenBytes(form.encode()) for form in new))

    def may_be_in(self, raw: str | bytes) -> bool:
        """Return whether undecoded text may contain a secret: a cheap check, as responses hardly ever do."""
        if not self._forms:
            return False
        if isinstance(raw, str):
            return _has_escapes(raw) or any(form in raw for form in self._forms)
        # JSON in UTF-16 or UTF-32 contains null bytes.
        if b"\\" in raw or b"%" in raw or b"&" in raw or b"\0" in raw:
            return True
        for form in self._raw_forms:  # noqa: SIM110 (`any` takes three times as long, and each call gets here)
            if form in raw:
                return True
        return False

    def text(self, text: str) -> str:
        """Return the text with secrets replaced."""
        text = self._mask(text)
        if not self._forms or len(text) > _MAX_UNESCAPED:
            return text
        plain = text
        for _ in range(_MAX_ESCAPE_LEVELS):
            if not _has_escapes(plain):
                break
            plain = _ESCAPE.sub(_unescape, plain)
            if (masked := self._mask(plain)) != plain:
                text = plain = masked
        return text

    def json(self, data: Any) -> Any:
        """Redact decoded JSON, dicts and lists in place, and return it."""
        if not self._forms:
            return data
        if isinstance(data, str):
            return self.text(data)
        remaining = _MAX_UNESCAPED

        def redact_leaf(value: Any) -> Any:
            nonlocal remaining
            if not isinstance(value, str):
                return value
            remaining -= len(value) if _has_escapes(value) else 0
            return self.text(value) if remaining >= 0 else self._mask(value)

        pending = [data]
        while pending:
            node = pending.pop()
            if isinstance(node, dict):
                _replace_items(cast("dict[str, Any]", node), redact_leaf)
                pending += cast("dict[str, Any]", node).values()
            elif isinstance(node, list):
                node[:] = map(redact_leaf, cast("list[Any]", node))
                pending += cast("list[Any]", node)
        return data

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Return the headers with secrets in their values replaced."""
        return {name: self.text(value) for name, value in headers.items()}

    def safe_headers(self, raw: Sequence[tuple[bytes, bytes]]) -> dict[str, str]:
        """Return a response's headers by name in lower case, without credentials and cookies; repeated ones joined."""
        safe: dict[str, str] = {}
        for raw_name, raw_value in raw:
            name, value = raw_name.decode("latin-1").lower(), self.text(raw_value.decode("latin-1"))
            if not is_credential(name):
                safe[name] = f"{safe[name]}, {value}" if name in safe else value
        return safe

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def _mask(self, text: str) -> str:
        for form in self._forms:
            if form in text:
                text = text.replace(form, _MASK)
        return text


def secrets_in_header(value: str) -> list[str]:
    """Return the secrets in a header that holds a credential: all of it, the token after a scheme, each cookie."""
    parts = re.split(r"[;,\s]+", value)
    return [value, *parts, *(part.partition(separator)[2] for part in parts for separator in "=:")]


def secrets_in_headers(headers: Mapping[str, str]) -> Iterator[str]:
    """Yield the credentials in a user's own headers."""
    for name, value in headers.items():
        if is_credential(name):
            yield from secrets_in_header(value)


def _replace_items(node: dict[str, Any], redact_leaf: Callable[[Any], Any]) -> None:
    replaced = {redact_leaf(name): redact_leaf(value) for name, value in node.items()}
    node.clear()
    node.update(replaced)


def _has_escapes(text: str) -> bool:
    return "\\" in text or "%" in text or "&" in text


def _forms_of(secret: str) -> list[str]:
    data = secret.encode()
    forms = [secret, secret.replace("\\", ""), data.hex(), data.hex().upper()]
    for encoded in _base64_forms(data):
        forms += [encoded, encoded.replace("+", "-").replace("/", "_")]
    return list(dict.fromkeys(form for form in forms if len(form) >= SHORTEST_SECRET))


def _base64_forms(data: bytes) -> list[str]:
    """Return the base64 characters that depend on these bytes alone, at each of the three possible alignments."""
    forms: list[str] = []
    for offset, first in ((0, 0), (1, 2), (2, 3)):
        last = (offset + len(data)) * 8 // 6
        forms.append(base64.b64encode(bytes(offset) + data).decode("ascii")[first:last])
    return forms


def _unescape(match: re.Match[str]) -> str:
    kind, value = match.lastgroup, match.group(match.lastgroup or 0)
    if kind is None:  # trailing backslashes
        return ""
    if kind == "plain":
        return value
    if kind == "name":
        return html.entities.html5.get(f"{value};", match.group())
    if kind == "decimal":
        return chr(int(value))
    return chr(int(value, 8 if kind == "octal" else 16))
