"""Proxies of the environment: the hosts that use them, and the errors when they do not work."""

from __future__ import annotations

import ssl
from typing import Any

import pytest
import trustme

import moondream_async as md
from moondream_async import AsyncClient, EncodedImage, RetryPolicy
from moondream_async._http import transport
from moondream_async._http.proxies import EnvironmentProxies, is_loopback, is_proxied
from tests.support.loopback import Exchange, serve

PROXY = "http://user:secret@proxy.example:3128"


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.8.7", "127.1", "::1", "::ffff:127.0.0.1", "0.0.0.0"],
)
def test_loopback_is_never_proxied(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, PROXY)
    assert is_loopback(host)
    shown = f"[{host}]" if ":" in host else host
    assert not is_proxied(f"http://{shown}:2020/v1")
    assert not is_proxied(f"https://{shown}/v1")


@pytest.mark.parametrize(
    "host", ["moondream.ai", "localhost.example", "128.0.0.1", "10.0.0.1", "fe80::1", "1270.0.0.1"]
)
def test_not_loopback(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize(
    ("no_proxy", "url", "is_exempt"),
    [
        ("*", "http://a.example", True),
        ("example.com", "http://example.com", True),
        ("example.com", "http://api.example.com", True),
        ("example.com", "http://notexample.com", False),
        (".example.com", "http://api.example.com", True),
        ("*.example.com", "http://api.example.com", True),
        ("*.example.com", "http://other.com", False),
        ("EXAMPLE.com", "http://Example.COM", True),
        ("example.com:8080", "http://example.com:8080", True),
        ("example.com:8080", "http://example.com", False),
        ("example.com:443", "https://example.com", True),
        ("https://example.com", "https://example.com", True),
        ("https://example.com", "http://example.com", False),
        ("a.example , b.example", "http://b.example", True),
        ("a.example b.example", "http://b.example", True),
        ("10.0.0.0/8", "http://10.1.2.3", True),
        ("10.0.0.0/8", "http://11.1.2.3", False),
        ("10.1.2.3", "http://10.1.2.3:99", True),
        ("10.1.2.3:98", "http://10.1.2.3:99", False),
        ("192.168.*", "http://192.168.7.7", True),
        ("fe80::/10", "http://[fe80::1]:2020", True),
        ("fe80::/10", "http://[fec0::1]", False),
        ("[fe80::]/10", "http://[fe80::1]", True),
        ("2001:db8::1", "http://[2001:db8::1]", True),
        ("[2001:db8::1]", "http://[2001:db8:0::1]:80", True),
        ("[2001:db8::1]:81", "http://[2001:db8::1]:80", False),
        ("[2001:db8::1]:81", "http://[2001:db8::1]:81", True),
        ("bücher.example", "http://xn--bcher-kva.example", True),
        # Invalid entries are ignored.
        ("[::1", "http://a.example", False),
        ("]:", "http://a.example", False),
        ("10.0.0.0/99,a.example", "http://a.example", True),
        ("[x]:y,:,.,://,,/,a.example:99999999", "http://a.example", False),
        ("." * 70 + "\u2603" * 70, "http://a.example", False),
    ],
)
def test_no_proxy(no_proxy: str, url: str, is_exempt: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", PROXY)
    monkeypatch.setenv("no_proxy", no_proxy)
    assert is_proxied(url) is not is_exempt


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"])
def test_a_proxy_names_its_source(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, PROXY)
    proxy = EnvironmentProxies().find("http", "a.example", None)
    assert str(proxy) == f"the proxy http://proxy.example:3128 (set in {name})"
    assert "secret" not in repr(proxy)
    assert proxy is not None
    assert proxy.auth == (b"user", b"secret")


@pytest.mark.parametrize("name", ["http_proxy", "all_proxy"])
async def test_a_proxy_that_cannot_be_reached_is_named(
    name: str, tiny: EncodedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, "http://user:secret@127.0.0.1:9")
    policy = RetryPolicy(attempts=2, backoff=0)
    async with AsyncClient(base_url="http://a.example/v1", retry=policy) as client:
        with pytest.raises(md.APIConnectionError) as caught:
            await client.query(tiny, "?")
    assert f"http://a.example/v1/query (through the proxy http://127.0.0.1:9 (set in {name}))" in str(caught.value)
    assert "secret" not in str(caught.value)
    assert caught.value.attempts == 2


async def test_a_proxy_that_refuses_a_tunnel_is_named(tiny: EncodedImage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def proxy(exchange: Exchange) -> None:
        assert exchange.head.startswith("CONNECT a.example:443 ")
        await exchange.send(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")

    async with serve(proxy) as server:
        monkeypatch.setenv("https_proxy", server.base_url.removesuffix("/v1"))
        async with AsyncClient("k", base_url="https://a.example/v1", retry=1) as client:
            with pytest.raises(md.APIConnectionError, match=r"through the proxy .* \(set in https_proxy\).* 407"):
                await client.query(tiny, "?")


async def test_a_tunnel(tiny: EncodedImage, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tunnel is reused; the proxy's credentials go only to the proxy, and the key only to the server."""
    heads: list[str] = []
    authority = trustme.CA()
    context, trusting = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
    authority.issue_cert("a.example").configure_cert(context)
    authority.configure_trust(trusting)
    monkeypatch.setattr(transport, "shared_ssl_context", lambda: trusting)

    async def proxy(exchange: Exchange) -> None:
        heads.append(exchange.head)
        if exchange.head.startswith("CONNECT"):
            await exchange.send(b"HTTP/1.1 200 OK\r\n\r\n")
            await exchange.writer.start_tls(context)
        else:
            await exchange.answer({"answer": "yes"})

    async with serve(proxy) as server:
        monkeypatch.setenv("https_proxy", server.base_url.removesuffix("/v1").replace("//", "//user:secret@"))
        async with AsyncClient("k" * 20, base_url="https://a.example/v1", retry=1) as client:
            for _ in range(3):
                assert (await client.query(tiny, "?")).answer == "yes"
    assert [head.partition(" ")[0] for head in heads] == ["CONNECT", "POST", "POST", "POST"]
    assert "Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=" in heads[0]
    assert "k" * 20 not in heads[0]
    assert not any("proxy-auth" in head.lower() for head in heads[1:])


async def test_a_surplus_response_through_a_proxy(tiny: EncodedImage, monkeypatch: pytest.MonkeyPatch) -> None:
    async def proxy(exchange: Exchange) -> None:
        for answer in (f'{{"answer":"{exchange.number}"}}', '{"answer":"EXTRA"}'):
            await exchange.send(f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\n\r\n{answer}".encode())

    async with serve(proxy) as server:
        monkeypatch.setenv("http_proxy", server.base_url.removesuffix("/v1"))
        async with AsyncClient(base_url="http://a.example/v1", retry=1) as client:
            assert [(await client.query(tiny, "?")).answer for _ in range(3)] == ["1", "2", "3"]


@pytest.mark.parametrize(
    ("proxy", "problem"),
    [
        ("socks5://user:secret@127.0.0.1:9", r"pip install 'moondream-async\[socks\]'"),
        ("socks5h://user:secret@127.0.0.1:9", r"pip install 'moondream-async\[socks\]'"),
        ("ftp://user:secret@127.0.0.1:9", "scheme is 'ftp'"),
        ("http://user:secret@127.0.0.1:nine", "not valid"),
        ("http://user:secret@127.0.0.1:99999", "not valid"),
        ("http://user:secret@256.1.1.1:1", "."),
    ],
)
async def test_proxies_that_cannot_be_used(
    proxy: str, problem: str, tiny: EncodedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    if proxy.startswith("socks"):
        import httpcore

        def missing(*_: Any, **__: Any) -> None:
            raise RuntimeError("no socksio")

        monkeypatch.setattr(httpcore, "AsyncSOCKSProxy", missing)
    monkeypatch.setenv("all_proxy", proxy)
    async with AsyncClient(base_url="http://a.example/v1") as client:
        with pytest.raises(md.MoondreamError, match=problem) as caught:
            await client.query(tiny, "?")
    assert "all_proxy" in str(caught.value)
    assert "secret" not in str(caught.value)
    if problem != ".":
        assert isinstance(caught.value, md.ConfigurationError)
