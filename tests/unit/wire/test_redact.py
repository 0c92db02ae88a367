"""Credentials are found in every form in which a server may repeat them, in linear time."""

from __future__ import annotations

import base64
import html
import json
import sys
import urllib.parse
from collections.abc import Callable
from typing import Any

import pytest

from moondream_async._wire import errors
from moondream_async._wire.redact import Redactor, secrets_in_header

KEY = "md/SECRET+0123=4567&abcdef"

FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "json": json.dumps,
    "php": lambda key: key.replace("/", "\\/"),
    "unicode": lambda key: "".join(f"\\u{ord(c):04x}" for c in key),
    "unicode, upper": lambda key: "".join(f"\\u{ord(c):04X}" for c in key),
    "json in json": lambda key: json.dumps(json.dumps(key.replace("/", "\\/"))),
    "percent": lambda key: urllib.parse.quote(key, safe=""),
    "percent twice": lambda key: urllib.parse.quote(urllib.parse.quote(key, safe=""), safe=""),
    "iis": lambda key: "".join(f"%u{ord(c):04x}" for c in key),
    "html": html.escape,
    "html names": lambda key: key.replace("&", "&amp;").replace("/", "&sol;").replace("+", "&plus;"),
    "html decimal": lambda key: "".join(f"&#{ord(c)};" for c in key),
    "html hexadecimal": lambda key: "".join(f"&#x{ord(c):X};" for c in key),
    "html twice": lambda key: "".join(f"&amp;#{ord(c)};" for c in key),
    "python bytes": lambda key: "".join(f"\\x{ord(c):02x}" for c in key),
    "octal": lambda key: "".join(f"\\{ord(c):03o}" for c in key),
    "hexadecimal": lambda key: key.encode().hex(),
    "base64": lambda key: base64.b64encode(key.encode()).decode(),
    "base64 in json": lambda key: base64.b64encode(key.encode()).decode().replace("/", "\\/"),
    **{
        f"base64 of {before}": lambda key, before=before: base64.urlsafe_b64encode(f"{before}{key}:x".encode()).decode()
        for before in ("u:", "me:", "you:")
    },
}


@pytest.mark.parametrize("form", FORMS)
def test_every_form_is_found(form: str) -> None:
    redactor = Redactor([KEY])
    shown = FORMS[form](KEY)
    redacted = redactor.text(f"<{shown}>")
    assert "***" in redacted
    assert "SECRET" not in redacted
    assert shown not in redacted
    raw = json.dumps({"a": [{f"name {shown}": {"b": ["x", 1, None, f"value {shown}"]}}]})
    assert redactor.may_be_in(raw)
    assert redactor.may_be_in(raw.encode())
    assert "SECRET" not in json.dumps(redactor.json(json.loads(raw)))
    assert json.dumps(redactor.json(json.loads(raw))).count("***") == 2


@pytest.mark.parametrize("text", ["50% of \\n &c\\d &amp; %41 \\", "a\\/b", "plain", ""])
def test_other_text_is_unchanged(text: str) -> None:
    assert Redactor([KEY]).text(text) == text
    assert Redactor([KEY]).json({"a": [text, 1]}) == {"a": [text, 1]}


def test_short_secrets_are_ignored() -> None:
    redactor = Redactor(["test", ""])
    assert redactor.text("a test") == "a test"
    assert not redactor.may_be_in("a test \\")


def test_the_repr_of_a_redactor_shows_no_secret() -> None:
    redactor = Redactor([KEY])
    assert "SECRET" not in repr(redactor) + repr(vars(redactor))


def test_deep_and_large_values() -> None:
    deep: Any = [KEY]
    for _ in range(50_000):
        deep = [deep]
    Redactor([KEY]).json(deep)
    for _ in range(50_000):
        deep = deep[0]
    assert deep == ["***"]


@pytest.mark.parametrize("text", ["\\", "%41", "%25", "&#", "&amp;", "\\u", "&#9", "\\\\u004", "md/SECRE", "%u00"])
def test_work_is_linear_in_the_length(text: str) -> None:
    """Work is measured in calls of Python and C functions: a quadratic loop would make quadratically many."""

    def calls(size: int) -> int:
        count = 0

        def profile(*_: Any) -> None:
            nonlocal count
            count += 1

        value = (text * size)[:size]
        sys.setprofile(profile)
        try:
            Redactor([KEY]).text(value)
        finally:
            sys.setprofile(None)
        return count

    assert calls(40_000) < 5 * calls(10_000) + 100


def test_no_part_of_a_key_remains_where_a_body_is_cut() -> None:
    redactor = Redactor([KEY])
    for start in range(3_970, 4_001):
        error = errors.from_response(500, {}, b"x" * start + KEY.encode() + b"y" * 9_000, now=0, redactor=redactor)
        assert "md/" not in error.body
        assert len(error.body) <= 4_000


def test_errors_are_redacted_in_every_field() -> None:
    shown = KEY.replace("/", "\\/")
    fields = ("message", "type", "code", "param")
    error_fields = ", ".join(f'"{name}": "{name} {shown}"' for name in fields)
    body = f'{{"error": {{{error_fields}}}, "request_id": "{shown}"}}'
    redactor = Redactor([KEY])
    for encoding in ("utf-8", "utf-16", "utf-32"):
        error = errors.from_response(401, {}, body.encode(encoding), now=0, redactor=redactor)
        assert (error.message, error.type, error.code, error.param) == tuple(f"{name} ***" for name in fields)
        assert error.request_id == "***"
        assert "SECRET" not in repr(vars(error)) + str(error)
    headers = {"x-request-id": urllib.parse.quote(KEY), "location": f"https://a/{KEY}"}
    error = errors.from_response(307, headers, b"", now=0, redactor=redactor)
    assert "SECRET" not in repr(vars(error)) + str(error)


def test_redirects_are_shown_without_their_query() -> None:
    headers = {"location": "https://user:pass@elsewhere/a?token=1#x"}
    message = errors.from_response(307, headers, b"", now=0).message
    assert "redirects to https://elsewhere/a;" in message


def test_secrets_in_a_header() -> None:
    assert {"Bearer abc", "abc"} <= set(secrets_in_header("Bearer abc"))
    assert {"one", "two=2"} <= set(secrets_in_header("a=one; b=two=2"))
    assert {"Key id:secret", "secret"} <= set(secrets_in_header("Key id:secret"))
