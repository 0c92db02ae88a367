"""Keys stay hidden in reprs, traceback locals, logs and errors; errors say which key was refused."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import attrs
import httpx
import pytest

import moondream_async as md
from moondream_async import AsyncClient, Client, EncodedImage, Hooks
from moondream_async._hidden import HiddenBytes, HiddenStr, is_credential, without_query
from moondream_async._http import transport
from moondream_async.fal import AsyncFalClient, FalClient
from moondream_async.hooks import RequestInfo
from tests.support.loopback import Exchange, serve, until
from tests.support.sandboxes import PooledSandbox
from tests.support.secrets import CALLS, read_stream, visible_in

KEY = "md-SECRET-0123456789abcdef"
FAL_KEY = "0a1b2c3d:SECRET-fedcba9876543210"
OWN = {
    "Authorization": "Bearer SECRET-of-the-gateway",
    "Cookie": "session=SECRET-of-the-cookie",
    "X-Api-Key": "SECRET-of-the-proxy",
    "X-Auth-Token": "SECRET-token",
    "X-Team": "shown",
}
URL = "http://127.0.0.1:9/v1"


class Failing(httpx.AsyncBaseTransport):
    """A user's transport with a bug."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise KeyError("bug")


class FailingBody(httpx.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"data: {}\n\n"
        raise RuntimeError("the loop is closed")


@pytest.mark.parametrize("name", CALLS)
async def test_tracebacks_of_cancelled_and_timed_out_calls(name: str, tiny: EncodedImage) -> None:
    hanging = asyncio.Event()

    async def handler(_: Exchange) -> None:
        hanging.set()
        await asyncio.sleep(60)

    async with serve(handler) as server, AsyncClient(KEY, base_url=server.base_url, headers=OWN, retry=1) as client:
        task = asyncio.ensure_future(CALLS[name](client, tiny))
        await hanging.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await task
        quick = client.with_options(timeout=md.Timeouts(idle=0.05, connect=5))
        with pytest.raises(md.MoondreamError) as timed_out:
            await CALLS[name](quick, tiny)
        for error in (cancelled.value, timed_out.value):
            assert "SECRET" not in visible_in(error)


async def test_tracebacks_while_a_request_is_written(tiny: EncodedImage) -> None:
    """Locals of httpcore and h11 hold the request in wire format."""

    class Stuck(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            bytes_to_send = b"".join(b"%s: %s\r\n" % header for header in request.headers.raw)
            await asyncio.sleep(60)
            return httpx.Response(200, content=bytes_to_send)

    async with AsyncClient(KEY, base_url=URL, http_client=Stuck()) as client:
        with pytest.raises(TimeoutError) as caught:
            async with asyncio.timeout(0.05):
                await client.query(tiny, "?")
    assert "SECRET" not in visible_in(caught.value)


async def test_the_callers_traceback_is_unchanged(tiny: EncodedImage) -> None:
    async with AsyncClient(KEY, base_url=URL, http_client=Failing(), retry=1) as client:
        traces: list[Any] = []
        try:
            raise LookupError("the caller's")
        except LookupError as outer:
            with pytest.raises(md.APIConnectionError):
                await client.query(tiny, "?")
            traces.append(outer.__traceback__)
    assert traces[0] is not None


@pytest.mark.parametrize("name", CALLS)
async def test_errors_of_a_users_transport_are_converted(name: str, tiny: EncodedImage) -> None:
    async with AsyncClient(KEY, base_url=URL, headers=OWN, http_client=Failing()) as client:
        with pytest.raises(md.APIConnectionError, match=r"KeyError: 'bug' \(test_keys.py, line \d+\)") as caught:
            await CALLS[name](client, tiny)
    assert "SECRET" not in visible_in(caught.value)
    assert caught.value.attempts == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_errors_while_reading_a_response_are_converted(stream: bool, tiny: EncodedImage) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        kind = "text/event-stream" if stream else "application/json"
        return httpx.Response(200, stream=FailingBody(), headers={"content-type": kind})

    async with AsyncClient(KEY, base_url=URL, http_client=httpx.MockTransport(answer)) as client:
        with pytest.raises(md.MoondreamError, match="RuntimeError: the loop is closed"):
            await (read_stream(client, tiny) if stream else client.caption(tiny))


async def test_assertions_in_a_transport_are_not_converted(tiny: EncodedImage) -> None:
    def answer(_: httpx.Request) -> httpx.Response:
        raise AssertionError("not what was expected")

    async with AsyncClient(KEY, base_url=URL, http_client=httpx.MockTransport(answer)) as client:
        with pytest.raises(AssertionError, match="not what was expected"):
            await client.caption(tiny)


@pytest.mark.parametrize("name", CALLS)
async def test_tracebacks_of_closed_clients(name: str, tiny: EncodedImage) -> None:
    own = httpx.AsyncClient()
    await own.aclose()
    client = AsyncClient(KEY, base_url=URL, headers=OWN, http_client=own)
    with pytest.raises(md.ConfigurationError) as caught:
        await CALLS[name](client, tiny)
    assert "SECRET" not in visible_in(caught.value)


def test_reprs_of_the_parts_of_clients() -> None:
    client = AsyncClient(KEY, base_url=URL, headers=OWN)
    fal = AsyncFalClient(FAL_KEY, headers=OWN)
    http: Any = client._api.http  # pyright: ignore[reportPrivateUsage]
    connection: Any = fal._connection  # pyright: ignore[reportPrivateUsage]
    for part in (client, http, http.session, fal, connection.http, connection.http.session, fal._uploads):  # pyright: ignore[reportPrivateUsage]
        assert "SECRET" not in repr(vars(part))
    assert "SECRET" not in repr(connection) + repr(connection.auth) + repr(dict(connection.auth))
    assert "shown" in repr(client._api.requests._skill_headers)


def test_reprs_of_httpx_objects_of_calls() -> None:
    requests: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        return httpx.Response(200, json={"data": []})

    with Client(KEY, base_url=URL, headers=OWN, http_client=httpx.MockTransport(answer)) as client:
        client.models()
    request = requests[0]
    for shown in (request.headers, request.headers.raw, request.headers.items(), httpx.Headers(request.headers)):
        assert "SECRET" not in repr(shown)
    assert request.headers["authorization"] == OWN["Authorization"]
    assert request.headers["x-api-key"] == OWN["X-Api-Key"]


def test_hidden_strings_are_strings() -> None:
    hidden = HiddenStr("SECRET-value")
    assert hidden == "SECRET-value"
    assert f"{hidden}" == str(hidden) == "SECRET-value"
    assert "SECRET" not in repr([hidden, hidden[:6], hidden.encode(), hidden.encode()[:6], hidden.encode().decode()])
    data = hidden.encode("ascii")
    assert isinstance(data, HiddenBytes)
    assert type(bytes(data)) is HiddenBytes  # as h11 copies it
    assert data[0] == ord("S")
    assert hidden[0] == "S"


@pytest.mark.parametrize(
    ("name", "credential"),
    [
        ("Authorization", True),
        ("x-moondream-auth", True),
        ("Cookie", True),
        ("Proxy-Authorization", True),
        ("X-Api-Key", True),
        ("X-Goog-Api-Key", True),
        ("Ocp-Apim-Subscription-Key", True),
        ("apikey", True),
        ("CF-Access-Client-Secret", True),
        ("X-Amz-Security-Token", True),
        ("X-Team", False),
        ("User-Agent", False),
        ("traceparent", False),
        ("X-Keyboard", False),
    ],
)
def test_header_names_of_credentials(name: str, credential: bool) -> None:
    assert is_credential(name) is credential


@pytest.mark.parametrize("make", [AsyncClient, Client, AsyncFalClient, FalClient])
@pytest.mark.parametrize("wrong", [{"timeout": 0}, {"headers": {**OWN, "X-Bad": "a\n"}}, {"max_connections": 0}])
def test_tracebacks_of_refused_arguments(make: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(md.ConfigurationError) as caught:
        make(FAL_KEY, base_url=URL, **{"headers": OWN, **wrong})
    assert "SECRET" not in visible_in(caught.value)


def test_tracebacks_of_a_fal_key_of_two_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FAL_KEY_ID", "hidden-id")
    monkeypatch.setenv("FAL_KEY_SECRET", "hidden with blanks")
    with pytest.raises(md.ConfigurationError, match="FAL_KEY_ID and FAL_KEY_SECRET") as caught:
        AsyncFalClient()
    assert "hidden" not in visible_in(caught.value)


async def test_hooks_show_no_credentials(tiny: EncodedImage) -> None:
    shown: list[str] = []

    def request(info: RequestInfo) -> None:
        info.headers["X-Trace-Token"] = "SECRET"
        info.headers["X-Trace"] = "shown"
        shown.append(repr(info))

    async def handler(exchange: Exchange) -> None:
        assert "x-trace-token: secret" in exchange.head.lower()
        await exchange.answer({"caption": "a"})

    async with serve(handler) as server, AsyncClient(base_url=server.base_url, hooks=Hooks(request=request)) as client:
        await client.caption(tiny)
    assert "SECRET" not in shown[0]
    assert "shown" in shown[0]


@pytest.mark.parametrize("name", ["skill", "stream", "models", "batch", "tuning"])
async def test_debug_logs_of_httpcore(
    name: str, tiny: EncodedImage, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.DEBUG)
    monkeypatch.setattr(transport, "_is_mocked", lambda: True)

    async def handler(exchange: Exchange) -> None:
        echo = f"X-Echo: {KEY}\r\nX-Escaped: {KEY.replace('-', '%2D')}\r\nX-Cookie: SECRET-of-the-cookie\r\n"
        await exchange.answer({"error": {"message": f"bad {KEY}"}}, status=400, headers=echo)

    own = {"Cookie": OWN["Cookie"]}
    async with serve(handler) as server, AsyncClient(KEY, base_url=server.base_url, headers=own) as client:
        with pytest.raises(md.BadRequestError, match=r"bad \*\*\*"):
            await CALLS[name](client, tiny)
    assert "receive_response_headers.complete" in caplog.text
    assert "X-Escaped" in caplog.text
    assert "SECRET" not in caplog.text


async def test_fal_debug_logs_and_errors(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    secret = FAL_KEY.partition(":")[2]

    async def handler(exchange: Exchange) -> None:
        body = json.dumps({"detail": f"no user {secret}"}).replace("-", "\\u002d").encode()
        await exchange.answer(body, status=401, headers=f"X-Echo: {secret}\r\nX-Fal-Request-Id: {secret}\r\n")

    async with serve(handler) as server, AsyncFalClient(FAL_KEY, base_url=server.base_url) as fal:
        with pytest.raises(md.AuthenticationError, match=r"no user \*\*\*") as caught:
            await fal.status("fal-ai/x", "r1")
    assert "SECRET" not in caplog.text + visible_in(caught.value)
    assert "the key ending in 3210 from key=" in str(caught.value)
    assert "https://fal.ai/dashboard/keys" in str(caught.value)


async def test_tracebacks_of_cancelled_fal_calls() -> None:
    hanging = asyncio.Event()

    async def handler(_: Exchange) -> None:
        hanging.set()
        await asyncio.sleep(60)

    async with serve(handler) as server, AsyncFalClient(FAL_KEY, base_url=server.base_url, headers=OWN) as fal:
        for call in (fal.submit("fal-ai/x", {}), fal.upload(b"data"), fal.result("fal-ai/x", "r1")):
            hanging.clear()
            task = asyncio.ensure_future(call)
            await hanging.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            assert "SECRET" not in visible_in(caught.value)


@pytest.mark.parametrize("piece", [5, 1000])
async def test_a_key_in_the_events_of_a_stream(piece: int, tiny: EncodedImage) -> None:
    events: list[Any] = []

    async def handler(exchange: Exchange) -> None:
        await exchange.start_stream()
        data = json.dumps({"chunk": "a", "note": KEY}).replace("-", "\\u002d")
        whole = f"data: {data}\n\n".encode()
        for start in range(0, len(whole), piece):
            await exchange.chunk(whole[start : start + piece])
        for start in range(0, len(KEY), 3):
            await exchange.event({"chunk": KEY[start : start + 3]})
        error = json.dumps({"error": {"message": f"bad {KEY}", "code": KEY}}).replace("-", "\\u002d")
        await exchange.chunk(f"data: {error}\n\n".encode())
        await exchange.end_stream()

    hooks = Hooks(event=lambda info: events.append(info.data))
    async with serve(handler) as server, AsyncClient(KEY, base_url=server.base_url, hooks=hooks, retry=1) as client:
        with pytest.raises(md.StreamInterruptedError, match=r"bad \*\*\*") as caught:
            await read_stream(client, tiny)
    assert caught.value.partial == "a***"
    assert events[0] == {"chunk": "a", "note": "***"}
    assert "SECRET" not in visible_in(caught.value)


@pytest.mark.parametrize("escape", ["\\u002d", "%2D", "&#45;", "-"])
async def test_a_key_in_responses(escape: str, tiny: EncodedImage) -> None:
    async def handler(exchange: Exchange) -> None:
        text = json.dumps({"caption": "a", "note": {"seen": [KEY]}, "request_id": KEY})
        await exchange.answer(text.replace("-", escape).encode())

    async with serve(handler) as server, AsyncClient(KEY, base_url=server.base_url) as client:
        result = await client.caption(tiny)
    assert result.extra == {"note": {"seen": ["***"]}}
    assert result.request_id == "***"


async def test_credentials_in_the_users_headers_are_redacted(tiny: EncodedImage) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer({"error": {"message": " ".join(OWN.values())}}, status=403)

    async with serve(handler) as server, AsyncClient(base_url=server.base_url, headers=OWN) as client:
        with pytest.raises(md.PermissionDeniedError) as caught:
            await client.caption(tiny)
    assert "SECRET" not in str(caught.value)
    assert "shown" in str(caught.value)


@pytest.mark.parametrize(
    ("key", "environment", "hint"),
    [
        (KEY, None, "the key ending in cdef from api_key=."),
        (None, KEY, "the key ending in cdef from MOONDREAM_API_KEY."),
        ("short-key-12345", None, "the key from api_key=."),
        ("id:short-secret", None, "the key from api_key=."),
        (None, None, "No key was sent: set MOONDREAM_API_KEY or pass api_key=..."),
    ],
)
async def test_errors_say_which_key_was_refused(
    key: str | None, environment: str | None, hint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer({"error": {"message": "no"}}, status=401)

    if environment:
        monkeypatch.setenv("MOONDREAM_API_KEY", environment)
    async with serve(handler) as server, AsyncClient(key, base_url=server.base_url) as client:
        with pytest.raises(md.AuthenticationError) as caught:
            await client.models()
    assert hint in str(caught.value)
    assert "https://moondream.ai/c/cloud/api-keys" in str(caught.value)
    assert caught.value.message == "no"


def test_the_command_says_which_key_was_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from moondream_async._cli import main

    monkeypatch.setenv("MOONDREAM_API_KEY", KEY)
    with PooledSandbox(api_key="another") as sandbox:
        monkeypatch.setenv("MOONDREAM_BASE_URL", sandbox.base_url)
        assert main(["models"]) == 1
    assert "the key ending in cdef from MOONDREAM_API_KEY" in capsys.readouterr().err


async def test_errors_name_the_address_and_the_attempts(tiny: EncodedImage) -> None:
    async def handler(exchange: Exchange) -> None:
        if "/query" in exchange.head:
            await asyncio.sleep(60)
        elif "/models" in exchange.head:
            await exchange.answer({"error": {"message": "none"}}, status=404)
        elif "/detect" in exchange.head:
            await exchange.answer(b"<html><title>Welcome</title></html>", headers="Content-Type: text/html\r\n")
        elif "/point" in exchange.head:
            await exchange.answer({"error": {"message": "busy"}}, status=503)
        else:
            exchange.cut()

    policy = md.RetryPolicy(attempts=2, backoff=0)
    async with serve(handler) as server:
        url = server.base_url
        async with AsyncClient(KEY, base_url=url, retry=policy, timeout=md.Timeouts(total=0.1)) as client:
            for call, name, rest in (
                (client.query(tiny, "?"), "query", "within 0.1 s (Timeouts.total). (after 2 attempts)"),
                (client.caption(tiny), "caption", "(after 2 attempts)"),
                (read_stream(client, tiny), "caption", "(after 2 attempts)"),
                (client.models(), "models", f"none (HTTP 404, {url}/models)"),
                (client.detect(tiny, "x"), "detect", "Is the base URL that of a Moondream server?"),
            ):
                with pytest.raises(md.MoondreamError) as caught:
                    await call
                assert f"{url}/{name}" in str(caught.value)
                assert rest in str(caught.value)
            with pytest.raises(md.ServerError) as busy:
                await client.point(tiny, "x")
            assert str(busy.value) == "busy (HTTP 503, after 2 attempts)"
            assert busy.value.url == f"{url}/point"
        idle = AsyncClient(KEY, base_url=url, retry=1, timeout=md.Timeouts(idle=0.05))
        with pytest.raises(md.APITimeoutError, match=f"{url}/query sent nothing"):
            await idle.query(tiny, "?")
        limited = AsyncClient(KEY, base_url=url, retry=md.RetryPolicy(deadline=0.05))
        with pytest.raises(md.APITimeoutError, match=f"{url}/query within 0.05 s .RetryPolicy.deadline"):
            await limited.query(tiny, "?")
    with pytest.raises(md.APIConnectionError, match=f"The connection to {url}/query failed"):
        await AsyncClient(KEY, base_url=url, retry=1).query(tiny, "?")


@pytest.mark.parametrize(
    "proxy",
    [
        "http://user:pa55word/x@proxy.example:3128",
        "http://user:pa55word@127.0.0.1:9",
        "http://user:pa55%77ord%2F@127.0.0.1:9",
        "http://us:pa55word@pa55word@127.0.0.1:9",
        "socks5://user:pa55word@127.0.0.1:9",
        "ftp://user:pa55word@127.0.0.1:9",
        "http://user:pa55word@[::1",
        "user:pa55word@127.0.0.1:port",
        "http://user:pa55word@127.0.0.1:999999",
    ],
)
def test_proxy_passwords(proxy: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, proxy)
    for url in ("http://moondream.invalid/v1", "https://moondream.invalid/v1"):
        with pytest.raises(md.MoondreamError) as caught, Client(KEY, base_url=url, retry=1, timeout=3) as client:
            client.models()
        assert "pa55" not in str(caught.value) + repr(caught.value) + caplog.text


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://u:p@host:1/a/b?sig=1#x", "https://host:1/a/b"),
        ("https://u@v:p@host/a?x=https://other", "https://host/a"),
        ("https://host?sig=1", "https://host"),
        ("/relative?sig=1", "/relative"),
        ("u:p@host/a", "host/a"),
        ("", ""),
    ],
)
def test_urls_are_shown_without_secrets(url: str, shown: str) -> None:
    assert without_query(url) == shown


async def test_a_hanging_write_shows_no_key(tiny: EncodedImage) -> None:
    """With the real transport, the request's bytes are in the locals of httpcore while a body cannot be written."""
    stuck = asyncio.Event()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await stuck.wait()
        writer.close()

    listener = await asyncio.start_server(connected, "127.0.0.1", 0, limit=1)
    port = listener.sockets[0].getsockname()[1]
    try:
        big = attrs.evolve(tiny, uri=tiny.uri + b"x" * 30_000_000)
        async with AsyncClient(KEY, base_url=f"http://127.0.0.1:{port}/v1", retry=1) as client:
            task = asyncio.ensure_future(client.query(big, "?"))
            await until(lambda: client.stats.bytes_sent > 0)
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
    finally:
        stuck.set()
        listener.close()
    assert "SECRET" not in visible_in(caught.value)
