"""Webhooks: only what fal signed is accepted. The sandbox sends real ones."""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import json
import sys
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from moondream_async import ConfigurationError
from moondream_async._fal.webhooks import keys_of
from moondream_async._sandbox.fal.webhooks import Webhooks
from moondream_async.fal import AsyncFalClient, FalClient, WebhookVerificationError, verify_webhook
from moondream_async.sandbox import Sandbox
from tests.support.fal import KEY
from tests.support.loopback import Exchange, serve, until
from tests.support.sandboxes import PooledSandbox

ECHO = "sandbox/echo"
BODY = json.dumps({"request_id": "r1", "gateway_request_id": "g1", "status": "OK", "payload": {"output": "x"}}).encode()
NOW = 1_800_000_000


@pytest.fixture(scope="module")
def signer() -> Webhooks:
    return Webhooks()


def test_a_valid_webhook(signer: Webhooks) -> None:
    headers = signer.signed_headers("r1", BODY, now=NOW)
    event = verify_webhook(headers, BODY, keys_of(signer.jwks()), now=NOW + 299)
    assert (event.request_id, event.gateway_request_id, event.ok, event.payload) == ("r1", "g1", True, {"output": "x"})
    others = [key for _ in range(2) for key in keys_of(Webhooks().jwks())]
    lower = {name.lower(): value for name, value in headers.items()}
    assert verify_webhook(lower, bytearray(BODY), [*others, *keys_of(signer.jwks())], now=NOW).ok


def test_the_documented_message_and_an_independent_signature() -> None:
    """Follow the five steps of fal's documentation with a key generated here."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    key = Ed25519PrivateKey.generate()
    message = f"r\nu\n{NOW}\n{hashlib.sha256(BODY).hexdigest()}"
    headers = {
        "X-Fal-Webhook-Request-Id": "r",
        "X-Fal-Webhook-User-Id": "u",
        "X-Fal-Webhook-Timestamp": str(NOW),
        "X-Fal-Webhook-Signature": key.sign(message.encode("utf-8")).hex(),
    }
    assert verify_webhook(headers, BODY, [key.public_key().public_bytes_raw()], now=NOW).ok


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"body": BODY + b" "}, "signature"),
        ({"x-fal-webhook-request-id": "r2"}, "signature"),
        ({"x-fal-webhook-user-id": "other"}, "signature"),
        ({"x-fal-webhook-timestamp": str(NOW + 1)}, "signature"),
        ({"x-fal-webhook-signature": "00" * 64}, "signature"),
        ({"x-fal-webhook-signature": "no hex"}, "signature"),
        ({"x-fal-webhook-signature": ""}, "lacks"),
        ({"x-fal-webhook-request-id": ""}, "lacks"),
        ({"x-fal-webhook-timestamp": "1e9"}, "timestamp"),
        ({"x-fal-webhook-timestamp": "-1"}, "timestamp"),
        ({"x-fal-webhook-timestamp": "٣"}, "timestamp"),
        ({"now": NOW + 301}, "old"),
        ({"now": NOW - 301}, "ahead"),
        ({"keys": []}, "signature"),
    ],
)
def test_invalid_webhooks(change: dict[str, Any], message: str, signer: Webhooks) -> None:
    headers = {name.lower(): value for name, value in signer.signed_headers("r1", BODY, now=NOW).items()}
    arguments: dict[str, Any] = {"body": BODY, "now": NOW, "keys": keys_of(signer.jwks())}
    for name, value in change.items():
        (arguments if name in arguments else headers)[name] = value
    with pytest.raises(WebhookVerificationError, match=message):
        verify_webhook(headers, arguments["body"], arguments["keys"], now=arguments["now"])


@pytest.mark.parametrize("body", [b"[]", b"no json", b"{}"])
def test_an_invalid_body_with_a_valid_signature(body: bytes, signer: Webhooks) -> None:
    headers = signer.signed_headers("r1", body, now=NOW)
    with pytest.raises(WebhookVerificationError, match="Invalid webhook body"):
        verify_webhook(headers, body, keys_of(signer.jwks()), now=NOW)


def test_a_body_that_is_not_bytes(signer: Webhooks) -> None:
    with pytest.raises(ConfigurationError, match="unchanged bytes"):
        verify_webhook({}, BODY.decode(), [])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize(
    "jwks",
    [
        None,
        [],
        {},
        {"keys": 5},
        {"keys": [5, {}, {"x": 5}, {"x": "AAAA"}, {"x": "é"}, {"kty": "EC", "crv": "P-256", "x": "A" * 43}]},
    ],
)
def test_key_sets_without_valid_keys(jwks: Any) -> None:
    assert keys_of(jwks) == []


def test_without_the_extra(signer: Webhooks, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("cryptography.exceptions", "cryptography.hazmat.primitives.asymmetric.ed25519"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ConfigurationError, match=r"moondream-async\[fal\]"):
        verify_webhook(signer.signed_headers("r1", BODY, now=NOW), BODY, keys_of(signer.jwks()), now=NOW)


async def test_the_sandbox_sends_webhooks(fal: AsyncFalClient, scene: bytes) -> None:
    """The sandbox retries until a webhook is accepted; the client fetches the keys once."""
    received: list[Exchange] = []

    async def handler(exchange: Exchange) -> None:
        received.append(exchange)
        await exchange.answer({}, status=500 if len(received) == 1 else 200)

    async with serve(handler) as server:
        url = server.base_url + "/hook?a=1"
        handle = await fal.submit("fal-ai/moondream3-preview/caption", {"image_url": scene}, webhook_url=url)
        failing = await fal.submit("sandbox/fail", {"status": 422}, webhook_url=url)
        await until(lambda: len(received) == 3)
    events = [await fal.verify_webhook(headers_of(exchange), exchange.body) for exchange in received]
    before = fal.stats.requests
    by_id = {event.request_id: event for event in events}
    assert "red square" in by_id[handle.request_id].payload["output"]
    assert not by_id[failing.request_id].ok
    assert by_id[failing.request_id].error == "Invalid status code: 422"
    assert received[0].head.startswith("POST /v1/hook?a=1 ")
    with pytest.raises(WebhookVerificationError):
        await fal.verify_webhook(headers_of(received[0]), received[0].body + b" ")
    assert fal.stats.requests == before  # forged webhooks do not cause further fetches of the keys


def headers_of(exchange: Exchange) -> dict[str, str]:
    return dict(line.split(": ", 1) for line in exchange.head.split("\r\n")[1:] if ": " in line)


async def test_keys_are_fetched_again_when_the_cached_ones_do_not_fit() -> None:
    with PooledSandbox() as sandbox:
        async with AsyncFalClient(base_url=sandbox.fal_url) as client:
            old, new = Webhooks(), sandbox._app.state.fal.webhooks
            now = int(time.time())
            client._webhook_keys = (time.time() - 3600, keys_of(old.jwks()))
            assert (await client.verify_webhook(new.signed_headers("r1", BODY, now=now), BODY)).ok
            assert client.stats.requests == 1


def test_sync(fal_sandbox: Sandbox) -> None:
    signer: Webhooks = fal_sandbox._app.state.fal.webhooks
    with FalClient(KEY, base_url=fal_sandbox.fal_url) as client:
        headers = signer.signed_headers("r1", BODY, now=int(time.time()))
        assert client.verify_webhook(headers, BODY).ok


async def test_the_fastapi_example(fal_sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """A FastAPI application receives what the sandbox sends."""
    import uvicorn

    monkeypatch.setenv("FAL_BASE_URL", fal_sandbox.fal_url)
    monkeypatch.setenv("FAL_KEY", KEY)
    path = Path(__file__).parents[3] / "examples" / "fal_webhook.py"
    spec = importlib.util.spec_from_file_location("fal_webhook", path)
    assert spec is not None
    assert spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = uvicorn.Server(uvicorn.Config(module.app, port=0, log_level="critical", ws="none"))
    task = asyncio.create_task(server.serve())
    try:
        await until(lambda: server.started)
        url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/fal"
        async with AsyncFalClient(KEY, base_url=fal_sandbox.fal_url) as client:
            handle = await client.submit(ECHO, {"a": 1}, webhook_url=url)
            await until(lambda: handle.request_id in module.results)
        assert module.results[handle.request_id] == {"arguments": {"a": 1}}
        async with httpx.AsyncClient() as forger:
            assert (await forger.post(url, json={"request_id": "x", "status": "OK"})).status_code == 403
    finally:
        server.should_exit = True
        await task


async def test_concurrent_calls_fetch_the_keys_once(fal_sandbox: Sandbox) -> None:
    signer: Webhooks = fal_sandbox._app.state.fal.webhooks
    async with AsyncFalClient(KEY, base_url=fal_sandbox.fal_url) as client:
        headers = signer.signed_headers("r1", BODY, now=int(time.time()))
        await asyncio.gather(*(client.verify_webhook(headers, BODY) for _ in range(20)))
        assert client.stats.requests == 1


async def test_forged_webhooks_while_the_keys_cannot_be_fetched() -> None:
    with PooledSandbox(on="keys", status=500, times=0) as sandbox:
        async with AsyncFalClient(base_url=sandbox.fal_url, retry=1) as client:
            client._webhook_keys = (time.time() - 3600, keys_of(Webhooks().jwks()))
            headers = Webhooks().signed_headers("r1", BODY, now=int(time.time()))
            for _ in range(5):
                with pytest.raises(WebhookVerificationError):
                    await client.verify_webhook(headers, BODY)
            with pytest.raises(WebhookVerificationError):
                await client.verify_webhook({**headers, "X-Fal-Webhook-User-Id": "\udcff"}, BODY)
            assert client.stats.requests == 1


@pytest.mark.parametrize("headers", [None, [("a", "b")], "text"])
def test_headers_that_are_not_a_mapping(headers: Any) -> None:
    with pytest.raises(ConfigurationError, match="mapping"):
        verify_webhook(headers, BODY, [])


def test_header_bytes_and_invalid_values(signer: Webhooks) -> None:
    headers = signer.signed_headers("r1", BODY, now=NOW)
    as_bytes: Any = {name.encode(): value.encode() for name, value in headers.items()}
    assert verify_webhook({**as_bytes, 5: 5}, BODY, keys_of(signer.jwks()), now=NOW).ok
    for name, value in (("Signature", 5), ("Timestamp", None), ("Request-Id", "r" * 2_000), ("Signature", "ab " * 300)):
        with pytest.raises(WebhookVerificationError):
            verify_webhook({**headers, f"X-Fal-Webhook-{name}": value}, BODY, keys_of(signer.jwks()), now=NOW)
    keys: Any = [None, "text", b"short", *keys_of(signer.jwks())]
    assert verify_webhook(headers, BODY, keys, now=NOW).ok


def test_a_key_set_is_bounded(signer: Webhooks) -> None:
    key = signer.jwks()["keys"][0]
    invalid: list[Any] = [{**key, "x": value} for value in (None, 5, [], "é", "A" * 10_000_000)]
    assert len(keys_of({"keys": [*invalid, *[key] * 10_000]})) == 64


def test_a_body_that_is_nested_too_deeply(signer: Webhooks) -> None:
    for depth in (400, 900, 100_000):
        body = b'{"request_id": "r1", "status": "ERROR", "error": ' + b"[" * depth + b"]" * depth + b"}"
        headers = signer.signed_headers("r1", body, now=NOW)
        try:
            assert verify_webhook(headers, body, keys_of(signer.jwks()), now=NOW).error
        except WebhookVerificationError as exc:
            assert "JSON" in exc.message  # noqa: PT017 - whether it can be parsed depends on the interpreter
