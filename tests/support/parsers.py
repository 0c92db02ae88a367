"""The parsers of HTTP responses: tests run with each."""

from __future__ import annotations

import importlib.util

import pytest

from moondream_async._http import http1
from moondream_async._http.h11_parser import H11Parser
from moondream_async._http.http1_parser import ResponseParser

NAMES = ("httptools", "h11")


def new(name: str) -> ResponseParser:
    """Return a parser; skip the test if it is not installed."""
    if name == "h11":
        return H11Parser()
    pytest.importorskip("httptools")
    from moondream_async._http.httptools_parser import HttptoolsParser

    return HttptoolsParser()


def use(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let new connections use a parser; skip the test if it is not installed."""
    if name == "httptools" and importlib.util.find_spec(name) is None:
        pytest.skip("httptools is not installed")
    monkeypatch.setattr(http1, "new_parser", lambda: new(name))
