"""Certificates: those that the environment names, and untrusted servers."""

from __future__ import annotations

import datetime
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
import trustme

import moondream_async as md
from moondream_async import AsyncClient, EncodedImage
from moondream_async._http import tls, transport
from tests.support.loopback import Exchange, serve, serve_in_thread


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    tls.shared_ssl_context.cache_clear()
    yield
    tls.shared_ssl_context.cache_clear()


async def say_yes(exchange: Exchange) -> None:
    await exchange.answer({"answer": "yes"})


@pytest.mark.parametrize("what", ["missing", "folder", "empty", "text", "key"])
async def test_a_file_without_certificates(
    what: str, tiny: EncodedImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "cacert.pem"
    if what == "folder":
        path.mkdir()
    elif what != "missing":
        text = {"empty": b"", "text": b"hello\n", "key": trustme.CA().private_key_pem.bytes()}[what]
        path.write_bytes(text)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))
    async with AsyncClient("k", base_url="https://127.0.0.1:9/v1") as client:
        with pytest.raises(md.ConfigurationError, match=r"SSL_CERT_FILE is '.*cacert\.pem'"):
            await client.query(tiny, "?")
        assert client.stats.retries == 0


@pytest.mark.parametrize("what", ["missing", "file", "empty", "unhashed"])
async def test_a_directory_without_certificates(
    what: str, tiny: EncodedImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "certs"
    if what == "file":
        path.write_text("hello")
    elif what != "missing":
        path.mkdir()
    if what == "unhashed":
        trustme.CA().cert_pem.write_to_path(path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_DIR", str(path))
    async with AsyncClient("k", base_url="https://127.0.0.1:9/v1") as client:
        with pytest.raises(md.ConfigurationError, match=r"SSL_CERT_DIR is '.*certs'"):
            await client.query(tiny, "?")


async def test_a_broken_variable_does_not_affect_http(tiny: EncodedImage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/nonexistent.pem")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nonexistent.pem")
    async with serve(say_yes) as server, AsyncClient(base_url=server.base_url) as client:
        assert (await client.query(tiny, "?")).answer == "yes"


async def test_a_good_file(tiny: EncodedImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_DIR", "/nonexistent")
    async with serve(say_yes, tls=context) as server, AsyncClient("k", base_url=server.base_url) as client:
        assert (await client.query(tiny, "?")).answer == "yes"


PAST = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)


@pytest.mark.parametrize("loop", ["asyncio", "trio"])
@pytest.mark.parametrize("flaw", ["unknown authority", "expired", "other host"])
def test_certificates_that_are_not_trusted(
    loop: str, flaw: str, tiny: EncodedImage, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, context = trustme.CA(), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    name = "elsewhere.example" if flaw == "other host" else "localhost"
    authority.issue_cert(name, not_after=PAST if flaw == "expired" else None).configure_cert(context)
    trusting = ssl.create_default_context()
    if flaw != "unknown authority":
        authority.configure_trust(trusting)
    monkeypatch.setattr(transport, "shared_ssl_context", lambda: trusting)
    caught: list[md.MoondreamError] = []

    async def main() -> None:
        async with AsyncClient("k", base_url=server.base_url) as client:
            try:
                await client.query(tiny, "?")
            except md.MoondreamError as exc:
                caught.append(exc)

    with serve_in_thread(say_yes, context) as server:
        if loop == "trio":
            trio.run(main)
        else:
            import asyncio

            asyncio.run(main())
    [error] = caught
    assert isinstance(error, md.APIConnectionError)
    assert "is not trusted" in str(error)
    assert error.attempts == 1
