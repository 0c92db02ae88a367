"""Keeping credentials out of what a server says: errors, headers, events, answers (pure)."""

from __future__ import annotations

import base64
import html.entities
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

from .._hidden import HiddenBytes, HiddenStr
from ..config import SHORTEST_SECRET

_MASK = "***"
_ROUNDS = 4  # of escapes within escapes that are undone
_MAX_UNESCAPED = 64 * 1024  # characters of one text, or one body, in which escaped forms are looked for
_ESCAPE = re.compile(
    r"%u(?P<iis>[0-9a-fA-F]{4})|%(?P<percent>[0-9a-fA-F]{2})"
    r"|&#0{0,8}(?P<decimal>[1-9][0-9]{0,2});?|&#[xX]0{0,8}(?P<entity>[1-9a-fA-F][0-9a-fA-F]?);?"
    r"|&(?P<name>[A-Za-z]{2,8});"
    r"|\\+(?:u\{?(?P<unicode>00[0-9a-fA-F]{2})\}?|x(?P<hex>[0-9a-fA-F]{2})|(?P<octal>[01][0-7]{2})|(?P<plain>[^\\])|\Z)"
)


class Redactor:
    """Replaces secrets by `***` in decoded text, whatever form they come in.

    Found are the secret itself, its base64 (also within the base64 of something longer) and its hexadecimal digits;
    and each of these with JSON, percent, HTML or backslash escapes in it. Such a text is returned without its escapes.

    Args:
        secrets: What to replace. Those of less than 8 characters are words, and stay.
    """

    def __init__(self, secrets: Iterable[str] = ()) -> None:
        self._forms: tuple[str, ...] = ()
        self._raw_forms: tuple[bytes, ...] = ()
        self.add(*secrets)

    def add(self, *secrets: str) -> None:
        """Replace these, too."""
        long = [secret for secret in secrets if len(secret) >= SHORTEST_SECRET]
        new = dict.fromkeys(form for secret in long for form in _forms_of(secret) if form not in self._forms)
        self._forms = (*self._forms, *map(HiddenStr, new))
        self._raw_forms = (*self._raw_forms, *(HiddenBytes(form.encode()) for form in new))

    def may_be_in(self, raw: str | bytes) -> bool:
        """Tell whether undecoded text could hold a secret; cheap, for answers that hardly ever do."""
        if not self._forms:
            return False
        if isinstance(raw, str):
            return _has_escapes(raw) or any(form in raw for form in self._forms)
        # UTF-16 and UTF-32, which JSON may come in, have zeros.
        escaped = b"\\" in raw or b"%" in raw or b"&" in raw or b"\0" in raw
        return escaped or any(form in raw for form in self._raw_forms)

    def text(self, text: str) -> str:
        """Redact one string."""
        text = self._masked(text)
        if not self._forms or len(text) > _MAX_UNESCAPED:
            return text
        plain = text
        for _ in range(_ROUNDS):
            if not _has_escapes(plain):
                break
            plain = _ESCAPE.sub(_unescaped, plain)
            if (masked := self._masked(plain)) != plain:
                text = plain = masked
        return text

    def json(self, data: Any) -> Any:
        """Redact decoded JSON, in place where it is a dict or a list; returns it."""
        if not self._forms:
            return data
        if isinstance(data, str):
            return self.text(data)
        left = _MAX_UNESCAPED

        def leaf(value: Any) -> Any:
            nonlocal left
            if not isinstance(value, str):
                return value
            left -= len(value) if _has_escapes(value) else 0
            return self.text(value) if left >= 0 else self._masked(value)

        pending = [data]
        while pending:
            node = pending.pop()
            if isinstance(node, dict):
                _replace_items(cast("dict[str, Any]", node), leaf)
                pending += cast("dict[str, Any]", node).values()
            elif isinstance(node, list):
                node[:] = map(leaf, cast("list[Any]", node))
                pending += cast("list[Any]", node)
        return data

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Redact the values of headers."""
        return {name: self.text(value) for name, value in headers.items()}

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def _masked(self, text: str) -> str:
        for form in self._forms:
            if form in text:
                text = text.replace(form, _MASK)
        return text


def secrets_in_header(value: str) -> list[str]:
    """List what is secret in a header that holds a credential: all of it, the token after a scheme, each cookie."""
    parts = re.split(r"[;,\s]+", value)
    return [value, *parts, *(part.partition(mark)[2] for part in parts for mark in "=:")]


def _replace_items(node: dict[str, Any], leaf: Callable[[Any], Any]) -> None:
    replaced = {leaf(name): leaf(value) for name, value in node.items()}
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
    """The characters of base64 that depend on these bytes alone, at each of the three positions they can begin at."""
    forms: list[str] = []
    for offset, first in ((0, 0), (1, 2), (2, 3)):
        last = (offset + len(data)) * 8 // 6
        forms.append(base64.b64encode(bytes(offset) + data).decode("ascii")[first:last])
    return forms


def _unescaped(match: re.Match[str]) -> str:
    kind, value = match.lastgroup, match.group(match.lastgroup or 0)
    if kind is None:  # backslashes at the end
        return ""
    if kind == "plain":
        return value
    if kind == "name":
        return html.entities.html5.get(f"{value};", match.group())
    if kind == "decimal":
        return chr(int(value))
    return chr(int(value, 8 if kind == "octal" else 16))
