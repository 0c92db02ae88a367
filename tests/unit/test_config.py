"""Keys, base URLs, headers: what is mended, what is refused, what is never shown."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import pytest

from moondream_async import AsyncClient, Client, ConfigurationError, vl
from moondream_async.config import normalise_base_url

KEY = "eyJhbGciOi.secret-key"


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("http://localhost:2020", "http://localhost:2020/v1"),
        ("http://localhost:2020/", "http://localhost:2020/v1"),
        ("http://localhost:2020/v1", "http://localhost:2020/v1"),
        ("http://localhost:2020/v1/", "http://localhost:2020/v1"),
        ("http://localhost:2020/v1/v1", "http://localhost:2020/v1"),
        ("http://localhost:2020//v1//", "http://localhost:2020/v1"),
        (" 'HTTPS://Api.Moondream.ai/v1' ", "https://Api.Moondream.ai/v1"),
        ("http://host/some/prefix", "http://host/some/prefix/v1"),
        ("http://[::1]:2020/v1", "http://[::1]:2020/v1"),
    ],
)
def test_base_urls_end_in_v1(given: str, used: str) -> None:
    assert normalise_base_url(given) == used


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("http://localhost:2020/v1/caption", "/caption"),
        ("https://api.moondream.ai/v1/query/", "/query"),
        ("https://api.moondream.ai/v1/chat/completions", "/chat"),
        ("localhost:2020", "must look like"),
        ("ftp://host/v1", "must look like"),
        ("", "must look like"),
        ("http://", "must look like"),
        ("http://host:99999", "not a URL"),
        ("http://user:pw@host/v1", "user name or password"),
        ("http://host/v1?x=1", "'\\?' or '#'"),
        ("http://host/v1#x", "'\\?' or '#'"),
        ("http://ho st/v1", "spaces"),
        ("http://a:2020/v1,http://b:2020/v1", "one URL"),
        ("http://a/v1, http://b/v1", "one URL|spaces"),
        ("http://a/v1;http://b/v1", "one URL"),
        (7, "must be a str"),
    ],
)
def test_invalid_base_urls(given: Any, says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        AsyncClient("k", base_url=given)


def test_no_key() -> None:
    with pytest.raises(ConfigurationError, match=r"MOONDREAM_API_KEY.*localhost:2020.*sandbox"):
        AsyncClient()
    assert AsyncClient(base_url="http://localhost:2020").base_url == "http://localhost:2020/v1"


@pytest.mark.parametrize("key", ["a\nb", "a b", "clé", "a\tb", "a\0b", "a\r\nX-Evil: 1"])
def test_illegal_keys(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="api_key has characters"):
        AsyncClient(key)
    monkeypatch.setenv("MOONDREAM_API_KEY", "a b")
    with pytest.raises(ConfigurationError, match="MOONDREAM_API_KEY has characters"):
        AsyncClient()


@pytest.mark.parametrize("key", ["  ", "''", ""])
def test_blank_keys_count_as_missing(key: str) -> None:
    with pytest.raises(ConfigurationError, match="No API key"):
        AsyncClient(key)


def test_keys_of_other_types() -> None:
    with pytest.raises(ConfigurationError, match="must be a str"):
        AsyncClient(b"key")  # type: ignore[arg-type]


def test_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MOONDREAM_ENDPOINT", "http://endpoint")
    assert AsyncClient().base_url == "http://endpoint/v1"
    monkeypatch.setenv("MOONDREAM_BASE_URL", "http://base")
    monkeypatch.setenv("MOONDREAM_MODEL", "m")
    client = AsyncClient()
    assert (client.base_url, client.model) == ("http://base/v1", "m")
    client = AsyncClient(base_url="http://explicit", model="x")
    assert (client.base_url, client.model) == ("http://explicit/v1", "x")


@pytest.mark.parametrize("make", [AsyncClient, Client, vl])
def test_a_key_is_never_shown(make: Any) -> None:
    client = make(KEY)
    assert KEY not in repr(client)
    assert KEY not in repr(vars(client))


@pytest.mark.parametrize("make", [AsyncClient, Client, vl])
def test_tracebacks_hold_no_key(make: Any) -> None:
    def attempt() -> None:
        make("ab\n" + KEY)  # the caller's own frame has no local either

    try:
        attempt()
    except ConfigurationError:
        shown = traceback.TracebackException(*sys.exc_info(), capture_locals=True)
        assert KEY not in "".join(frame for frame in shown.format() if "test_config" not in frame)
    else:
        pytest.fail("the key was taken")


@pytest.mark.parametrize(
    "options",
    [
        {"timeout": 0},
        {"timeout": "5"},
        {"retry": 0},
        {"retry": "often"},
        {"rate_limit": 0},
        {"rate_limit": float("nan")},
        {"rate_limit": "2"},
        {"max_connections": 0},
        {"max_connections": 1.5},
        {"headers": {"Bad Name": "x"}},
        {"headers": {"X-A": "a\nb"}},
        {"headers": {"X-A": 1}},
        {"headers": {"Content-Length": "5"}},
        {"model": "  "},
        {"http_client": "client"},
    ],
    ids=str,
)
def test_invalid_options(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        AsyncClient("k", **options)


def test_vl_takes_the_official_parameters() -> None:
    client = vl("k", "http://localhost:2020/v1", False, "m")
    assert isinstance(client, Client)
    assert (client.base_url, client.model) == ("http://localhost:2020/v1", "m")
    with pytest.raises(ConfigurationError, match="Photon"):
        vl(local=True)


@pytest.mark.parametrize(
    "url", ["http://user:hidden-word@[::1", "http://u:hidden-word@h:x/", "https://h/v1?key=hidden-word"]
)
def test_credentials_in_a_base_url_are_not_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        AsyncClient(KEY, base_url=url)
    assert "hidden-word" not in str(caught.value)
