"""Users' own clients and transports, of httpx and httpx2, behave alike."""

from __future__ import annotations

import asyncio
import gzip
import logging
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import anyio
import httpcore
import httpcore2
import httpx
import httpx2
import pytest
from httpx_aiohttp.httpx2 import AiohttpTransport

import moondream_async as md
from moondream_async import AsyncClient, Client, EncodedImage, RetryPolicy, Timeouts
from moondream_async._http.user_client import adapt
from moondream_async.fal import AsyncFalClient
from tests.support.batches import KEY as BATCH_KEY
from tests.support.batches import at_sandbox, photos
from tests.support.loopback import Exchange, serve, until
from tests.support.sandboxes import PooledSandbox
from tests.support.secrets import CALLS, visible_in

__all__ = ["at_sandbox", "photos"]

KEY = "md-SECRET-0123456789abcdef"
FAST = RetryPolicy(backoff=0)
ANSWER = {"answer": "yes", "request_id": "r"}

FAMILIES = pytest.mark.parametrize("family", [httpx, httpx2], ids=["httpx", "httpx2"])

Make = Callable[[], Any]
KINDS: dict[str, Make] = {
    "httpx client": httpx.AsyncClient,
    "httpx transport": httpx.AsyncHTTPTransport,
    "httpx2 client": httpx2.AsyncClient,
    "httpx2 transport": httpx2.AsyncHTTPTransport,
}


@pytest.fixture(params=KINDS)
async def own(request: pytest.FixtureRequest) -> AsyncIterator[Any]:
    """A user's client or transport, closed by the user."""
    async with KINDS[request.param]() as made:
        yield made


async def test_all_skills_and_streams(own: Any, scene: bytes, moondream_sandbox: Any) -> None:
    async with AsyncClient(base_url=moondream_sandbox.base_url, http_client=own) as client:
        assert (await client.query(scene, "What is this?")).answer
        assert (await client.caption(scene)).caption
        assert (await client.detect(scene, "circle")).objects
        assert (await client.point(scene, "circle")).points
        assert (await client.segment(scene, "circle")).path
        assert await client.models()
        async with await client.query(scene, "What is this?", stream=True) as stream:
            pieces = [piece async for piece in stream]
        assert "".join(pieces) == (await stream.result()).answer
        async with await client.segment(scene, "circle", stream=True) as updates:
            assert [update async for update in updates]
    assert not getattr(own, "is_closed", False)


async def test_requests_and_their_headers(own: Any, tiny: EncodedImage) -> None:
    heads: list[str] = []

    async def handler(exchange: Exchange) -> None:
        heads.append(exchange.head)
        assert exchange.json["question"] == "?"
        await exchange.answer(ANSWER)

    async with serve(handler) as server, AsyncClient(KEY, base_url=server.base_url, http_client=own) as client:
        for _ in range(3):
            assert (await client.query(tiny, "?")).answer == "yes"
        assert server.connections == 1
    for head in heads:
        lower = head.lower()
        assert f"x-moondream-auth: {KEY.lower()}\r\n" in lower
        assert "transfer-encoding" not in lower
        assert "user-agent: moondream-async/" in lower
        assert all(
            lower.count(f"\r\n{name}:") == 1 for name in ("host", "content-length", "user-agent", "accept-encoding")
        )


@pytest.mark.parametrize("status", [429, 503])
async def test_retries(own: Any, status: int, tiny: EncodedImage) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer(ANSWER, status=200 if exchange.number > 2 else status)

    async with serve(handler) as server:
        async with AsyncClient(base_url=server.base_url, retry=FAST, http_client=own) as client:
            assert (await client.query(tiny, "?")).meta.attempts == 3


@pytest.mark.parametrize("how", ["close", "garbage", "half", "silence", "drip"])
async def test_broken_servers(own: Any, how: str, tiny: EncodedImage) -> None:
    async def handler(exchange: Exchange) -> None:
        if exchange.number == 2:
            await exchange.answer(ANSWER)
        elif how == "garbage":
            await exchange.send(b"this is not HTTP\r\n\r\n")
            exchange.cut()
        elif how == "half":
            await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
            exchange.cut()
        elif how == "silence":
            await exchange.reader.read()
        elif how == "drip":
            await exchange.start_stream()
            for _ in range(100):
                await exchange.chunk(b" ")
                await asyncio.sleep(0.05)
        else:
            exchange.cut()

    timeouts = Timeouts(connect=1, idle=0.2, total=0.4)
    expected = md.APITimeoutError if how in ("silence", "drip") else md.APIConnectionError
    async with serve(handler) as server:
        async with AsyncClient(base_url=server.base_url, timeout=timeouts, retry=FAST, http_client=own) as client:
            result = await client.query(tiny, "?")
            assert (result.answer, result.meta.attempts) == ("yes", 2)
            server.requests = 0
            with pytest.raises(expected, match=server.base_url.rpartition("/")[0]):
                await client.with_options(retry=1).query(tiny, "?")


async def test_no_server(own: Any, tiny: EncodedImage) -> None:
    async with AsyncClient(base_url="http://127.0.0.1:1/v1", retry=1, http_client=own) as client:
        with pytest.raises(md.APIConnectionError, match=r"127\.0\.0\.1:1/v1/query failed"):
            await client.query(tiny, "?")
        with pytest.raises(md.APIConnectionError) as caught:  # it was not sent, so nothing may have been accepted
            await client._api.call(  # pyright: ignore[reportPrivateUsage]
                "POST", "tuning/x", lambda data, _: data, body=b"{}", non_idempotent=True
            )
        assert "may have been accepted" not in str(caught.value)


async def test_cut_streams(own: Any, tiny: EncodedImage) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start_stream()
        for word in ("a", "b"):
            await exchange.event({"chunk": word, "completed": False})
        exchange.cut()

    async with serve(handler) as server:
        async with AsyncClient(base_url=server.base_url, http_client=own) as client:
            with pytest.raises(md.StreamInterruptedError) as caught:
                await (await client.query(tiny, "?", stream=True)).result()
    assert caught.value.partial == "ab"


async def test_streams_that_are_left_close_their_connection(own: Any, tiny: EncodedImage) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.start_stream()
        await exchange.event({"chunk": "a", "completed": False})
        await exchange.reader.read()

    async with serve(handler) as server:
        async with AsyncClient(base_url=server.base_url, http_client=own) as client:
            async with await client.query(tiny, "?", stream=True) as stream:
                async for _ in stream:
                    break
            await until(lambda: server.open == 0)


async def test_httpx2_over_aiohttp(scene: bytes, moondream_sandbox: Any) -> None:
    async with AiohttpTransport() as own, AsyncClient(base_url=moondream_sandbox.base_url, http_client=own) as client:
        assert (await client.caption(scene)).caption
        assert (await (await client.caption(scene, stream=True)).result()).caption


@pytest.mark.parametrize("kind", KINDS)
def test_trio(kind: str, scene: bytes) -> None:
    async def main(url: str) -> None:
        async with KINDS[kind]() as own, AsyncClient(base_url=url, http_client=own) as client:
            assert (await client.caption(scene)).caption
            assert (await (await client.caption(scene, stream=True)).result()).caption

    with PooledSandbox() as sandbox:
        anyio.run(main, sandbox.base_url, backend="trio")


@FAMILIES
@pytest.mark.parametrize("name", ["AsyncClient", "AsyncHTTPTransport"])
def test_the_sync_client(family: Any, name: str, scene: bytes, moondream_sandbox: Any) -> None:
    # Its loop has ended when the user's client could be closed, so no connection may be kept.
    own = getattr(family, name)(limits=family.Limits(max_keepalive_connections=0))
    with Client(base_url=moondream_sandbox.base_url, http_client=own) as client:
        assert client.caption(scene).caption
        assert "".join(client.caption(scene, stream=True))


@FAMILIES
async def test_a_clients_headers_credentials_and_hooks(family: Any, tiny: EncodedImage) -> None:
    seen: list[str] = []

    async def handler(exchange: Exchange) -> None:
        seen.append(exchange.head.lower())
        await exchange.answer(ANSWER, headers="Set-Cookie: a=b\r\n")

    async def sending(request: Any) -> None:
        assert isinstance(request, family.Request)
        assert "SECRET" not in repr(request.headers) + repr(request.headers.raw)
        request.headers["X-Hook"] = "1"

    async def received(response: Any) -> None:
        seen.append(str(response.status_code))

    hooks: Any = {"request": [sending], "response": [received]}
    async with serve(handler) as server:
        async with family.AsyncClient(headers={"X-Mine": "1"}, auth=("me", "pw"), event_hooks=hooks) as own:
            async with AsyncClient(KEY, base_url=server.base_url, http_client=own) as client:
                assert (await client.query(tiny, "?")).answer == "yes"
    assert "x-mine: 1" in seen[0]
    assert "x-hook: 1" in seen[0]
    assert "authorization: basic " in seen[0]
    assert seen[1] == "200"


@FAMILIES
async def test_hooks_that_read_the_body(family: Any, tiny: EncodedImage, moondream_sandbox: Any) -> None:
    async def log(response: Any) -> None:
        await response.aread()

    async with family.AsyncClient(event_hooks={"response": [log]}) as own:
        async with AsyncClient(base_url=moondream_sandbox.base_url, http_client=own, timeout=5, retry=1) as client:
            assert await client.models()
            stream = await client.caption(tiny, stream=True)
            assert (await stream.result()).caption


@FAMILIES
@pytest.mark.parametrize("is_read", [False, True])
async def test_compressed_responses(family: Any, is_read: bool, tiny: EncodedImage) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer(gzip.compress(b'{"answer": "yes"}'), headers="Content-Encoding: gzip\r\n")

    async def read(response: Any) -> None:
        if is_read:
            await response.aread()

    async with serve(handler) as server, family.AsyncClient(event_hooks={"response": [read]}) as own:
        async with AsyncClient(base_url=server.base_url, http_client=own) as client:
            assert (await client.query(tiny, "?")).answer == "yes"


@FAMILIES
async def test_redirects_are_not_followed(family: Any, tiny: EncodedImage) -> None:
    async def handler(exchange: Exchange) -> None:
        await exchange.answer(b"", status=307, headers="Location: /elsewhere\r\n")

    async with serve(handler) as server, family.AsyncClient(follow_redirects=True) as own:
        async with AsyncClient(base_url=server.base_url, http_client=own, retry=1) as client:
            with pytest.raises(md.APIError):
                await client.query(tiny, "?")
        assert server.requests == 1


@FAMILIES
@pytest.mark.parametrize("stream", [False, True])
async def test_mock_transports(family: Any, stream: bool, tiny: EncodedImage) -> None:
    requests: list[Any] = []

    def answer(request: Any) -> Any:
        requests.append(request)
        if stream:
            event = b'data: {"chunk": "yes", "completed": true, "answer": "yes"}\n\n'
            return family.Response(200, content=event, headers={"content-type": "text/event-stream"})
        return family.Response(200, json=ANSWER)

    for own in (family.MockTransport(answer), family.AsyncClient(transport=family.MockTransport(answer))):
        async with AsyncClient(KEY, base_url="http://a.test/v1", http_client=own) as client:
            result = await client.query(tiny, "?", stream=stream)
            assert (await result.result() if stream else result).answer == "yes"  # type: ignore[union-attr]
    for request in requests:
        assert isinstance(request, family.Request)
        assert request.headers["x-moondream-auth"] == KEY
        assert request.extensions["timeout"] == {"connect": 10.0, "read": 120.0, "write": 120.0, "pool": None}


@FAMILIES
@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ConnectTimeout", md.APITimeoutError),
        ("ReadTimeout", md.APITimeoutError),
        ("WriteTimeout", md.APITimeoutError),
        ("PoolTimeout", md.APITimeoutError),
        ("ConnectError", md.APIConnectionError),
        ("ReadError", md.APIConnectionError),
        ("ProxyError", md.APIConnectionError),
        ("RemoteProtocolError", md.APIConnectionError),
        ("TooManyRedirects", md.APIConnectionError),
        ("DecodingError", md.APIConnectionError),
        ("StreamClosed", md.APIConnectionError),
        ("UnsupportedProtocol", md.ConfigurationError),
        ("InvalidURL", md.ConfigurationError),
        ("CookieConflict", md.APIConnectionError),
    ],
)
async def test_exceptions_are_mapped_alike(family: Any, name: str, expected: type, tiny: EncodedImage) -> None:
    def answer(_: Any) -> Any:
        raise getattr(family, name)(*[] if name == "StreamClosed" else [f"a {name}"])

    retried = expected is not md.ConfigurationError and name != "CookieConflict"
    for own in (family.MockTransport(answer), family.AsyncClient(transport=family.MockTransport(answer))):
        async with AsyncClient(KEY, base_url="http://a.test/v1", http_client=own, retry=FAST) as client:
            with pytest.raises(expected) as caught:
                await client.query(tiny, "?")
            assert type(caught.value) is expected
            assert caught.value.attempts == (FAST.attempts if retried else 1)
            if expected is not md.APITimeoutError and name != "StreamClosed":
                assert f"a {name}" in str(caught.value)


@FAMILIES
async def test_errors_of_a_users_hook(family: Any, tiny: EncodedImage) -> None:
    async def check(response: Any) -> None:
        response.raise_for_status()

    def answer(_: Any) -> Any:
        return family.Response(401)

    async with family.AsyncClient(transport=family.MockTransport(answer), event_hooks={"response": [check]}) as own:
        async with AsyncClient(KEY, base_url="http://a.test/v1", http_client=own, retry=1) as client:
            with pytest.raises(md.APIConnectionError, match="401 Unauthorized"):
                await client.query(tiny, "?")


@pytest.mark.parametrize("theirs", [httpx2, httpcore, httpcore2])
async def test_exceptions_of_a_users_transport_and_body(theirs: Any, tiny: EncodedImage) -> None:
    class OwnError(theirs.ReadError):
        """A subclass, as users' transports define."""

    class Body(httpx2.AsyncByteStream):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield b"{"
            raise OwnError("lost")

    class Transport(httpx2.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
            return httpx2.Response(200, stream=Body())

    adapted: Any = adapt(Transport())
    response = await adapted.handle_async_request(httpx.Request("GET", "http://a.test/"))
    with pytest.raises(httpx.ReadError, match="lost"):
        _ = [chunk async for chunk in response.stream]
    async with AsyncClient(base_url="http://a.test/v1", http_client=Transport(), retry=FAST) as client:
        with pytest.raises(md.APIConnectionError, match="lost") as caught:
            await client.query(tiny, "?")
    assert caught.value.attempts == FAST.attempts


@FAMILIES
@pytest.mark.parametrize("name", CALLS)
async def test_closed_clients(family: Any, name: str, tiny: EncodedImage) -> None:
    own = family.AsyncClient()
    await own.aclose()
    async with AsyncClient(KEY, base_url="http://a.test/v1", http_client=own) as client:
        with pytest.raises(md.ConfigurationError, match="http_client is closed") as caught:
            await CALLS[name](client, tiny)
    assert "SECRET" not in visible_in(caught.value)


@pytest.mark.parametrize("name", CALLS)
async def test_no_error_or_log_shows_the_key(
    own: Any, name: str, tiny: EncodedImage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    hanging = asyncio.Event()

    async def handler(exchange: Exchange) -> None:
        if exchange.number == 1:
            await exchange.answer({"error": {"message": f"bad {KEY}"}}, status=400, headers=f"X-Echo: {KEY}\r\n")
        elif exchange.number == 2:
            await exchange.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{")
            exchange.cut()
        else:
            hanging.set()
            await exchange.reader.read()

    async with serve(handler) as server:
        async with AsyncClient(KEY, base_url=server.base_url, retry=1, http_client=own) as client:
            for _ in range(2):
                with pytest.raises(md.MoondreamError) as caught:
                    await CALLS[name](client, tiny)
                assert "SECRET" not in visible_in(caught.value)
            task = asyncio.ensure_future(CALLS[name](client, tiny))
            await hanging.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as cancelled:
                await task
            assert "SECRET" not in visible_in(cancelled.value)
    assert "SECRET" not in caplog.text


@FAMILIES
async def test_batches_and_their_files(family: Any, at_sandbox: Any, photos: list[Path]) -> None:
    """The sandbox's files of results refuse any key, as presigned addresses do."""
    headers = {"X-Moondream-Auth": BATCH_KEY, "Authorization": f"Bearer {BATCH_KEY}"}
    async with family.AsyncClient(headers=headers, cookies={"a": "b"}) as keyed:
        client = at_sandbox(http_client=keyed)
        job = await client.batches.wait(await client.batches.create(photos, "caption"))
        outcomes = [outcome async for outcome in client.batches.results(job)]
        assert len(outcomes) == len(photos)
        assert all(outcome.ok for outcome in outcomes)
        assert (await keyed.get(job.batches[0].outputs[0].url)).status_code == 400


@FAMILIES
async def test_batches_over_a_transport(family: Any, at_sandbox: Any, photos: list[Path]) -> None:
    async with family.AsyncHTTPTransport() as transport:
        client = at_sandbox(http_client=transport)
        job = await client.batches.wait(await client.batches.create(photos, "caption"))
        assert all([outcome.ok async for outcome in client.batches.results(job)])


@FAMILIES
async def test_fal(family: Any, scene: bytes) -> None:
    with PooledSandbox(api_key="the-id:the-secret") as sandbox:
        async with family.AsyncClient() as own:
            async with AsyncFalClient("the-id:the-secret", base_url=sandbox.fal_url, http_client=own) as fal:
                assert (await fal.caption(scene)).caption
                assert await fal.upload(b"data")


@pytest.mark.parametrize("wrong", ["curl", 7, httpx.Client, httpx2.Client, httpx2.AsyncClient], ids=str)
def test_other_values_are_refused(wrong: Any) -> None:
    value = wrong() if wrong in (httpx.Client, httpx2.Client) else wrong
    with pytest.raises(md.ConfigurationError, match="of httpx or httpx2, not "):
        AsyncClient("k", http_client=value)


def test_httpx2_is_not_imported() -> None:
    """It is optional, and costs as much time to import as httpx."""
    code = (
        "import sys, httpx, moondream_async as md\n"
        "md.AsyncClient('k', http_client=httpx.MockTransport(print))\n"
        "assert 'httpx2' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
