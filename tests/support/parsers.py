"""The parsers of HTTP responses: tests run with each."""

from __future__ import annotations

import importlib.util

import pytest

from moondream_async._http import http1
from moondream_async._http.http1_parsers import H11Parser, HttptoolsParser, ResponseParser

NAMES = ("httptools", "h11")


def new(name: str) -> ResponseParser:
    """Return a parser; skip the test if it is not installed."""
    if name == "h11":
        return H11Parser()
    return HttptoolsParser(pytest.importorskip("httptools").HttpResponseParser)


def use(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let new connections use a parser; skip the test if it is not installed."""
    if name == "httptools" and importlib.util.find_spec(name) is None:
        pytest.skip("httptools is not installed")
    monkeypatch.setattr(http1, "new_parser", lambda: new(name))
